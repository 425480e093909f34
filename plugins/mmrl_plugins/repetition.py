"""How much an answer repeats itself.

Comes in: every answer's text.  Goes out: 0 for an answer without a repeated n-gram, towards ``-max_penalty`` for one
that says the same thing over and over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from mmrl.errors import BadInput
from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.trajectory import Turn
from mmrl_plugins._arguments import whole
from mmrl_plugins._words import runs

LONGEST_WORD = 32
"""A longer run of signs is no word; it is read by character, so that ``gogogogo...`` is seen to repeat."""


class Repetition(RewardPlugin):
    """Does the answer go round in circles?  In [-max_penalty, 0], the mean over turns; linear in the text's length.

    ``-max_penalty * (1 - different n-grams / all n-grams)``, case ignored, as in "Demystifying Long Chain-of-Thought
    Reasoning in LLMs" (arXiv 2502.03373) and Open-R1.  The n-grams are of words; in scripts without spaces, and in
    runs of more than 32 signs, of characters.  An answer of fewer words than ``ngram_size`` repeats nothing: 0.

    Failure modes: long honest text repeats some n-grams too (tables, code, enumerations), so that small sizes
    punish length a little; paraphrases and repetition from turn to turn are not seen.

    Args:
        ngram_size: how many words make an n-gram, at least 1.
        max_penalty: what an answer that is all repetition would lose, above 0 and at most 1.

    Raises:
        BadInput: for a size that is no whole number, or a penalty outside these bounds.
    """

    range: ClassVar[tuple[float, float]] = (-1.0, 0.0)

    def __init__(self, ngram_size: int = 3, max_penalty: float = 1.0) -> None:
        self.ngram_size = whole("ngram_size", ngram_size, 1)
        if not 0.0 < max_penalty <= 1.0:
            raise BadInput(f"max_penalty is above 0 and at most 1 (the weight can make more of it), not {max_penalty}")
        self.max_penalty = float(max_penalty)

    def compute(self, turn: Turn) -> Score:
        """Count the repeated n-grams in the answer of ``turn``."""
        share = repeated_share(list(_units(turn.response)), self.ngram_size)
        return Score(0.0 - self.max_penalty * share, info={"repeated": share})


def repeated_share(units: list[str], n: int) -> float:
    """The share of n-grams that have come before, in [0, 1)."""
    total = len(units) - n + 1
    if total < 1:
        return 0.0
    different = len(set(zip(*(units[i:] for i in range(n)), strict=False)))
    return 1.0 - different / total


def _units(text: str) -> Iterator[str]:
    for run in runs(text.casefold()):
        if len(run) > LONGEST_WORD:
            yield from run
        else:
            yield run
