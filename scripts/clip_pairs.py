"""Pictures with what is true and false of them, for training and checking ``mmrl/tiny-clip``.

Comes in: seeds.  Goes out: pictures of ``vqa/shapes`` and ``vqa/minigrid`` with their question, every answer that it
may have, and a caption where the environment gives one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import mmrl

SOURCES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("vqa/shapes", {"difficulty": 1}), ("vqa/shapes", {"difficulty": 2}), ("vqa/shapes", {"difficulty": 3}),
    ("vqa/minigrid", {"difficulty": 1}), ("vqa/minigrid", {"difficulty": 2}),
)  # fmt: skip
"""The environments and their arguments."""
NAMES = tuple(f"{env_id} {kwargs['difficulty']}" for env_id, kwargs in SOURCES)
"""A short name for each of ``SOURCES``."""
TEMPLATE = "{query} {response}"
"""How a question and an answer become one text."""


@dataclass(frozen=True)
class Example:
    """A picture with what is true of it.

    Attributes:
        image: the picture.
        question: about it.
        answers: every answer that the question may have.
        right: which of them is right.
        caption: what is in the picture, or None.
    """

    image: mmrl.Image
    question: str
    answers: tuple[str, ...]
    right: int
    caption: str | None

    def said(self, answer: str) -> str:
        """The question with an answer."""
        return TEMPLATE.format(query=self.question, response=answer)

    @property
    def truth(self) -> str:
        """The question with the right answer."""
        return self.said(self.answers[self.right])


def examples(source: int, seeds: Iterable[int]) -> list[Example]:
    """The examples of one of ``SOURCES``, one a seed."""
    env_id, kwargs = SOURCES[source]
    env = mmrl.make(env_id, **kwargs)
    found: list[Example] = []
    for seed in seeds:
        sample: mmrl.Sample = env.reset(seed=seed)[1]["sample"]
        answers = tuple(sample.meta["answers"])
        found.append(Example(sample.messages[-1].images[0], sample.meta["question"], answers,
                             answers.index(sample.reference), sample.meta.get("caption")))  # fmt: skip
    env.close()
    return found


def draw(rng: np.random.Generator, counts: Sequence[int], first_seed: int, step: int) -> list[Example]:
    """The examples of one training step, shuffled; no two steps share a seed.

    Args:
        rng: for the order.
        counts: how many of each of ``SOURCES``.
        first_seed: of step 0.
        step: which step.
    """
    found: list[Example] = []
    for source, count in enumerate(counts):
        start = first_seed + step * count
        found += examples(source, range(start, start + count))
    return [found[int(i)] for i in rng.permutation(len(found))]


def matching_text(rng: np.random.Generator, example: Example) -> str:
    """A text that goes with the picture: mostly its caption, else the question with the right answer."""
    kind = rng.random()
    if example.caption is None or kind < 0.25:
        return example.truth
    return example.caption if kind < 0.75 else f"a photo of {example.caption}"


def wrong_texts(rng: np.random.Generator, example: Example, pool: Sequence[str]) -> list[str]:
    """The question with every other answer, with an answer to something else, and with two answers at once."""
    right = example.answers[example.right]
    wrong = [answer for answer in example.answers if answer != right]
    odd = pool[int(rng.integers(len(pool)))]
    first, second = (example.answers[int(i)] for i in rng.permutation(len(example.answers))[:2])
    extra = [f"{first} {second}", *([odd] if odd not in example.answers else [])]
    return [example.said(answer) for answer in (*wrong, *extra)]
