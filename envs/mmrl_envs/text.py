"""Question and answer from a file or a Hugging Face dataset; arithmetic besides.

Comes in: rows and which of their columns hold the question and the answer.  Goes out: one row an episode,
drawn by the seed.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmrl.env import Env, EnvFamily, SingleTurnEnv
from mmrl.errors import BadInput
from mmrl.sample import Sample
from mmrl_envs.arithmetic import Arithmetic
from mmrl_envs.prompt import fill
from mmrl_envs.rows import Numbered, check_rows, read_dataset, read_file
from mmrl_envs.tables import shared, stamp

_ROLES = ("question", "answer", "system")
_EDGE = string.whitespace + ".,;:!?'\"`*()[]"


def normalise(answer: str) -> str:
    """Fold case, width and runs of white space, and drop punctuation at both ends."""
    return " ".join(unicodedata.normalize("NFKC", answer).casefold().split()).strip(_EDGE)


class TextTask(SingleTurnEnv):
    """Questions from a file (``path``) or from a Hugging Face dataset (``dataset``).

    Args:
        path: a JSONL, JSON, CSV or Parquet file.
        dataset: a dataset's name on the hub, or a folder.
        split: the split of ``dataset``.
        columns: which column is the ``question``, the ``answer`` and, optionally, the ``system`` message;
            a role that is left out is looked up under its own name.
        prompt: the user message; ``{column}`` and ``{question}`` are filled in from the row.
        system: the system message of rows without one.

    Raises:
        BadInput: if the file, a row, a column or the prompt is wrong, before the first episode.
    """

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        dataset: str | None = None,
        split: str = "train",
        columns: Mapping[str, str] | None = None,
        prompt: str = "{question}",
        system: str | None = None,
    ) -> None:
        super().__init__()
        self._columns = {"question": "question", "answer": "answer", **(columns or {})}
        if strange := sorted(set(self._columns) - set(_ROLES)):
            raise BadInput(f"text's columns maps {', '.join(_ROLES)}; '{strange[0]}' is none of them")
        self._prompt = prompt
        self._system = system
        self._source, self._rows = self._checked(path, dataset, split)

    def _checked(self, path: str | Path | None, dataset: str | None, split: str) -> tuple[str, Sequence[Numbered]]:
        """The rows, read and checked once for all copies of this environment; a changed file is read again."""

        def read() -> tuple[str, Sequence[Numbered]]:
            source, rows = _load(path, dataset, split)
            check_rows(source, rows, self._columns.values())
            for number, row in rows:
                self._fill(source, number, row)
            return source, rows

        key = ("text", str(path), stamp(path), dataset, split, *sorted(self._columns.items()), self._prompt)
        return shared(key, read)

    @property
    def table_rows(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def draw(self) -> Sample:
        """Draw a row."""
        number, row = self._rows[int(self.np_random.integers(len(self._rows)))]
        column = self._columns.get("system")
        system = self._system if column is None else str(row[column])
        answer = str(row[self._columns["answer"]])
        question = self._fill(self._source, number, row)
        return Sample.ask(question, answer, system=system, id=f"{self._source}-row-{number}", row=number)

    def grade(self, sample: Sample, response: str) -> float:
        """1 if the answer equals the reference, both normalised, else 0."""
        return float(normalise(response) == normalise(str(sample.reference)))

    def _fill(self, source: str, number: int, row: Mapping[str, Any]) -> str:
        """Fill the prompt in from the row's columns and its question."""
        try:
            return fill(self._prompt, row, {"question": row[self._columns["question"]]})
        except BadInput as error:
            raise BadInput(f"{source}: row {number} {error}") from error


def _load(path: str | Path | None, dataset: str | None, split: str) -> tuple[str, Sequence[Numbered]]:
    if path is not None and dataset is None:
        return str(path), read_file(Path(path))
    if dataset is not None and path is None:
        return f"{dataset}[{split}]", read_dataset(dataset, split)
    raise BadInput("environment 'text' needs one of path (a file of questions) and dataset (a Hugging Face name)")


def _make(env_id: str, **kwargs: Any) -> Env:
    return TASKS[env_id](**kwargs)


TASKS: dict[str, type[SingleTurnEnv]] = {"text": TextTask, "text/arithmetic": Arithmetic}
FAMILY = EnvFamily(ids=lambda: tuple(TASKS), make=_make, takes=TASKS.__getitem__)
