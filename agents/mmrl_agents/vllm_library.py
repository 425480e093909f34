"""vLLM, found at run time: mmrl runs without it, and its environment may lack it.

Comes in: nothing.  Goes out: the module ``vllm``, set up to run inside this process, or one line that says what to
install.
"""

from __future__ import annotations

import os
import random
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from packaging.version import Version

from mmrl.errors import BadInput, one_line

MISSING = ("vLLM is not installed here; for an NVIDIA GPU: pip install 'mmrl[vllm]'; for a CPU: make vllm, which fills "
           "an environment of its own, .venv-vllm, with mmrl in it (.venv-vllm/bin/mmrl train ...)")  # fmt: skip
OLDEST = "0.32"
OWN_PROCESS = "VLLM_ENABLE_V1_MULTIPROCESSING"
"""The variable that gives the engine a process of its own (1) or runs its loop and its first worker in this one (0)."""
ENVIRONMENT = {
    OWN_PROCESS: "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
"""What vLLM reads from the environment as it is imported, where the user has not set it."""

INHERITED = ("LD_PRELOAD", "LOCAL_WORLD_SIZE", "NUMEXPR_MAX_THREADS")
"""What vLLM's CPU build sets there; every process that the run starts later would inherit it."""


def vllm_library(where: str = "") -> Any:
    """The module ``vllm``.

    Args:
        where: the place of the key that asked for it, for the message.

    Raises:
        BadInput: if it is not installed, does not import, or is too old.
    """
    prefix = f"{where}: " if where else ""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:  # a folder of that name on the way is no package
        raise BadInput(f"{prefix}{MISSING}")
    try:
        library = import_module("vllm")
    except (ImportError, OSError, RuntimeError) as error:
        raise BadInput(f"{prefix}vLLM does not import: {one_line(error)}") from error
    if Version(library.__version__) < Version(OLDEST):
        raise BadInput(f"{prefix}vLLM {library.__version__} is too old for mmrl, which needs {OLDEST} or newer")
    return library


def shares_process() -> bool:
    """Whether an engine of one worker runs in this process."""
    return os.environ.get(OWN_PROCESS) == "0"


@contextmanager
def process_untouched() -> Generator[None]:
    """Work of vLLM that leaves its marks on the process; afterwards what others read is as before.

    It seeds the global random numbers, takes ``torch.set_num_threads`` away, and sets variables for processes that it
    would start itself.
    """
    python, arrays, threads = random.getstate(), np.random.get_state(), torch.set_num_threads
    variables = {name: os.environ.get(name) for name in INHERITED}
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)
            torch.set_num_threads = threads
            for name, value in variables.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
