"""How this program is called again: ``mmrl`` where the shell finds it by name, else its path."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

NAME = "mmrl"


def program() -> str:
    """The word that calls this very installation from the same shell.

    After ``make train`` the script lies in ``.venv/bin``, which no shell looks into until the environment is activated.
    """
    script = Path(sys.executable).with_name(NAME)
    found = shutil.which(NAME)
    if not script.is_file() or (found is not None and Path(found).samefile(script)):
        return NAME
    below = script.is_relative_to(Path.cwd())
    return os.path.relpath(script) if below else str(script)
