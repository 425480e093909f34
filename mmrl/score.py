"""What a reward plugin says of a rollout, and what a suite of them says together (frozen data)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "not_applicable", "failed"]


@dataclass(frozen=True)
class Score:
    """One plugin's answer for one trajectory.

    Attributes:
        value: the score, within the plugin's declared range; 0.0 and meaningless unless ``valid``.
        valid: whether ``value`` counts.
        info: why, in JSON-able values (shown to people).
        status: ``ok``; ``not_applicable`` (left out, weights renormalised) or ``failed`` (the trajectory is
            masked out of its group's statistics and of the loss).
        turns: optional share of each turn in ``value``; they add up to it.
    """

    value: float
    valid: bool = True
    info: Mapping[str, Any] = field(default_factory=dict)
    status: Status = "ok"
    turns: tuple[float, ...] | None = None

    @classmethod
    def not_applicable(cls, **info: Any) -> Score:
        """The question makes no sense for this trajectory."""
        return cls(0.0, False, info, "not_applicable")

    @classmethod
    def failed(cls, error: str) -> Score:
        """The plugin could not answer; ``error`` says why."""
        return cls(0.0, False, {"error": error}, "failed")


@dataclass(frozen=True)
class RewardRecord:
    """A suite's answer for one trajectory.

    Attributes:
        value: the weighted sum over the plugins that apply; 0.0 and meaningless unless ``valid``.
        valid: False if any plugin failed or none applied.
        scores: plugin instance name -> its score.
        weights: plugin instance name -> the weight that its score had in ``value``, renormalised over those that
            apply; empty unless ``valid``.
        gate: the plugin whose gate closed and changed ``value``, or None.
        turns: share of each turn in ``value``, if any plugin gave shares; what others gave counts for the last turn.
    """

    value: float
    valid: bool
    scores: Mapping[str, Score]
    weights: Mapping[str, float] = field(default_factory=dict)
    gate: str | None = None
    turns: tuple[float, ...] | None = None
