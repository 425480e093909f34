"""The run store as the other processes of a run see it: they read, and one of them writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmrl.store import RunStore
from mmrl.trajectory import Trajectory


class ReadOnlyStore(RunStore):
    """A run's directory that another process writes; what this one is told to write, it leaves."""

    def log(self, metrics: Mapping[str, float | int | str | bool | None]) -> None:
        """Write nothing."""

    def write_rollouts(self, step: int, trajectories: Sequence[Trajectory],
                       advantages: Sequence[float | None]) -> Path:
        """Write nothing."""
        return self.rollouts_of(step)

    def write_eval(self, name: str, result: Mapping[str, Any]) -> Path:
        """Write nothing."""
        return self.root / "eval" / f"{name}.json"

    def checkpoint(self, step: int, write: Callable[[Path], None], keep: int = 2) -> Path:
        """Write nothing."""
        return self.root / "checkpoints" / f"step-{step}"

    def publish(self, name: str, write: Callable[[Path], None]) -> Path:
        """Write nothing."""
        return self.root / name

    def rewind(self, step: int) -> None:
        """Forget nothing."""
