"""Numbers that describe a batch of rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import pstdev

from mmrl.trajectory import Trajectory


def rollout_metrics(trajectories: Sequence[Trajectory], advantages: Sequence[float | None]) -> dict[str, float]:
    """Means over the batch.

    Returns:
        ``reward`` and ``reward/<plugin>`` (means where valid), ``spread/<plugin>`` (standard deviation of its scores),
        ``weight/<plugin>`` (mean weight in the reward), ``failed/<plugin>`` and ``failed_scores`` (counts), ``gated``
        (rewards that a gate changed), ``success``, ``turns``, ``invalid_actions`` (share of actions), ``errors``
        (count), ``invalid`` (trajectories not learned from),
        ``no_spread`` (share of valid trajectories with advantage 0), ``cut_turns`` (share of turns cut by their
        token limit).
    """
    turns = [turn for t in trajectories for turn in t.turns]
    rewards = [t.record.value for t in trajectories if t.valid and t.record is not None]
    known = [a for a in advantages if a is not None]
    out = {
        "reward": _mean(rewards),
        "success": _mean([float(t.success) for t in trajectories]),
        "turns": len(turns) / max(len(trajectories), 1),
        "invalid_actions": _mean([float(not t.info.get("valid_action", True)) for t in turns]),
        "errors": float(sum(t.error is not None for t in trajectories)),
        "invalid": float(sum(a is None for a in advantages)),
        "no_spread": _mean([float(a == 0) for a in known]),
        "cut_turns": _mean([float(t.finish_reason == "length") for t in turns]),
    }
    scores = [(n, s) for t in trajectories if t.record is not None for n, s in t.record.scores.items()]
    out["failed_scores"] = float(sum(s.status == "failed" for _, s in scores))
    out["gated"] = float(sum(t.record is not None and t.record.gate is not None for t in trajectories))
    for name in dict.fromkeys(n for n, _ in scores):
        values = [s.value for n, s in scores if n == name and s.valid]
        if values:
            out[f"reward/{name}"] = _mean(values)
            out[f"spread/{name}"] = pstdev(values)
        out[f"failed/{name}"] = float(sum(n == name and s.status == "failed" for n, s in scores))
        weights = [t.record.weights[name] for t in trajectories if t.record and name in t.record.weights]
        out[f"weight/{name}"] = _mean(weights)
    return out


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values)) if values else 0.0
