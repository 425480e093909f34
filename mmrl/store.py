"""The run store: one directory a run, whole after a kill at any moment, readable by others.

Comes in: metrics, scored trajectories, evaluations, checkpoints.  Goes out::

    config.yaml   metrics.jsonl   tensorboard/   rollouts/step-000012.parquet   images/<sha256>.png
    eval/<name>.json   checkpoints/step-<n>/   best/   final/

``pandas.read_parquet("runs/x/rollouts")`` and ``datasets.load_dataset("parquet",
data_files="runs/x/rollouts/*.parquet")`` read all rollouts; :func:`read_trajectories` gives them back as objects.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmrl.errors import BadInput, RunStopped
from mmrl.files import atomic_dir, atomic_write, discard, is_ours, recover
from mmrl.image import Image
from mmrl.image_rules import ImageRules, locate
from mmrl.rows import from_row, jsonable, schema, to_row
from mmrl.scalars import ScalarWriter
from mmrl.trajectory import Trajectory

__all__ = ["RunStore", "atomic_write", "read_trajectories"]

_STEP = re.compile(r"step-(\d+)(?:\.parquet)?")


def _step_of(path: Path) -> int | None:
    match = _STEP.fullmatch(path.name)
    return int(match[1]) if match else None


def refuse_taken(root: Path) -> None:
    """Refuse a directory for a new run that holds something.

    Raises:
        BadInput: if ``root`` exists and is not empty.
        OSError: if it cannot be read.
    """
    if root.exists() and (not root.is_dir() or any(not is_ours(p.name) for p in root.iterdir())):
        raise BadInput(
            f"{root} exists and is not empty; continue that run with --resume, or give another "
            "--output-dir"
        )


class RunStore:
    """A run's directory.  Use :meth:`create` for a new run and :meth:`open` for an existing one.

    Attributes:
        root: the directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._metrics: io.FileIO | None = None
        self._scalars: ScalarWriter | None = None
        self._purge_step: int | None = None
        self._images = set[str]()

    @classmethod
    def create(cls, root: Path, config_yaml: str) -> RunStore:
        """Make the directory of a new run.

        Raises:
            BadInput: if ``root`` exists and is not empty, or cannot be made or written.
        """
        root = Path(root)
        try:
            refuse_taken(root)
            root.mkdir(parents=True, exist_ok=True)
            # The config comes last and whole: a directory is a run once it is there.
            atomic_write(root / "config.yaml", config_yaml.encode())
        except OSError as error:
            raise BadInput(f"cannot make the run directory {root}: {error.strerror or error}") from error
        return cls(root)

    @classmethod
    def open(cls, root: Path) -> RunStore:
        """Open a run, and tidy up what a killed process left in it.

        Raises:
            BadInput: if ``root`` is no run (it has no ``config.yaml``).
        """
        root = Path(root)
        if not (root / "config.yaml").is_file():
            raise BadInput(f"{root} is no run: it has no config.yaml")
        store = cls(root)
        with store._writing("the run directory"):
            for folder in (root, *(root / name for name in ("rollouts", "images", "eval", "checkpoints"))):
                recover(folder)
        return store

    @contextmanager
    def _writing(self, what: str) -> Generator[None]:
        try:
            yield
        except OSError as error:
            last = self.checkpoints()[-1:]
            intact = f"the last checkpoint is intact: {last[0][1]}" if last else "no checkpoint was written yet"
            raise RunStopped(f"cannot write {what} in {self.root}: {error.strerror or error}; {intact}") from error

    def log(self, metrics: Mapping[str, float | int | str | bool | None]) -> None:
        """Append one line to ``metrics.jsonl`` and the numbers to TensorBoard.

        A NaN or an infinity is written as null.

        Args:
            metrics: the values of one step; ``"step"`` among them.

        Raises:
            KeyError: if there is no ``"step"``.
            RunStopped: if it cannot be written; the file then ends with the line before.
        """
        step = int(metrics["step"] or 0)
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else jsonable(v) for k, v in metrics.items()}
        with self._writing("metrics.jsonl"):
            self._append((json.dumps(plain, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
        with self._writing("the TensorBoard scalars"):
            if self._scalars is None:
                self._scalars = ScalarWriter(self.root / "tensorboard", self._purge_step)
            numbers = {k: float(v) for k, v in plain.items() if k != "step" and isinstance(v, int | float)}
            self._scalars.write(step, numbers)

    def _append(self, line: bytes) -> None:
        if self._metrics is None:
            path = self.root / "metrics.jsonl"
            data = path.read_bytes() if path.exists() else b""
            self._metrics = io.FileIO(path, "ab")
            # What follows the last newline is a line that a kill tore.
            self._metrics.truncate(data.rfind(b"\n") + 1)
        size = os.fstat(self._metrics.fileno()).st_size
        try:
            if self._metrics.write(line) != len(line):
                raise OSError("the disk took only part of a line")
            os.fsync(self._metrics.fileno())
        except OSError:
            self._metrics.truncate(size)
            raise

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``, in order; a torn last line is left out."""
        path = self.root / "metrics.jsonl"
        data = path.read_bytes() if path.exists() else b""
        return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]

    def write_rollouts(self, step: int, trajectories: Sequence[Trajectory],
                       advantages: Sequence[float | None]) -> Path:
        """Write ``rollouts/step-<step>.parquet``, and the images that it names.

        Args:
            step: the training step.
            trajectories: one row each.
            advantages: one for each trajectory; None where it was not learned from.

        Raises:
            RunStopped: if it cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.rollouts_of(step)
        with self._writing(f"rollouts/{path.name}"):
            rows = [to_row(step, t, a, self._save_image) for t, a in zip(trajectories, advantages, strict=True)]
            buffer = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(rows, schema=schema()), buffer, compression="zstd")
            atomic_write(path, buffer.getvalue())
        return path

    def rollouts_of(self, step: int) -> Path:
        """The file of a step's rollouts."""
        return self.root / "rollouts" / f"step-{step:06d}.parquet"

    def _save_image(self, image: Image) -> str:
        name = f"images/{image.sha256}.png"
        if name not in self._images:  # a group's rows name the same image many times
            if not (self.root / name).exists():
                atomic_write(self.root / name, image.png())
            self._images.add(name)
        return name

    def write_eval(self, name: str, result: Mapping[str, Any]) -> Path:
        """Write ``eval/<name>.json``; :meth:`rewind` goes by the ``step`` in ``result``, if it has one.

        Raises:
            RunStopped: if it cannot be written.
        """
        path = self.root / "eval" / f"{name}.json"
        with self._writing(f"eval/{name}.json"):
            atomic_write(path, (json.dumps(jsonable(result), indent=2, ensure_ascii=False) + "\n").encode())
        return path

    def checkpoint(self, step: int, write: Callable[[Path], None], keep: int = 2) -> Path:
        """Write ``checkpoints/step-<step>/`` and remove older ones.

        Args:
            step: how many updates the checkpoint has seen.
            write: fills the (temporary) folder that it is given.
            keep: how many of the newest checkpoints stay, at least 1.

        Raises:
            RunStopped: if it cannot be written; the checkpoints before are then as they were.
        """
        path = self.root / "checkpoints" / f"step-{step}"
        with self._writing(f"checkpoints/{path.name}"):
            atomic_dir(path, write)
            older = [p for n, p in self.checkpoints() if n < step]
            for old in older[: max(0, len(older) - max(1, keep) + 1)]:
                discard(old)
        return path

    def publish(self, name: str, write: Callable[[Path], None]) -> Path:
        """Write the folder ``name`` (``best``, ``final``), in the place of an earlier one.

        Raises:
            RunStopped: if it cannot be written; the earlier one is then as it was.
        """
        path = self.root / name
        with self._writing(f"{name}/"):
            atomic_dir(path, write)
        return path

    def checkpoints(self) -> list[tuple[int, Path]]:
        """The complete checkpoints as (step, folder), oldest first."""
        folder = self.root / "checkpoints"
        found = [(n, p) for p in (folder.iterdir() if folder.is_dir() else ()) if (n := _step_of(p)) is not None]
        return sorted(found)

    def rewind(self, step: int) -> None:
        """Forget what happened after ``step``: metrics, rollouts, evaluations, checkpoints, TensorBoard scalars.

        Raises:
            RunStopped: if it cannot be written.
        """
        self.close()
        self._purge_step = step + 1
        with self._writing("the rewound run"):
            kept = [m for m in self.metrics() if m["step"] <= step]
            if (self.root / "metrics.jsonl").exists():
                lines = "".join(json.dumps(m, ensure_ascii=False) + "\n" for m in kept)
                atomic_write(self.root / "metrics.jsonl", lines.encode())
            for path in (self.root / "rollouts").glob("*.parquet"):
                if (_step_of(path) or 0) > step:
                    path.unlink()
            for path in (self.root / "eval").glob("*.json"):
                if (json.loads(path.read_text()).get("step") or 0) > step:
                    path.unlink()
            for _, path in [c for c in self.checkpoints() if c[0] > step]:
                discard(path)

    def close(self) -> None:
        """Close open files; the store may be used again afterwards."""
        if self._metrics is not None:
            self._metrics.close()
        if self._scalars is not None:
            self._scalars.close()
        self._metrics = self._scalars = None


def read_trajectories(path: Path) -> list[Trajectory]:
    """Read stored rollouts.

    Args:
        path: a run, a folder of rollouts, or one Parquet file.

    Returns:
        The trajectories, by step and in the order in which they were written; their images are read when needed.

    Raises:
        BadInput: naming the path, and the row or the columns that are wrong.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(f"no rollouts at {path}: there is no such file or folder")
    folder = path / "rollouts" if (path / "rollouts").is_dir() else path
    files = [path] if path.is_file() else sorted(p for p in folder.glob("*.parquet") if not is_ours(p.name))
    if not files:
        raise BadInput(f"no rollouts in {path}: it holds no .parquet file")
    return [t for file in files for t in _read_file(file)]


def _read_file(file: Path) -> list[Trajectory]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file).read()
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(f"{file}: not a Parquet file that can be read ({str(error).splitlines()[0]})") from error
    missing = [name for name in schema().names if name not in table.column_names]
    if missing:
        raise BadInput(f"{file}: lacks the columns {', '.join(missing)}; it has {', '.join(table.column_names)}")
    rules = ImageRules(file.resolve().parent.parent)  # a run from somebody else shows no file outside of it
    out: list[Trajectory] = []
    for i, row in enumerate(table.to_pylist()):
        try:
            out.append(from_row(row, lambda name: Image(locate(name, rules))))
        except BadInput as error:
            raise BadInput(f"{file}, row {i}: {error}") from error
    return out
