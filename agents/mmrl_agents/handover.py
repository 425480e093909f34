"""A run's weights on their way to servers: a folder that both see, with the newest version in it.

Comes in: the learner's model after an update.  Goes out: the folder of an adapter in PEFT's format, or of a whole model
in Hugging Face's, and the name that servers know it by.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mmrl.errors import RunStopped
from mmrl_agents.checkpoint import save_weights
from mmrl_agents.following import whole


@dataclass(frozen=True)
class Version:
    """Weights that servers may load.

    Attributes:
        name: no other weights ever had it.
        folder: where they lie, as an absolute path.
        number: how many updates they have seen.
    """

    name: str
    folder: Path
    number: int


class Handover:
    """Writes versions; of one run, by its first process.

    Args:
        folder: where; made if it is not there.
        label: begins the names; no other run, and no other start of this one, may have it.
        adapter: whether the adapter alone goes over, or all weights, an adapter merged in.
    """

    def __init__(self, folder: Path, label: str, adapter: bool) -> None:
        self.folder = folder.absolute()
        self.label = label
        self.adapter = adapter
        self._count = 0

    def next(self, number: int) -> Version:
        """A name and a place for weights that have seen so many updates; never the same twice."""
        name = f"{self.label}-{self._count}"
        self._count += 1
        return Version(name, self.folder / name, number)

    def write(self, made: Version, model: Any, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write a model's weights as they are now.

        Args:
            made: where.
            model: the learner's.
            weights: its weights, where the model holds but a part of them; None: as they stand in it.

        Raises:
            RunStopped: if the disk refuses.
        """
        try:
            made.folder.mkdir(parents=True)
            save_weights(made.folder, model if self.adapter else whole(model), weights)
        except OSError as error:
            raise RunStopped(f"cannot write weights for the servers to {made.folder}: {error.strerror or error}; what "
                             "was written is intact, and --resume goes on") from error  # fmt: skip

    def keep(self, version: Version) -> None:
        """Remove all other versions of this label."""
        for other in self.folder.glob(f"{self.label}-*"):
            if other != version.folder:
                shutil.rmtree(other, ignore_errors=True)

    def clear(self) -> None:
        """Remove all versions of this label, and the folder if nothing else is in it."""
        for other in self.folder.glob(f"{self.label}-*"):
            shutil.rmtree(other, ignore_errors=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
