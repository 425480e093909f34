"""Numbers that describe a batch of rollouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import pstdev

from mmrl.trajectory import Trajectory
from mmrl_agents.credit import overlong
from mmrl_agents.peak_memory import peak_bytes


def rollout_metrics(trajectories: Sequence[Trajectory], advantages: Sequence[float | None]) -> dict[str, float]:
    """Means over the batch.

    Returns:
        ``reward`` and ``reward/<plugin>`` (means where valid), ``spread/<plugin>`` (standard deviation of its scores),
        ``weight/<plugin>`` (mean weight in the reward), ``failed/<plugin>`` and ``failed_scores`` (counts), ``gated``
        (rewards that a gate changed), ``success``, ``turns``, ``invalid_actions`` (share of actions), ``errors``
        (count), ``invalid`` (trajectories not learned from),
        ``no_spread`` (share of those learned from with advantage 0), ``cut_turns`` (share of turns cut by their
        token limit), ``overlong`` (trajectories that ended so); and what :func:`group_metrics` and
        :func:`token_metrics` give.
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
        "overlong": float(sum(overlong(t) for t in trajectories)),
        **group_metrics(trajectories),
        **token_metrics(trajectories),
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


def group_metrics(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """What the groups of two or more valid trajectories have to be compared by.

    Returns:
        ``reward_spread`` (the standard deviation of the rewards in a group, mean over the groups) and
        ``groups/zero_spread`` (share of the groups whose rewards are all equal: nothing is learned from them).
    """
    scored = [(t.group, t.record.value) for t in trajectories if t.valid and t.record is not None]
    ordered = groupby(sorted(scored, key=lambda pair: pair[0]), key=lambda pair: pair[0])
    groups = [rewards for _, pairs in ordered if len(rewards := [value for _, value in pairs]) > 1]
    return {
        "reward_spread": _mean([pstdev(rewards) for rewards in groups]),
        "groups/zero_spread": _mean([float(max(rewards) == min(rewards)) for rewards in groups]),
    }


def token_metrics(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """Token ids by where they came from.

    Returns:
        ``tokens/sampled`` (by the policy), ``tokens/prompt`` (of prompts that begin anew: an episode's first, and every
        turn's under a window), ``tokens/environment`` (what prompts have more than the turn before), summed; and
        ``answer_length``, the mean of sampled ids a turn.
    """
    turns = [turn for t in trajectories for turn in t.turns]
    prompt = environment = 0
    for trajectory in trajectories:
        held: tuple[int, ...] = ()
        for turn in trajectory.turns:
            goes_on = bool(held) and turn.prompt_ids[: len(held)] == held
            prompt += 0 if goes_on else len(turn.prompt_ids)
            environment += len(turn.prompt_ids) - len(held) if goes_on else 0
            held = (*turn.prompt_ids, *turn.token_ids)
    sampled = sum(len(turn.token_ids) for turn in turns)
    return {
        "tokens/sampled": float(sampled),
        "tokens/prompt": float(prompt),
        "tokens/environment": float(environment),
        "answer_length": sampled / max(len(turns), 1),
    }


def cost_metrics(sampled: float, seconds: Mapping[str, float]) -> dict[str, float]:
    """What a step took.

    Args:
        sampled: ids that were sampled.
        seconds: of each kind of work; ``generate`` is the sampler's.

    Returns:
        ``time/<kind>`` in seconds, ``speed/tokens_per_s`` (sampled, while the sampler worked) and
        ``memory/peak_gib``.
    """
    generate = seconds.get("generate", 0.0)
    return {
        **{f"time/{kind}": float(value) for kind, value in seconds.items()},
        "speed/tokens_per_s": sampled / generate if generate > 0 else 0.0,
        "memory/peak_gib": peak_bytes() / 2**30,
    }


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values)) if values else 0.0
