"""What a learner offers to the command line: a cheap check, and the training itself."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from mmrl.config_load import LoadedConfig
from mmrl.memory import MemoryPlan
from mmrl.report import Reporter


@runtime_checkable
class Trainer(Protocol):
    """Trains a policy; found by ``train_type`` in the entry point group ``mmrl.learners``."""

    def check(self, loaded: LoadedConfig) -> None:
        """Look for what can be wrong before anything is loaded.

        Raises:
            BadInput: naming the key, its place and what would be right.
        """
        ...

    def train(self, loaded: LoadedConfig, resume: bool, reporter: Reporter) -> Path:
        """Train; returns the run's folder.

        Raises:
            BadInput: if the run's folder exists (without ``resume``) or does not (with it).
            RunStopped: if the disk refuses; the last checkpoint is intact.
            KeyboardInterrupt: after Ctrl-C, everything written.
        """
        ...


@runtime_checkable
class Planner(Protocol):
    """What a learner offers beside that if it can say what memory a run will take (``mmrl plan``)."""

    def plan(self, loaded: LoadedConfig, limit: int | None) -> MemoryPlan:
        """Work out the memory of a checked configuration, without its weights.

        Args:
            loaded: the configuration.
            limit: bytes that the run should fit in; None: no advice.

        Raises:
            BadInput: naming the key, its place and what would be right.
        """
        ...
