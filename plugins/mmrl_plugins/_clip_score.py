"""What a text is worth that CLIP compares with pictures: formulas over cosines.

Comes in: the cosines of a text, and of texts that it competes with, with each picture.  Goes out: one number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


def _best(values: Numbers) -> Numbers:
    weights = np.zeros(len(values))
    weights[int(np.argmax(values))] = 1.0
    return weights


def _evenly(values: Numbers) -> Numbers:
    return np.full(len(values), 1.0 / len(values))


WEIGHTS: dict[str, Callable[[Numbers], Numbers]] = {
    "last": _evenly, "first": _evenly, "best": _best, "mean": _evenly,
}  # fmt: skip
"""How much each picture counts, by the argument ``images``: (pictures,) values -> (pictures,), adding up to 1.
Where ``last`` and ``first`` are asked for there is one picture."""


@dataclass(frozen=True)
class Fit:
    """How well a text fits the pictures.

    Attributes:
        value: what the plugin pays for it.
        cosine: with the pictures, each counting as it does in ``value``.
    """

    value: float
    cosine: float


def unit(cosines: Numbers) -> Numbers:
    """Map [-1, 1] to [0, 1]: (1 + c) / 2."""
    return (1.0 + cosines) / 2.0


def probabilities(cosines: Numbers, others: Numbers, scale: float) -> Numbers:
    """The probability of a text among others, for each picture: exp(s c) / (exp(s c) + sum_j exp(s o_j)).

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision"
    (arXiv 2103.00020), zero-shot prediction.

    Args:
        cosines: of the text; shape (pictures,).
        others: of the other texts; shape (pictures, others), others may be 0.
        scale: s, the model's logit scale.

    Returns:
        Probabilities in [0, 1]; shape (pictures,).
    """
    logits = scale * np.concatenate([cosines[:, None], others], axis=1)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights[:, 0] / weights.sum(axis=1)


def fit(values: Numbers, cosines: Numbers, images: str) -> Fit:
    """Join what the pictures say of a text, to six decimals (further ones change with the batch).

    Args:
        values: what each picture pays; shape (pictures,).
        cosines: with each picture; shape (pictures,).
        images: a key of ``WEIGHTS``.
    """
    weights = WEIGHTS[images](values)
    return Fit(round(float(weights @ values), 6), round(float(weights @ cosines), 6))
