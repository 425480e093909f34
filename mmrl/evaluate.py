"""Evaluate a policy on held-out seeds: success with an honest interval, and the mean return."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mmrl.episode import EpisodeSpec
from mmrl.policy import Policy
from mmrl.rollout import OnDone, Scheduler
from mmrl.trajectory import Trajectory

NOISE_EVAL = 0
"""First number of evaluation's noise keys; training takes others."""


@dataclass(frozen=True)
class EvalResult:
    """How a policy did in one environment.

    Attributes:
        env: the environment's id.
        episodes: how many were run; errors count as failures.
        success: share of successful episodes, in [0, 1].
        ci95: its 95% interval (Wilson 1927), of ``tasks`` trials: a row drawn again says little that is new.
        mean_return: mean sum of the environment's rewards.
        mean_turns: mean length in turns.
        invalid_actions: share of actions that the environment did not understand.
        errors: episodes ended by an exception of the environment.
        seeds: first and last seed.
        tasks: different tasks among the episodes: fewer than ``episodes`` where rows of a table were drawn again.
    """

    env: str
    episodes: int
    success: float
    ci95: tuple[float, float]
    mean_return: float
    mean_turns: float
    invalid_actions: float
    errors: int
    seeds: tuple[int, int]
    tasks: int

    def as_dict(self) -> dict[str, Any]:
        """A JSON-able dict."""
        return {**asdict(self), "ci95": list(self.ci95), "seeds": list(self.seeds)}

    def __str__(self) -> str:
        low, high = self.ci95
        rows = f"of {self.tasks} rows " if self.tasks < self.episodes else ""
        broken = f", {self.errors} ended by an exception" if self.errors else ""
        return (f"{self.env}: success {self.success:.1%} [{low:.1%}, {high:.1%}] on {self.episodes} episodes {rows}"
                f"(seeds {self.seeds[0]}-{self.seeds[1]}), return {self.mean_return:.3f}, "
                f"{self.mean_turns:.1f} turns{broken}")  # fmt: skip


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share.

    Args:
        successes: how many succeeded.
        n: of how many; 0 gives (0, 1).
    """
    if n == 0:
        return (0.0, 1.0)
    z, p = 1.959963984540054, successes / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n)))


def different(trajectories: Sequence[Trajectory]) -> int:
    """How many tasks the episodes are of: rows of a table count once (``meta["row"]``), all others are their own."""
    return len({("row", t.sample.meta["row"]) if "row" in t.sample.meta else i for i, t in enumerate(trajectories)})


def summarise(env_id: str, seeds: Sequence[int], trajectories: Sequence[Trajectory],
              tasks: int | None = None) -> EvalResult:
    """Summarise evaluation episodes.

    Args:
        env_id: the environment's id.
        seeds: that were run.
        trajectories: one for each.
        tasks: how many different tasks they are of; None: as :func:`different` counts them, in one environment.
    """
    n = len(trajectories)
    tasks = different(trajectories) if tasks is None else tasks
    wins = sum(t.success for t in trajectories)
    turns = [turn for t in trajectories for turn in t.turns]
    return EvalResult(
        env=env_id,
        episodes=n,
        success=wins / n if n else 0.0,
        ci95=wilson(wins * tasks / n, tasks) if n else wilson(0, 0),
        mean_return=sum(t.env_return for t in trajectories) / n if n else 0.0,
        mean_turns=len(turns) / n if n else 0.0,
        invalid_actions=sum(not t.info.get("valid_action", True) for t in turns) / max(len(turns), 1),
        errors=sum(t.error is not None for t in trajectories),
        seeds=(min(seeds, default=0), max(seeds, default=0)),
        tasks=tasks,
    )


def eval_specs(env_id: str, kwargs: Mapping[str, Any], seeds: Sequence[int]) -> list[EpisodeSpec]:
    """One episode of an environment for each of some held-out seeds."""
    return [EpisodeSpec(f"{i:06d}", env_id, s, f"{env_id}#{s}", (NOISE_EVAL, s), kwargs) for i, s in enumerate(seeds)]


async def evaluate(env_id: str, kwargs: Mapping[str, Any], policy: Policy, seeds: Sequence[int], scheduler: Scheduler,
                   on_done: OnDone | None = None) -> tuple[EvalResult, list[Trajectory]]:
    """Run one episode a seed and summarise them.

    Args:
        env_id: the environment.
        kwargs: its arguments.
        policy: who acts.
        seeds: held-out seeds.
        scheduler: limits and batching.
        on_done: called as episodes end.
    """
    trajectories = await scheduler.run(eval_specs(env_id, kwargs, seeds), policy, None, on_done)
    return summarise(env_id, seeds, trajectories), trajectories
