"""Statistics of scores: spread, correlation, ranks within groups.  Pure functions.

Comes in: arrays with one entry a rollout; NaN where a rollout has no score, and ``groups`` with a whole number for the
group of each.  Goes out: numbers; None where there is nothing to tell, such as the correlation with a constant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]
Ints = NDArray[np.int64]

DIGITS = 9
"""Values that agree to so many decimals are equal: 0.1 + 0.2 ties with 0.3."""


@dataclass(frozen=True)
class Summary:
    """A column of scores in a few numbers.

    Attributes:
        count: how many scores there are.
        mean: their mean; None without any.
        spread: their population standard deviation.
    """

    count: int
    mean: float | None
    spread: float | None


def summary(values: Reals) -> Summary:
    """Count, mean and population standard deviation of what is not NaN."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Summary(0, None, None)
    return Summary(len(known), float(known.mean()), float(known.std()))


def pearson(x: Reals, y: Reals) -> float | None:
    """Pearson's correlation over the rollouts that have both.

    ``r = sum (x - mean x)(y - mean y) / sqrt(sum (x - mean x)^2 * sum (y - mean y)^2)``

    Returns:
        r in [-1, 1]; None if fewer than two rollouts have both, or either is the same for all.
    """
    both = ~np.isnan(x) & ~np.isnan(y)
    a, b = x[both], y[both]
    if len(a) < 2 or _flat(a) or _flat(b):
        return None
    # Scaled first, so that no square overflows or vanishes.
    a, b = a - a.mean(), b - b.mean()
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    return _bounded(float(a @ b / np.sqrt((a @ a) * (b @ b))))


def ranks(values: Reals, groups: Ints) -> Reals:
    """Rank of each value in its group, from 1 for the highest; ties share the mean of their ranks; NaN has none."""
    out = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    if not len(known):
        return out
    v, g = np.round(values[known], DIGITS), groups[known]
    order = np.lexsort((-v, g))
    v, g = v[order], g[order]
    place = np.arange(len(v))
    new_group = np.r_[True, g[1:] != g[:-1]]
    new_value = new_group | np.r_[True, v[1:] != v[:-1]]
    tie = np.cumsum(new_value) - 1
    first = np.flatnonzero(new_value)
    last = np.r_[first[1:], len(v)] - 1
    start = place[new_group][np.cumsum(new_group) - 1]
    out[known[order]] = (first + last)[tie] / 2 - start + 1
    return out


def spearman(x: Reals, y: Reals) -> float | None:
    """Spearman's rank correlation over the rollouts that have both: Pearson's of their ranks."""
    both = ~np.isnan(x) & ~np.isnan(y)
    one = np.zeros(int(both.sum()), np.int64)
    return pearson(ranks(x[both], one), ranks(y[both], one))


def spearman_within(x: Reals, y: Reals, groups: Ints) -> tuple[float | None, int]:
    """Mean over the groups of Spearman's correlation of ``x`` and ``y``.

    Returns:
        The mean, and over how many groups: those in which neither is the same for all.
    """
    both = ~np.isnan(x) & ~np.isnan(y)
    g = _numbered(groups[both])
    a, b = _centred(ranks(x[both], g), g), _centred(ranks(y[both], g), g)
    xy, xx, yy = (np.bincount(g, p) for p in (a * b, a * a, b * b))
    told = (xx > 0) & (yy > 0)
    if not told.any():
        return None, 0
    return _bounded(float((xy[told] / np.sqrt(xx[told] * yy[told])).mean())), int(told.sum())


def no_spread(values: Reals, groups: Ints) -> tuple[float | None, int]:
    """Share of groups in which all values are the same, so that they tell no rollout from another.

    Returns:
        The share, and of how many groups: those with at least two values.
    """
    known = ~np.isnan(values)
    v, g = values[known], _numbered(groups[known])
    if not len(g):
        return None, 0
    low, high = np.full(g.max() + 1, np.inf), np.full(g.max() + 1, -np.inf)
    np.minimum.at(low, g, v)
    np.maximum.at(high, g, v)
    several = np.bincount(g) > 1
    if not several.any():
        return None, 0
    return float((np.round(high - low, DIGITS) == 0)[several].mean()), int(several.sum())


@dataclass(frozen=True)
class Moves:
    """Ranks within groups before and after, over the rollouts that have both.

    Attributes:
        old: rank of each rollout's old value, NaN where it lacks either.
        new: rank of its new value.
        order: the rollouts whose rank changed, most first; of equal changes, those whose value changed most.
    """

    old: Reals
    new: Reals
    order: Ints


def moves(old: Reals, new: Reals, groups: Ints) -> Moves:
    """Who changed places in its group when ``old`` became ``new``."""
    both = ~np.isnan(old) & ~np.isnan(new)
    before, after = (ranks(np.where(both, v, np.nan), groups) for v in (old, new))
    moved = np.flatnonzero(both & (before != after))
    change = np.abs(after - before)[moved]
    value = np.round(np.abs(new - old), DIGITS)[moved]
    return Moves(before, after, moved[np.lexsort((moved, -value, -change))])


def _flat(values: Reals) -> bool:
    return bool(np.round(values.max() - values.min(), DIGITS) == 0)


def _numbered(groups: Ints) -> Ints:
    """The groups, numbered from 0 without gaps."""
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def _centred(values: Reals, groups: Ints) -> Reals:
    """Values minus their group's mean."""
    if not len(values):
        return values
    return values - (np.bincount(groups, values) / np.bincount(groups))[groups]


def _bounded(r: float) -> float:
    """``r`` without what rounding puts outside of [-1, 1]."""
    return min(1.0, max(-1.0, r))
