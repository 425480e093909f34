"""What the procedural questions about pictures share: one short question, one short answer, graded as VQA is.

Comes in: a way to draw a question of a kind and what it is about.  Goes out: an environment.

The answer is drawn first and evenly, and the question's words do not depend on it; only then a scene is made in which
it is right.  So whoever does not look scores one over the number of answers of a kind, whatever the question says.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from mmrl.env import SingleTurnEnv
from mmrl.errors import BadInput
from mmrl.sample import Image, Message, Sample, Text, Video
from mmrl.vqa_answer import normalise_answer

YES_NO = ("yes", "no")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its answer.

    Attributes:
        text: the question.
        answer: the right answer.
        answers: every answer that a question of this kind may have; each is equally likely.
    """

    text: str
    answer: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, what it is about, and further facts for the sample's ``meta``."""

    question: Question
    seen: Image | Video
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def pick(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    """Draw one of ``items``, each equally likely."""
    return items[int(rng.integers(len(items)))]


def check_difficulty(name: str, difficulty: int, levels: Mapping[int, Item]) -> Item:
    """The level of a difficulty.

    Raises:
        BadInput: if there is none.
    """
    if difficulty not in levels:
        raise BadInput(f"{name}'s difficulty is {min(levels)} to {max(levels)}, not {difficulty!r}")
    return levels[difficulty]


class PictureQuestion(SingleTurnEnv):
    """One question about one picture or video: define :meth:`ask`.

    Args:
        name: the environment's id, for messages and sample ids.
        difficulty: stored in the sample's ``meta``.
        kinds: the kinds of questions that are asked, each equally often; None takes ``usual``.
        usual: the kinds of this difficulty.
        known: every kind that there is.
        prompt: the wording; ``{question}`` stands for the question.
        system: an optional system message.
    """

    def __init__(
        self, name: str, *, difficulty: int, kinds: Sequence[str] | None, usual: Sequence[str], known: Sequence[str],
        prompt: str, system: str | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._name = name
        self._difficulty = difficulty
        self._kinds = tuple(usual if kinds is None else kinds)
        if not self._kinds or isinstance(kinds, str) or any(kind not in known for kind in self._kinds):
            raise BadInput(f"{name}'s kinds is a list of some of {', '.join(known)}, not {kinds!r}")
        if "{question}" not in prompt:
            raise BadInput(f"{name}'s prompt must contain {{question}}: {prompt!r}")
        self._prompt = prompt
        self._system = system

    @abstractmethod
    def ask(self, kind: str) -> Asked:
        """Draw a question of a kind with ``self.np_random``."""

    def draw(self) -> Sample:
        """Draw a kind, then a question of it; the picture stands before the words."""
        kind = pick(self.np_random, self._kinds)
        asked = self.ask(kind)
        question = asked.question
        digest = hashlib.sha256(f"{asked.seen.sha256} {question.text}".encode()).hexdigest()[:16]
        told = Message("user", (asked.seen, Text(self._prompt.replace("{question}", question.text))))
        head = (Message("system", (Text(self._system),)),) if self._system else ()
        meta = {
            "kind": kind, "difficulty": self._difficulty, "question": question.text,
            "answers": list(question.answers), **asked.facts,
        }  # fmt: skip
        return Sample(f"{self._name}-{digest}", (*head, told), question.answer, meta)

    def grade(self, sample: Sample, response: str) -> float:
        """1 if the answer is right after the official VQA normalisation, else 0."""
        return float(normalise_answer(response) == normalise_answer(str(sample.reference)))
