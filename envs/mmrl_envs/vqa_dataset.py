"""Questions about your own images: from a file, a folder of images or a Hugging Face dataset.

Comes in: rows with images, a question and what is right.  Goes out: one row an episode, drawn by the seed: one answer,
or several where a second try or follow-up questions are asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mmrl.bridges.conversation import place_images
from mmrl.env import Env
from mmrl.errors import BadInput
from mmrl.image import MAX_PIXELS
from mmrl.image_rules import ImageRules
from mmrl.sample import Content, Message, Sample, Text
from mmrl_envs.vqa_columns import Columns
from mmrl_envs.vqa_grade import LISTS, Lists, Question, complaint, grade, is_right
from mmrl_envs.vqa_item import Item, Layout
from mmrl_envs.vqa_source import Source
from mmrl_envs.vqa_split import Part, Split
from mmrl_envs.vqa_table import ON_BAD_SAMPLE, checked

Info = dict[str, Any]


class VqaDataset(Env):
    """Questions about images from a file (``path``), a folder of images or a Hugging Face ``dataset``.

    An episode asks a row's question and then its follow-ups, each until it is answered rightly or the tries are used
    up.  A question that is done pays its last answer's score in [0, 1], divided by the number of questions; success is
    that every one was right (:mod:`mmrl_envs.vqa_grade` says what is).  The sample's reference, and the choices in its
    ``meta``, are those of the last question, which the last answer is for; ``meta["references"]`` has all of them.

    Args:
        path: a JSONL, JSON, CSV or Parquet file.
        folder: a folder of images: with a metadata file whose ``file_name`` is an image's path, or with sub-folders
            whose names are the answers (the prompt then asks).
        dataset: a dataset's name on the hub, or a folder.
        split: the split of ``dataset``.
        columns: which column is the ``question``, the ``answer``, the ``image``, the ``choices``, the ``system``
            message, the ``id`` and the ``followups``; images, choices and answers may be a list of columns.  A role
            that is left out is looked up under its own name (:data:`mmrl_envs.vqa_columns.USUAL`).
        prompt: the user message, filled in from ``{question}``, ``{choices}`` and any column; by default the question,
            and below it the choices.  Images stand where ``<image>`` says, else before it.
        system: the system message of rows without one.
        lists: whether a list of answers holds what several ``annotators`` said, graded by the VQA rule, or
            ``alternatives`` that are all right.
        tries: answers to each question, at least 1.
        feedback: what is said after a wrong answer that may be tried again.
        part: ``train`` or ``eval`` for one part of a split by the hash of the sample ids; ``all`` for both.
        eval_share: the share of samples in ``eval``, between 0 and 1.
        on_bad_sample: whether a row that cannot be used (a missing image, no answer) is an ``error`` before the first
            episode, or is left out and counted (``skip``).
        image_root: the folder that image paths start at and may not leave; by default that of the file, the folder or
            the dataset.
        allow_outside: whether image paths may leave it.
        allow_http: whether images are fetched from ``http(s)`` addresses.
        max_pixels: the most pixels (width x height) of an image.

    Attributes:
        skipped: how many rows were left out.

    Raises:
        BadInput: if an argument, the file, a row or an image is wrong, before the first episode.
    """

    def __init__(
        self,
        *,
        path: str | Path | None = None,
        folder: str | Path | None = None,
        dataset: str | None = None,
        split: str = "train",
        columns: Mapping[str, str | Sequence[str]] | None = None,
        prompt: str | None = None,
        system: str | None = None,
        lists: Lists = "annotators",
        tries: int = 1,
        feedback: str = "That is not right. Try again.",
        part: Part = "all",
        eval_share: float = 0.1,
        on_bad_sample: Literal["error", "skip"] = "error",
        image_root: str | Path | None = None,
        allow_outside: bool = False,
        allow_http: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        super().__init__()
        _one_of("lists", lists, LISTS)
        _one_of("on_bad_sample", on_bad_sample, ON_BAD_SAMPLE)
        if isinstance(tries, bool) or tries < 1:
            raise BadInput(f"vqa's tries is a whole number of at least 1, not {tries!r}")
        source = Source(_path(path), _path(folder), dataset, split)
        rules = ImageRules(_path(image_root) or source.root, allow_outside, allow_http, max_pixels)
        layout = Layout(Columns.of(columns), prompt, system, lists, rules.root)
        self._table = checked(source, layout, rules, on_bad_sample, Split(part, eval_share))
        self._lists: Lists = lists
        self._tries, self._feedback = tries, feedback
        self._open: tuple[Question, ...] = ()
        self._asked = 0
        self._left = tries
        self._right = True

    @property
    def skipped(self) -> int:
        """How many rows were left out because something is wrong with them."""
        return self._table.skipped

    @property
    def table_rows(self) -> int:
        """How many rows there are, in this part."""
        return len(self._table.sound)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Content, Info]:
        """Draw a row and ask its question."""
        super().reset(seed=seed)
        index, name = self._table.sound[int(self.np_random.integers(len(self._table.sound)))]
        number, item = self._table.item(index)
        sample = self._sample(number, f"{name}-row-{number}" if name in self._table.repeated else name, item)
        self._open, self._asked, self._left, self._right = item.questions, len(item.questions), self._tries, True
        return sample.messages[-1].content, {"sample": sample}

    def _sample(self, number: int, name: str, item: Item) -> Sample:
        head = (Message("system", (Text(item.system),)),) if item.system else ()
        asked = (*head, Message("user", (Text(item.questions[0].text),)))
        messages = place_images(asked, [self._table.image(source) for source in item.images], f"row {number}")
        last = item.questions[-1]
        meta: Info = {"row": number, "images": list(item.names)}
        if last.choices:
            meta["choices"] = list(last.choices)
        if len(item.questions) > 1:
            meta["references"] = [question.reference for question in item.questions]
        return Sample(name, messages, last.reference, meta)

    def step(self, action: str) -> tuple[Content, float, bool, bool, Info]:
        """Grade an answer; ask again, ask the next question, or end."""
        if not self._open:
            raise RuntimeError("call reset() before step(), and once more after the episode has ended")
        question = self._open[0]
        problem, score = complaint(question, action), grade(question, action, self._lists)
        right = is_right(question, score, self._lists)
        info: Info = {"valid_action": not problem, "action_cost": 1.0}
        said = (Text(problem),) if problem else ()
        self._left -= 1
        if not right and self._left:
            return (*said, Text(self._feedback)), 0.0, False, False, info
        self._open, self._left = self._open[1:], self._tries
        self._right = self._right and right
        reward = score / self._asked
        if self._open:
            return (*said, Text(self._open[0].text)), reward, False, False, info
        return said, reward, True, False, {**info, "success": self._right}

    def expert_action(self) -> str:
        """The right answer: of choices the letter, of several annotators what most said."""
        return self._open[0].best if self._open else super().expert_action()


def _one_of(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise BadInput(f"vqa's {name} is one of {', '.join(known)}, not {value!r}")


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
