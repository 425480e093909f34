"""What long work tells the person who waits: progress, metrics, lines; and whether they asked it to stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from mmrl.trajectory import Trajectory


@runtime_checkable
class Reporter(Protocol):
    """Shows progress.  The command line has a live one; :class:`Quiet` shows nothing."""

    @property
    def stopping(self) -> bool:
        """Whether the work should end after the step in progress (Ctrl-C)."""
        ...

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        ...

    def begin(self, what: str, total: int) -> None:
        """Start a bar of ``total`` episodes or batches."""
        ...

    def episode(self, trajectory: Trajectory) -> None:
        """Count one finished episode on the present bar."""
        ...

    def tick(self) -> None:
        """Count one piece of other work on the present bar."""
        ...

    def step(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Count one finished training step of ``total`` on the main bar."""
        ...


class Quiet:
    """Shows nothing and never stops."""

    stopping = False

    def say(self, line: str) -> None:
        """Drop the line."""

    def begin(self, what: str, total: int) -> None:
        """Show no bar."""

    def episode(self, trajectory: Trajectory) -> None:
        """Count nothing."""

    def tick(self) -> None:
        """Count nothing."""

    def step(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Show nothing."""
