"""TensorBoard scalars without torch: one event file a process, written in the process's own thread.

Comes in: numbers by name and step.  Goes out: ``events.out.tfevents.*`` files that TensorBoard reads.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class ScalarWriter:
    """Writes scalars to a new event file in ``folder``.

    Args:
        folder: made if it is missing.
        purge_step: TensorBoard forgets what earlier files hold from this step on (after a resume).
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names; the pid keeps two writers of one second apart.
        name = f"events.out.tfevents.{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}"
        self._records: Any = RecordWriter(open(folder / name, "wb"))  # noqa: SIM115 - closed by close()
        self._proto: Any = event_pb2  # generated code without types
        self._event(file_version="brain.Event:2")
        if purge_step is not None:
            start = self._proto.SessionLog(status=self._proto.SessionLog.START)
            self._event(step=purge_step, session_log=start)
        self._records.flush()

    def _event(self, **content: Any) -> None:
        self._records.write(self._proto.Event(wall_time=time.time(), **content).SerializeToString())

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write and flush the scalars of one step."""
        summary = {"value": [{"tag": tag, "simple_value": value} for tag, value in values.items()]}
        self._event(step=step, summary=summary)
        self._records.flush()

    def close(self) -> None:
        """Close the file."""
        self._records.close()
