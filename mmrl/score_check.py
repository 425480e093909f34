"""Whether what a plugin returned can count: finite, in the declared range, shares that add up."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from mmrl.plugin import RewardPlugin, as_score
from mmrl.score import Score

CLIPPED = "before_clip"
"""The key of ``info`` under which a clipped score keeps its own value."""


def checked(returned: Any, plugin: RewardPlugin, turns: int, clip: bool) -> Score:
    """The score, or a failed one that says what is wrong with it.

    Args:
        returned: what the plugin gave for one trajectory.
        plugin: for its range.
        turns: how many turns the trajectory has.
        clip: whether a value outside the range is moved to its nearer end instead of failing.
    """
    try:
        return _judged(as_score(returned), plugin, turns, clip)
    except Exception as error:  # a Score whose value or turns are no numbers among them
        return Score.failed(f"the plugin returned {returned!r:.80}: {error}")


def _judged(score: Score, plugin: RewardPlugin, turns: int, clip: bool) -> Score:
    if not score.valid:
        return score
    if score.turns is not None and (len(score.turns) != turns or not all(map(math.isfinite, score.turns))):
        return Score.failed(f"the values by turn are {score.turns}, not {turns} finite numbers")
    if not math.isfinite(score.value):
        return Score.failed(f"the score is {score.value}, not a finite number")
    if score.turns is not None and not plugin.potential and not _adds_up(score.turns, score.value):
        return Score.failed(f"the shares of the turns add up to {math.fsum(score.turns):g}, not to {score.value:g}")
    if plugin.potential:
        return score if score.turns is not None else Score.failed("a potential plugin gives a potential for every turn")
    low, high = plugin.range
    if low <= score.value <= high:
        return score
    if not clip:
        return Score.failed(f"the score {score.value:g} is outside the declared range [{low:g}, {high:g}]")
    info = {**score.info, CLIPPED: score.value}
    return dataclasses.replace(score, value=min(high, max(low, score.value)), info=info, turns=None)


def _adds_up(shares: tuple[float, ...], value: float) -> bool:
    return math.isclose(math.fsum(shares), value, rel_tol=1e-6, abs_tol=1e-6)
