"""Rollouts of an older policy than the one that learns from them: how old they are, and those that are too old.

Comes in: trajectories, whose turns each know the version that sampled them.  Goes out: the same, too old ones marked as
not valid, so that no group counts them; and figures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from statistics import fmean

from mmrl import launched
from mmrl.config import RolloutConfig
from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.score import RewardRecord
from mmrl.trajectory import Trajectory
from mmrl_agents.sampling import Sampled


def limit_of(rollout: RolloutConfig) -> int:
    """Updates by which a rollout may be older than the policy that learns from it."""
    return rollout.async_steps if rollout.max_staleness is None else rollout.max_staleness


def check_staleness(loaded: LoadedConfig) -> None:
    """Refuse to sample ahead where it cannot be done, or where nothing could be learned from it.

    Raises:
        BadInput: naming the key, its place and what would be right.
    """
    config, where = loaded.config, loaded.where("rollout", "async_steps")
    r = config.rollout
    if r.async_steps == 0:
        return
    if launched.processes() > 1:
        raise BadInput(f"{where}: async_steps samples in the background of one process, and the launcher starts "
                       f"{launched.processes()}; set it to 0, or train with one process")  # fmt: skip
    if config.training_args.importance_correction == "none":
        raise BadInput(f"{loaded.where('training_args', 'importance_correction')}: async_steps learns from what older "
                       "policies sampled, and importance_correction 'none' ignores that; take token, icepop or "
                       "geometric, or set rollout.async_steps to 0")  # fmt: skip
    limit = limit_of(r)
    if r.deterministic and limit < r.async_steps:
        raise BadInput(f"{loaded.where('rollout', 'max_staleness')}: every rollout is {r.async_steps} updates old "
                       f"(async_steps), and max_staleness {limit} would leave all of them out; set it to at least "
                       f"{r.async_steps}, or rollout.deterministic to false, so that the newest policy samples")


def staleness(trajectory: Trajectory, version: int) -> int:
    """Updates that a policy of ``version`` has seen since it sampled the oldest turn; 0 without a turn."""
    return max((version - turn.version for turn in trajectory.turns), default=0)


def without_stale(sampled: Sampled, version: int, limit: int) -> Sampled:
    """The batch in which trajectories older than ``limit`` are not valid; the same one if there are none.

    Args:
        sampled: all that ran, scored.
        version: of the policy that is to learn from them.
        limit: in updates.
    """
    if all(staleness(t, version) <= limit for t in sampled.trajectories):
        return sampled
    kept = [t if staleness(t, version) <= limit else _left_out(t) for t in sampled.trajectories]
    return dataclasses.replace(sampled, trajectories=kept)


def _left_out(trajectory: Trajectory) -> Trajectory:
    record = trajectory.record or RewardRecord(0.0, False, {})
    return dataclasses.replace(trajectory, record=dataclasses.replace(record, valid=False))


def staleness_metrics(trajectories: Sequence[Trajectory], version: int, rollout: RolloutConfig) -> dict[str, float]:
    """How old the rollouts of a step are.

    Returns:
        ``staleness/mean`` and ``staleness/max`` (updates, over turns) and ``staleness/dropped`` (trajectories left out
        as too old); nothing where all of them are of the policy that learns from them.
    """
    ages = [version - turn.version for t in trajectories for turn in t.turns]
    if rollout.async_steps == 0 and not any(ages):
        return {}
    dropped = sum(staleness(t, version) > limit_of(rollout) for t in trajectories)
    return {"staleness/mean": fmean(ages) if ages else 0.0, "staleness/max": float(max(ages, default=0)),
            "staleness/dropped": float(dropped)}  # fmt: skip
