"""Mathematical equality in a process of its own.

SymPy can compute for ever on a short text (``9^{9^{9^9}}``) while it holds Python's lock, and ``math-verify`` guards
against it with signals, which work in a main thread only.  Rewards are computed in threads.  So the comparison runs
in a helper process, one for all plugins, that is ended when it takes too long and started afresh when needed.

Comes in: acceptable answers and an answer, as text.  Goes out: whether they are equal.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

START_TIMEOUT_S = 120.0
_MODULE = "mmrl_plugins._math_process"


class MathWorker:
    """The helper process, seen from outside; safe to use from many threads, which take turns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """The process' answer to ``request``.

        Raises:
            TimeoutError: after ``timeout_s``, not counting the time that the process takes to start.
            RuntimeError: if the process ended by itself.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = _start()
                self._exchange(self._process, "", START_TIMEOUT_S)
            return json.loads(self._exchange(self._process, json.dumps({**request, "limit_s": timeout_s}), timeout_s))

    def close(self) -> None:
        """End the process."""
        with self._lock:
            if self._process is not None:
                _end(self._process)
                self._process = None

    def _exchange(self, process: subprocess.Popen[str], line: str, timeout_s: float) -> str:
        """Write ``line``, if it is not empty, and read one line."""
        late = threading.Event()

        def kill() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(timeout_s, kill)
        timer.daemon = True
        timer.start()
        try:
            said = _write_and_read(process, line)
        finally:
            timer.cancel()
            timer.join()
        if late.is_set() or not said:
            _end(process)
            self._process = None
        if said:
            return said
        if late.is_set():
            raise TimeoutError(f"not decided within {timeout_s:g} s")
        raise RuntimeError(f"the helper process for mathematics ended with code {process.returncode}")


def _start() -> subprocess.Popen[str]:
    # -P and not the usual path: a file regex.py or math_verify.py beside the user's script is none of ours.
    path = os.pathsep.join(p for p in sys.path if p)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", _MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        encoding="utf-8", env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def _write_and_read(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if line:
            process.stdin.write(line + "\n")
            process.stdin.flush()
        return process.stdout.readline()
    except BrokenPipeError:
        return ""


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):  # over what was not written yet
                pipe.close()


WORKER = MathWorker()
atexit.register(WORKER.close)
