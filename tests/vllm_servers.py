"""Real vLLM servers for tests, started as a user starts them: by ``mmrl serve-sampler``."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

PATIENCE_S = 600.0
"""How long a server may take to start, on a machine with other work."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Served:
    """A server of a run's configuration; its output goes to a file beside it.

    Args:
        config: the configuration.
        port: where.
        environment: variables beside this process's own.
    """

    def __init__(self, config: Path, port: int, **environment: str) -> None:
        self.config, self.port = config, port
        self.url = f"http://127.0.0.1:{port}"
        self._environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", **environment}
        self.start()

    def start(self) -> None:
        """Start it; returns at once."""
        words = [sys.executable, "-m", "mmrl", "serve-sampler", str(self.config), "--port", str(self.port)]
        self.log = self.config.with_suffix(f".{self.port}.log")
        with self.log.open("w") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, env=self._environment,
                                             cwd=Path(__file__).parents[1], start_new_session=True)  # fmt: skip

    def wait(self) -> None:
        """Wait until it answers; fails with the end of its output if it does not."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and self._process.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.25)
        self.kill()
        pytest.fail(f"the server did not start:\n{self.log.read_text()[-4000:]}")

    def kill(self) -> None:
        """Kill it and all of its processes, as a machine that fails does."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
