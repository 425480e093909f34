"""Which episodes a step learns from: groups that teach nothing are replaced by fresh tasks (dynamic sampling).

Comes in: the config, the seed cursor, and a way to run episodes.  Goes out: all episodes that ran, and which of their
groups the update sees.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmrl.config import Config
from mmrl.config_load import LoadedConfig
from mmrl.episode import EpisodeSpec
from mmrl.errors import BadInput
from mmrl.trajectory import Trajectory
from mmrl_agents.credit import METHODS, Credit, credit, find_method
from mmrl_agents.curriculum import success_by_entry
from mmrl_agents.foresight import NOTHING, Foreseen
from mmrl_agents.tasks import Plan, step_entries, step_specs

RunRound = Callable[[Sequence[EpisodeSpec], int], Sequence[Trajectory]]
"""Runs and scores the episodes of a round, numbered from 0."""
ROUNDING = 1e-9
"""Advantages up to this are rounding errors of 0."""


@dataclass(frozen=True)
class Sampled:
    """The episodes of one step.

    Attributes:
        trajectories: all that ran, group after group, round after round.
        size: episodes of a group.
        entries: of each group, the place of its environment in the config.
        success: the share of successes of each environment over all that ran; None where it had no episodes.
        kept: numbers of the groups to learn from.
        wanted: how many groups the step was to learn from.
        spread: of each group, whether it teaches anything; None if nobody asked.
        cursor: tasks used so far, for each environment.
    """

    trajectories: list[Trajectory]
    size: int
    entries: list[int]
    success: list[float | None]
    kept: list[int]
    wanted: int
    spread: list[bool] | None
    cursor: tuple[int, ...]

    @property
    def batch(self) -> list[Trajectory]:
        """The trajectories of the groups to learn from."""
        return [t for g in self.kept for t in self.group(g)]

    def group(self, number: int) -> list[Trajectory]:
        """The trajectories of one group."""
        return self.trajectories[number * self.size : (number + 1) * self.size]


def check_sampling(loaded: LoadedConfig) -> None:
    """Refuse to look for spread in groups where the advantage compares no groups.

    Raises:
        BadInput: naming the key, its place and what would be right.
    """
    advantage = loaded.config.training_args.advantage
    if loaded.config.rollout.dynamic_sampling and not find_method(advantage).groups:
        compare = ", ".join(name for name, m in METHODS.items() if m.groups)
        where = loaded.where("rollout", "dynamic_sampling")
        raise BadInput(f"{where}: rollout.dynamic_sampling replaces groups without spread, but advantage '{advantage}' "
                       f"needs no groups; set it to 0, or take an advantage that compares them: {compare}")  # fmt: skip


def sample(config: Config, sizes: Plan, step: int, cursor: Sequence[int], run_round: RunRound,
           weights: Sequence[float] | None = None) -> Sampled:
    """Run the episodes of a step: its groups and, for those without spread, others in their place (DAPO, 2503.14476).

    A round runs as many fresh tasks as groups with spread are missing; there are ``rollout.dynamic_sampling`` rounds
    at most after the first.  The tasks and the noise are functions of the config, the step, the cursor and of which
    groups had spread, so that a step that is run again comes to the same episodes.

    Args:
        config: the run's.
        sizes: from :func:`mmrl_agents.tasks.plan`.
        step: from 1.
        cursor: tasks used so far, for each environment.
        run_round: runs the episodes.
        weights: of the environments in the mix; None: those of the config.
    """
    further = config.rollout.dynamic_sampling
    trajectories, spread, at = list[Trajectory](), list[bool](), list(cursor)
    for number in range(1 + further):
        missing = dataclasses.replace(sizes, groups=sizes.groups - sum(spread))
        specs, at = step_specs(config, missing, step, at, len(spread), weights)
        ran = list(run_round(specs, number))
        trajectories += ran
        groups = [ran[i : i + sizes.size] for i in range(0, len(ran), sizes.size)]
        spread += [not further or has_spread(group, config) for group in groups]
        if sum(spread) == sizes.groups:
            break
    entries = step_entries(config, step, len(spread), weights)
    success = success_by_entry(entries, [t.success for t in trajectories], sizes.size, len(config.environments))
    kept = [g for g, ok in enumerate(spread) if ok]
    return Sampled(trajectories, sizes.size, entries, success, kept, sizes.groups, spread if further else None,
                   tuple(at))  # fmt: skip


def has_spread(group: Sequence[Trajectory], config: Config) -> bool:
    """Whether a group, compared by itself, gives any of its trajectories, turns or tokens an advantage.

    False where fewer than two trajectories are valid or, as long as whole trajectories are compared, where all valid
    rewards are equal.
    """
    earned = credit(group, len(group), config)
    finer = [a for rows in (earned.turns, earned.tokens) if rows is not None for row in rows for a in row]
    return any(abs(a) > ROUNDING for a in (*finer, *(a for a in earned.advantages if a is not None)))


def kept_credit(sampled: Sampled, config: Config, foreseen: Foreseen = NOTHING) -> Credit:
    """The credit of the groups to learn from; the batch's statistics are over them alone."""
    return credit(sampled.batch, sampled.size, config, foreseen) if sampled.kept else Credit([], None)


def all_advantages(sampled: Sampled, earned: Credit) -> list[float | None]:
    """The advantage of every trajectory that ran: 0 in a group that is left out, None where it is invalid."""
    out: list[float | None] = [0.0 if t.valid else None for t in sampled.trajectories]
    for i, g in enumerate(sampled.kept):
        begin = g * sampled.size
        out[begin : begin + sampled.size] = earned.advantages[i * sampled.size : (i + 1) * sampled.size]
    return out


def resampling_metrics(sampled: Sampled) -> dict[str, float]:
    """Counts of groups, where groups without spread are replaced.

    Returns:
        ``groups/no_spread`` (of all that ran), ``groups/resampled`` (run in the place of such) and ``groups/dropped``
        (without spread, and not replaced: the update is short of them); nothing where none is replaced.
    """
    if sampled.spread is None:
        return {}
    return {
        "groups/no_spread": float(sampled.spread.count(False)),
        "groups/resampled": float(len(sampled.spread) - sampled.wanted),
        "groups/dropped": float(sampled.wanted - len(sampled.kept)),
    }
