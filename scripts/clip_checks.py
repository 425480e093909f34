"""How well a CLIP model knows the pictures of ``vqa/*``, measured by the plugin ``clip_similarity``.

Comes in: a model and seeds.  Goes out: how often the right caption comes first of eight, how often the right answer
comes first of all that its question may have, and how well the score tells right answers from wrong ones.

    python scripts/clip_checks.py            # the templates compared, on the embedded model
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from clip_pairs import NAMES, SOURCES, TEMPLATE, Example, examples

import mmrl
from mmrl_plugins.clip_similarity import ClipSimilarity

CHOICES = 8
FIRST_SEED = 31_000_000
"""Pictures that nothing was learned from, and that nothing was chosen by."""
TEMPLATES = ("{query} {response}", "{response}", "a photo of {response}", "{response} {query}", "{query} a {response}",
             "question: {query} answer: {response}")  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """What was measured on the pictures of one source.

    Attributes:
        captions: the share of pictures whose own caption scores highest of eight; None without captions.
        answers: the share of pictures whose right answer scores highest of all answers to their question.
        auc: the probability that a right answer scores above a wrong one, pictures and questions mixed.
        calibrated: the same, of the probability among all answers that any question here may have.
    """

    captions: float | None
    answers: float
    auc: float
    calibrated: float

    @property
    def caption_cell(self) -> str:
        """The first figure in words."""
        return "-" if self.captions is None else f"{self.captions:.1%}"

    def __str__(self) -> str:
        return (f"captions {self.caption_cell}, answers {self.answers:.1%}, AUC {self.auc:.3f}, "
                f"with negatives {self.calibrated:.3f}")  # fmt: skip


def rollout(example: Example, answer: str) -> mmrl.Trajectory:
    """An episode in which the policy gives ``answer``."""
    asked = (example.image, mmrl.Text(example.question))
    sample = mmrl.Sample.ask(asked, example.answers[example.right])
    return mmrl.Trajectory("t", "vqa", 0, "g", sample, (mmrl.Turn(asked, answer),), True, False)


def scores(model: str, text: str, asked: Sequence[tuple[Example, str]], rivals: Sequence[str] = ()) -> list[float]:
    """How well each picture and its text fit; with ``rivals`` the probability among answers."""
    plugin = ClipSimilarity(model=model, text=text, negatives=rivals, device="cpu")
    return [score.value for score in plugin.score([rollout(example, answer) for example, answer in asked])]


def captions_first(model: str, shown: Sequence[Example], seed: int = 0) -> float:
    """The share of pictures whose own caption scores above those of seven other scenes of the same source."""
    rng = np.random.default_rng(seed)
    asked: list[tuple[Example, str]] = []
    for example in shown:
        others = sorted({e.caption for e in shown if e.caption and e.caption != example.caption})
        drawn = [others[int(i)] for i in rng.permutation(len(others))[: CHOICES - 1]]
        asked += [(example, text) for text in (example.caption or "", *drawn)]
    found = np.array(scores(model, "response", asked)).reshape(len(shown), CHOICES)
    return float((found[:, 0] > found[:, 1:].max(axis=1)).mean())


def answers_first(model: str, shown: Sequence[Example], text: str = TEMPLATE,
                  rivals: Sequence[str] = ()) -> tuple[float, float]:  # fmt: skip
    """The share of pictures whose right answer scores highest, and the AUC of right against wrong answers."""
    found = iter(scores(model, text, [(example, answer) for example in shown for answer in example.answers], rivals))
    first: list[bool] = []
    right: list[float] = []
    wrong: list[float] = []
    for example in shown:
        values = [next(found) for _ in example.answers]
        true = values.pop(example.right)
        first.append(true > max(values))
        right.append(true)
        wrong += values
    return float(np.mean(first)), auc(np.array(right), np.array(wrong))


def auc(right: np.ndarray, wrong: np.ndarray) -> float:
    """The probability that one of ``right`` is above one of ``wrong``, equal ones counting half."""
    above = (right[:, None] > wrong[None, :]).mean()
    return float(above + (right[:, None] == wrong[None, :]).mean() / 2)


def check(model: str, first_seed: int, count: int) -> list[Figures]:
    """The figures on ``count`` pictures of each of ``SOURCES``."""
    found: list[Figures] = []
    for source in range(len(SOURCES)):
        shown = examples(source, range(first_seed, first_seed + count))
        captions = captions_first(model, shown) if shown[0].caption else None
        first, area = answers_first(model, shown)
        calibrated = answers_first(model, shown, TEMPLATE, every_answer(shown))[1]
        found.append(Figures(captions, first, area, calibrated))
    return found


def every_answer(shown: Sequence[Example]) -> list[str]:
    """What stands in ``negatives`` so that an answer competes with every other one."""
    answers = sorted({answer for example in shown for answer in example.answers})
    return [TEMPLATE.replace("{response}", answer) for answer in answers]


def main() -> None:
    """Print the figures of every source, and those of every template."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--count", type=int, default=500)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.count)
    for name, figures in zip(NAMES, check(options.model, options.first_seed, options.count), strict=True):
        print(f"{name:15} {figures}")
    shown = [examples(source, seeds) for source in range(len(SOURCES))]
    for text in TEMPLATES:
        found = [answers_first(options.model, each, text) for each in shown]
        cells = (f"{name} {first:.1%} {area:.3f}" for name, (first, area) in zip(NAMES, found, strict=True))
        print(f"{text:45} {', '.join(cells)}")


if __name__ == "__main__":
    main()
