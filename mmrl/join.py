"""How the scores of one trajectory become one reward: pure functions, the only place where rewards meet.

Weights are renormalised over the plugins that apply, gates come next, the suite's clip last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmrl.plugin_config import Gate
from mmrl.score import RewardRecord, Score


@dataclass(frozen=True)
class Term:
    """How one plugin's score counts.

    Attributes:
        weight: its weight now.
        gate: what a low score does to the whole, or None.
        optional: whether a failed score is left out like one that does not apply.
    """

    weight: float
    gate: Gate | None = None
    optional: bool = False


def join(scores: Mapping[str, Score], terms: Mapping[str, Term],
         clip: tuple[float, float] = (-math.inf, math.inf)) -> RewardRecord:
    """Join scores: ``sum(w_i s_i) * sum(|w|) / sum(|w| of those that apply)``, then gates, then the clip.

    A failed score makes the record invalid unless its term is optional.  Scores that do not apply are left out and
    the remaining weights scaled up, so that the record keeps its scale; if none applies, the record is invalid.

    Args:
        scores: one for each plugin.
        terms: how each counts.
        clip: lowest and highest reward.
    """
    applies = [n for n, s in scores.items() if s.valid]
    failed = any(s.status == "failed" and not terms[n].optional for n, s in scores.items())
    if failed or not applies:
        return RewardRecord(0.0, False, scores)
    every = {n: terms[n].weight for n in scores}
    if any(every.values()) and not any(every[n] for n in applies):
        return RewardRecord(0.0, False, scores)  # what applies has no weight: that is no reward of 0
    weights = renormalised(every, applies)
    parts = {n: weights[n] * scores[n].value for n in applies}
    closed, forced = _gate(scores, {n: terms[n].gate for n in applies})
    if closed is not None:
        parts = {n: min(p, 0.0) for n, p in parts.items()}
    if not all(map(math.isfinite, parts.values())):
        return RewardRecord(0.0, False, scores)
    value = math.fsum(parts.values()) if forced is None else forced
    value = min(clip[1], max(clip[0], value))
    return RewardRecord(value, True, scores, weights, closed, _turns(scores, weights, parts, value))


def _gate(scores: Mapping[str, Score], gates: Mapping[str, Gate | None]) -> tuple[str | None, float | None]:
    """The plugin whose gate counts, and the value it forces: of those that close, the one that forces the lowest."""
    shut = {n: g for n, g in gates.items() if g is not None and scores[n].value < g.below}
    forcing = {n: g.force for n, g in shut.items() if g.force is not None}
    if forcing:
        return min(forcing.items(), key=lambda pair: pair[1])
    return next(iter(shut), None), None


def renormalised(weights: Mapping[str, float], applies: Sequence[str]) -> dict[str, float]:
    """The weights of those that apply, scaled so that their absolute values sum to those of all."""
    total, present = sum(abs(w) for w in weights.values()), sum(abs(weights[n]) for n in applies)
    scale = total / present if present > 0 else 1.0
    if math.isinf(scale):  # weights too small to be scaled up in one go
        return {n: weights[n] / present * total for n in applies}
    return {n: scale * weights[n] for n in applies}


def _turns(scores: Mapping[str, Score], weights: Mapping[str, float], parts: Mapping[str, float],
           value: float) -> tuple[float, ...] | None:
    """Each turn's share of ``value``: every part spread as its plugin spread it, the rest at the last turn."""
    spread = {n: shares for n in parts if (shares := scores[n].turns)}
    if not spread:
        return None
    turns = [0.0] * max(map(len, spread.values()))
    for n, shares in spread.items():
        # What a gate has taken out of the value is taken out of its turns.
        weight = weights[n] if parts[n] == weights[n] * scores[n].value else 0.0
        for t, share in enumerate(shares):
            turns[t] += weight * share
    turns[-1] += value - math.fsum(turns)
    return tuple(turns)
