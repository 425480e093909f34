"""Rows of a question file or a Hugging Face dataset.

Comes in: a path or a dataset's name.  Goes out: numbered rows as plain dictionaries, or one line that says
which row is wrong and what it holds.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from mmrl.errors import BadInput

Numbered = tuple[int, Any]
"""A row and its number: the line in a JSONL file, else counted from 1.  :func:`check_rows` makes it a mapping."""


def _jsonl(path: Path) -> Iterable[Numbered]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise BadInput(f"{path}: row {number} is no JSON: {error}") from error


def _json(path: Path) -> Iterable[Numbered]:
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}: no JSON: {error}") from error
    if not isinstance(data, list):
        raise BadInput(f"{path}: a list of rows is needed, the file holds a {type(data).__name__}")
    return enumerate(data, 1)


def _csv(path: Path) -> Iterable[Numbered]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        # The rest of a row that is too long gets a name, so that the message about it can list the columns.
        yield from enumerate(csv.DictReader(lines, restkey="(too many cells)"), 1)


def _parquet(path: Path) -> Iterable[Numbered]:
    from pyarrow import ArrowInvalid, parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except ArrowInvalid as error:
        raise BadInput(f"{path}: no Parquet: {error}") from error
    return enumerate(rows, 1)


READERS: dict[str, Callable[[Path], Iterable[Numbered]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}


def read_file(path: Path) -> list[Numbered]:
    """Read every row of a JSONL, JSON (a list), CSV or Parquet file.

    Raises:
        BadInput: if the file is missing, of another kind, broken, or empty; naming the row if one is broken.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise BadInput(f"{path}: rows are read from {', '.join(READERS)}, not '{path.suffix}'")
    try:
        rows = list(reader(path))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error
    if not rows:
        raise BadInput(f"{path}: holds no rows")
    return rows


class DatasetRows(Sequence[Numbered]):
    """The rows of a Hugging Face dataset, read from its file when they are asked for.

    Nothing is decoded: an image is a mapping with ``bytes`` and ``path``.  A class label is its name.

    Args:
        data: a ``datasets.Dataset``.
    """

    BLOCK = 64
    """Rows that are read together in a loop; with images in them they take memory."""

    def __init__(self, data: Any) -> None:
        import datasets

        self._data = data.with_format("arrow")
        self._labels = {name: f.names for name, f in data.features.items() if isinstance(f, datasets.ClassLabel)}

    def __len__(self) -> int:
        return len(self._data)

    @overload
    def __getitem__(self, index: int) -> Numbered: ...
    @overload
    def __getitem__(self, index: slice) -> list[Numbered]: ...
    def __getitem__(self, index: int | slice) -> Numbered | list[Numbered]:
        """The row at ``index``; rows are numbered from 1."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        return at + 1, self._plain(self._data[at].to_pylist()[0])

    def __iter__(self) -> Iterator[Numbered]:
        for start in range(0, len(self), self.BLOCK):
            block = self._data[start : start + self.BLOCK].to_pylist()
            yield from enumerate(map(self._plain, block), start + 1)

    def _plain(self, row: dict[str, Any]) -> dict[str, Any]:
        for column, names in self._labels.items():
            label = row[column]
            row[column] = names[label] if label is not None and label >= 0 else None
        return row


def read_dataset(name: str, split: str) -> DatasetRows:
    """Open one split of a Hugging Face dataset: a name on the hub, a folder of files, or a saved one.

    Raises:
        BadInput: if it cannot be loaded (offline, no such name or split), or is empty.
    """
    import datasets

    try:
        if (Path(name) / "state.json").is_file() or (Path(name) / "dataset_dict.json").is_file():
            loaded: Any = datasets.load_from_disk(name)
            loaded = loaded[split] if isinstance(loaded, datasets.DatasetDict) else loaded
        else:
            loaded = datasets.load_dataset(name, split=split)
    except Exception as error:  # the library raises its own, the hub's and the network's errors
        raise BadInput(f"dataset '{name}', split '{split}': {type(error).__name__}: {error}") from error
    if not len(loaded):
        raise BadInput(f"dataset '{name}', split '{split}': holds no rows")
    return DatasetRows(loaded)


def check_rows(source: str, rows: Sequence[Numbered], columns: Iterable[str]) -> None:
    """Check that every row is an object with a text or number in each of ``columns``.

    Raises:
        BadInput: naming the source, the row's number, the column and the columns present.
    """
    wanted = tuple(columns)
    for number, row in rows:
        if not isinstance(row, Mapping):
            raise BadInput(f"{source}: row {number} is a {type(row).__name__}, not an object with columns")
        for column in wanted:
            present = f"columns present: {', '.join(str(name) for name in row) or 'none'}"
            if column not in row:
                remedy = "name the right one in columns"
                raise BadInput(f"{source}: row {number} has no column '{column}'; {present}; {remedy}")
            if not isinstance(value := row[column], str | int | float):
                holds = "nothing" if value is None else f"a {type(value).__name__}"
                raise BadInput(f"{source}: row {number}: '{column}' holds {holds}, not text or a number; {present}")
