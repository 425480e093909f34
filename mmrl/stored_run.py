"""A stored run, to be looked at again step by step; nothing in it is changed.

Comes in: a run's folder, its rollouts folder or one Parquet file.  Goes out: which steps there are, the rollouts of
each, and where the run stood then.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml
from numpy.typing import NDArray

from mmrl.errors import BadInput, nearest
from mmrl.files import is_ours
from mmrl.run_state import RunState, newest
from mmrl.store import RunStore, read_trajectories
from mmrl.trajectory import Trajectory

NAMED = 5
WOULD_DO = "give the folder of a run, its rollouts folder or one .parquet file of it"


@dataclass(frozen=True)
class StoredRun:
    """The rollouts of a run.  Use :meth:`find`.

    Attributes:
        root: the run's folder.
        files: Parquet file -> the step of each of its rows.
    """

    root: Path
    files: Mapping[Path, NDArray[np.int64]]

    @classmethod
    def find(cls, path: Path) -> StoredRun:
        """Find the run that ``path`` belongs to, and the steps of the rollouts that it names.

        Raises:
            BadInput: if there is none, or it has no rollouts.
        """
        if importlib.util.find_spec("pyarrow") is None:
            raise BadInput("reading rollouts needs a package that is missing; install it with: pip install pyarrow")
        if not path.exists():
            beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
            raise BadInput(f"no run {path}: no such file or folder{nearest(path.name, beside)}; {WOULD_DO}")
        run = cls._of_file(path) if path.is_file() else cls._of_folder(path)
        if not run.steps:
            raise BadInput(f"{path} has no rollouts: its .parquet file is empty; train or collect some")
        return run

    @classmethod
    def _of_file(cls, path: Path) -> StoredRun:
        return cls(path.resolve().parent.parent, {path: _steps_of(path)})

    @classmethod
    def _of_folder(cls, path: Path) -> StoredRun:
        inner = path / "rollouts"
        folder = inner if inner.is_dir() else path
        files = sorted(p for p in folder.glob("*.parquet") if not is_ours(p.name))
        is_run = inner.is_dir() or (path / "config.yaml").is_file()
        if not files and is_run:
            raise BadInput(f"run {path} has no rollouts: there is no .parquet file in {inner}; train or collect some")
        if not files:
            runs = [str(p) for p in sorted(path.iterdir()) if (p / "rollouts").is_dir()]
            held = f"; it holds {', '.join(runs[:NAMED])}{' ...' if runs[NAMED:] else ''}" if runs else ""
            raise BadInput(f"{path} is no run: it has neither config.yaml nor rollouts/{held}; {WOULD_DO}")
        return cls(path if is_run else path.resolve().parent, {f: _steps_of(f) for f in files})

    @cached_property
    def steps(self) -> list[int]:
        """The steps that have rollouts, in order."""
        return sorted({int(s) for of_rows in self.files.values() for s in np.unique(of_rows)})

    def count(self, steps: Collection[int]) -> int:
        """How many rollouts the given steps have."""
        return sum(int(np.isin(of_rows, list(steps)).sum()) for of_rows in self.files.values())

    def read(self, steps: Collection[int]) -> Iterator[tuple[int, list[Trajectory]]]:
        """The rollouts of the given steps, one step after the other; only one file is in memory at a time.

        Raises:
            BadInput: naming the file and what is wrong with it.
        """
        for file, of_rows in self.files.items():
            chosen = [int(s) for s in np.unique(of_rows) if int(s) in steps]
            if chosen:
                trajectories = read_trajectories(file)
                for step in chosen:
                    yield step, [t for t, s in zip(trajectories, of_rows, strict=True) if s == step]

    def state(self, step: int) -> RunState:
        """Where the run stood at a step, as the trainer told its plugins then.

        The share of the run that was over is ``(step - 1) / training_args.max_steps``, with the last stored step in
        the place of a ``max_steps`` that the run does not set.  The metrics are the newest before it.
        """
        planned = self.training_args.get("max_steps")
        steps = planned if isinstance(planned, int) and planned > 0 else self.steps[-1]
        return RunState(step, min(1.0, max(0.0, (step - 1) / max(steps, 1))), self._metrics.get(step - 1, {}))

    @property
    def config(self) -> Path:
        """The run's own configuration, which may be missing."""
        return self.root / "config.yaml"

    @cached_property
    def stored(self) -> Mapping[str, Any]:
        """What ``config.yaml`` holds, as plain data; empty if it is missing or no mapping."""
        try:
            held = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return {}
        return cast("dict[str, Any]", held) if isinstance(held, dict) else {}

    @property
    def training_args(self) -> Mapping[str, Any]:
        """The run's ``training_args``, as plain data."""
        args = self.stored.get("training_args")
        return cast("dict[str, Any]", args) if isinstance(args, dict) else {}

    @cached_property
    def _metrics(self) -> dict[int, dict[str, float]]:
        try:
            lines = RunStore(self.root).metrics()
        except (OSError, ValueError) as error:
            raise BadInput(f"{self.root / 'metrics.jsonl'}: cannot be read: {error}") from error
        known: dict[int, dict[str, float]] = {}
        so_far: dict[str, float] = {}
        for line in lines:
            so_far = newest(so_far, line)
            if isinstance(line.get("step"), int):
                known[int(line["step"])] = so_far
        return known


def _steps_of(file: Path) -> NDArray[np.int64]:
    """The step of each row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file).read(columns=["step"])
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(f"{file}: not a Parquet file that can be read ({str(error).splitlines()[0]})") from error
    column = table.column("step") if "step" in table.column_names else None
    if column is None or column.null_count or not pa.types.is_integer(column.type):
        raise BadInput(f"{file}: no rollouts as mmrl stores them: no column step of whole numbers; {WOULD_DO}")
    return column.to_numpy().astype(np.int64)
