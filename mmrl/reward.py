"""The suite: weighted plugins at work on rollouts; their scores meet in :mod:`mmrl.join` and nowhere else.

Comes in: trajectories, one by one as their episodes end, or many at once.  Goes out: one
:class:`~mmrl.RewardRecord` each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmrl.errors import BadInput
from mmrl.join import Term, join
from mmrl.plugin import RewardPlugin, register_reward_plugin, reward_plugin
from mmrl.plugin_build import build_plugin
from mmrl.plugin_config import PluginConfig, read_entry
from mmrl.run_state import START, RunState
from mmrl.runner import Limits, Runner
from mmrl.schedule import weight_at
from mmrl.score import RewardRecord, Score
from mmrl.score_cache import ScoreCache, default_folder
from mmrl.shaping import shaped
from mmrl.trajectory import Trajectory

__all__ = ["Member", "PluginConfig", "RewardPlugin", "RewardSuite", "build_plugin", "register_reward_plugin",
           "reward_plugin"]  # fmt: skip
NO_CLIP = (-math.inf, math.inf)


@dataclass(frozen=True)
class Member:
    """One plugin of a suite, with its entry."""

    plugin: RewardPlugin
    config: PluginConfig

    @property
    def name(self) -> str:
        """The name under which its scores are recorded."""
        return self.config.instance

    def term(self, state: RunState) -> Term:
        """How its scores count where the run stands."""
        c = self.config
        return Term(weight_at(c.weight, state), c.gate, c.on_failure == "leave_out")

    def runner(self) -> Runner:
        """What runs it."""
        c = self.config
        limits = Limits(c.timeout_s, c.retries, c.batch_size, c.concurrency, c.out_of_range == "clip")
        folder = c.cache if isinstance(c.cache, Path) else default_folder()
        return Runner(self.plugin, limits, ScoreCache(folder, c.name, c.kwargs) if c.cache else None)


class RewardSuite:
    """Weighted plugins; one :class:`RewardRecord` a trajectory.

    Args:
        members: plugins with their entries; instance names are unique.
        clip: lowest and highest reward.
        discount: the learner's discount a turn, for plugins that shape by potentials.

    Raises:
        BadInput: if two members have one name.
    """

    def __init__(self, members: Sequence[Member], clip: tuple[float, float] = NO_CLIP, discount: float = 1.0) -> None:
        names = [m.name for m in members]
        for name in names:
            if names.count(name) > 1:
                raise BadInput(f"two reward plugins are called '{name}'; give one of them another name with 'as:'")
        self.members, self.clip, self.discount = tuple(members), clip, discount
        self._runners = {m.name: m.runner() for m in members}

    @classmethod
    def from_config(cls, entries: Sequence[Mapping[str, Any] | PluginConfig], clip: tuple[float, float] = NO_CLIP,
                    discount: float = 1.0) -> RewardSuite:
        """Build a suite from the entries of ``reward_plugins``.

        Raises:
            BadInput: for an unknown plugin, wrong arguments, or two entries of one name.
        """
        configs = [read_entry(e) for e in entries]
        return cls([Member(build_plugin(c), c) for c in configs], clip, discount)

    def begin(self) -> None:
        """A new batch of episodes begins; a plugin that hung before gets another chance."""
        for runner in self._runners.values():
            runner.begin()

    def load(self, name: str) -> None:
        """Let the member ``name`` load what it needs before its first score, unless it has.

        Raises:
            Exception: whatever the plugin raises, or ``Overdue``.
        """
        self._runners[name].load()

    def score(self, trajectories: Sequence[Trajectory], state: RunState = START) -> list[RewardRecord]:
        """Score trajectories with every plugin and join the scores."""
        self.begin()
        futures = {name: runner.submit(trajectories, state) for name, runner in self._runners.items()}
        columns = {name: [f.result() for f in column] for name, column in futures.items()}
        return [self.joined({n: column[i] for n, column in columns.items()}, state) for i in range(len(trajectories))]

    def submit(self, trajectory: Trajectory, state: RunState = START) -> dict[str, Future[Score]]:
        """Begin to score one trajectory; the futures never hold an exception.  See :meth:`joined`."""
        return {name: runner.submit([trajectory], state)[0] for name, runner in self._runners.items()}

    def joined(self, scores: Mapping[str, Score], state: RunState = START) -> RewardRecord:
        """The record of one trajectory's scores."""
        whole = {
            m.name: shaped(scores[m.name], self.discount) if m.plugin.potential else scores[m.name]
            for m in self.members
        }
        return join(whole, {m.name: m.term(state) for m in self.members}, self.clip)
