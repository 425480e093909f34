"""Keep the repository readable and light: lengths of files and functions, sizes of what git carries.

Comes in: the working tree.  Goes out: one line a finding, and exit code 1 if a limit is broken.

    python scripts/check_size.py
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("mmrl", "envs", "plugins", "agents")
MAX_LINES = 400
MAX_FUNCTION, AIM_FUNCTION = 60, 40
MAX_FILE, MAX_ASSETS = 15_000_000, 40_000_000
"""Bytes of one file in git, and of all files under assets/."""


def functions(source: str) -> Iterator[tuple[str, int, int]]:
    """The functions in ``source``: name, first line, number of lines (the docstring's too, decorators not)."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1


def check_source(path: Path) -> tuple[list[str], list[str]]:
    """Errors and warnings about one Python file."""
    name, source = path.relative_to(ROOT), path.read_text(encoding="utf-8")
    lines = len(source.splitlines())
    errors = [f"{name}: {lines} lines, at most {MAX_LINES}"] if lines > MAX_LINES else []
    warnings: list[str] = []
    for function, line, length in functions(source):
        if length > MAX_FUNCTION:
            errors.append(f"{name}:{line}: {function} has {length} lines, at most {MAX_FUNCTION}")
        elif length > AIM_FUNCTION:
            warnings.append(f"{name}:{line}: {function} has {length} lines, aim for {AIM_FUNCTION}")
    return errors, warnings


def tracked() -> list[Path]:
    """The files that git tracks and that are there, and those that the next ``git add`` would take."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in dict.fromkeys(names.split("\0")) if name and (ROOT / name).is_file()]


def check_bytes(files: list[Path]) -> list[str]:
    """Errors about the sizes of ``files``."""
    sizes = {path.relative_to(ROOT): path.stat().st_size for path in files}
    errors = [f"{name}: {size / 1e6:.1f} MB, at most {MAX_FILE / 1e6:.0f}" for name, size in sizes.items()
              if size > MAX_FILE]  # fmt: skip
    assets = sum(size for name, size in sizes.items() if name.parts[0] == "assets")
    if assets > MAX_ASSETS:
        errors.append(f"assets: {assets / 1e6:.1f} MB in all, at most {MAX_ASSETS / 1e6:.0f}")
    return errors


def main() -> int:
    """Check everything; the exit code."""
    files = tracked()
    sources = [p for p in files if p.suffix == ".py" and p.relative_to(ROOT).parts[0] in SOURCES]
    found = [check_source(path) for path in sources]
    errors = [e for errors, _ in found for e in errors] + check_bytes(files)
    for warning in (w for _, warnings in found for w in warnings):
        print(f"warning: {warning}")
    for error in errors:
        print(f"error: {error}")
    print(f"sizes: {len(sources)} source files, {len(files)} files in git, {len(errors)} over a limit")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
