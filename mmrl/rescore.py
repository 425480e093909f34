"""Stored rollouts scored again: what the new suite says of each, beside the reward that was stored.

Comes in: stored rollouts, a step at a time, and a reward suite.  Goes out: :class:`Rescored`, which keeps numbers only,
so that a run of any length fits.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass

import numpy as np

from mmrl.reward import RewardSuite
from mmrl.run_state import RunState
from mmrl.score import RewardRecord, Score, Status
from mmrl.score_stats import Ints, Reals
from mmrl.trajectory import Trajectory

POLL_S = 0.2
STATUSES: tuple[Status, ...] = ("ok", "not_applicable", "failed")


@dataclass(frozen=True)
class Change:
    """The plugin whose part in a rollout's reward changed most.

    Attributes:
        plugin: its name in the suite, or in the stored reward if only that has it.
        by: its new part minus its old one; a part is weight times score.
    """

    plugin: str
    by: float


@dataclass(frozen=True)
class Rescored:
    """One row a rollout; NaN where there is no score.

    Attributes:
        ids: the rollouts' ids.
        steps: the step of each.
        groups: a number for the group of each; groups of different steps have different numbers.
        group_names: the name of each group, by its number.
        success: 1 where the environment called the episode a success.
        old: stored reward.
        new: new reward.
        scores: plugin -> its scores.
        status: plugin -> index into :data:`STATUSES` of each score.
        changed: what changed most in each reward, or None.
        reasons: (plugin, status) -> why its first score that does not count does not.
        broken: how many rollouts were left out because an exception had ended their episode.
    """

    ids: Sequence[str]
    steps: Ints
    groups: Ints
    group_names: Sequence[str]
    success: Reals
    old: Reals
    new: Reals
    scores: Mapping[str, Reals]
    status: Mapping[str, Ints]
    changed: Sequence[Change | None]
    reasons: Mapping[tuple[str, Status], str]
    broken: int

    def __len__(self) -> int:
        return len(self.ids)


class Rescorer:
    """Scores rollouts and keeps the numbers.

    Args:
        suite: what scores them.
    """

    def __init__(self, suite: RewardSuite) -> None:
        self._suite = suite
        self._names = [m.name for m in suite.members]
        self._ids: list[str] = []
        self._changed: list[Change | None] = []
        self._groups: dict[tuple[int, str], int] = {}
        self._whole = {name: array("q") for name in ("step", "group", *self._status_keys())}
        self._real = {name: array("d") for name in ("success", "old", "new", *self._score_keys())}
        self._reasons: dict[tuple[str, Status], str] = {}
        self._broken = 0

    def _status_keys(self) -> list[str]:
        return [f"status/{name}" for name in self._names]

    def _score_keys(self) -> list[str]:
        return [f"score/{name}" for name in self._names]

    def step(self, trajectories: Sequence[Trajectory], state: RunState, done: Callable[[Trajectory], None]) -> None:
        """Score the rollouts of one step.

        An interrupt leaves those that were scored before it.

        Args:
            trajectories: what to score; those that an exception ended are counted and left out, as in training.
            state: where the run stood.
            done: called with each.
        """
        self._suite.begin()
        whole = [t for t in trajectories if t.error is None]
        self._broken += len(trajectories) - len(whole)
        submitted = [self._suite.submit(t, state) for t in whole]
        for trajectory, futures in zip(whole, submitted, strict=True):
            while wait(futures.values(), POLL_S).not_done:
                pass  # an endless wait would not notice an interrupt on every system
            record = self._suite.joined({name: f.result() for name, f in futures.items()}, state)
            self._add(state.step, trajectory, record)
            done(trajectory)

    def _add(self, step: int, t: Trajectory, record: RewardRecord) -> None:
        old = t.record.value if t.record is not None and t.record.valid else math.nan
        group = self._groups.setdefault((step, t.group), len(self._groups))
        for name, score in record.scores.items():
            self._whole[f"status/{name}"].append(STATUSES.index(score.status))
            self._real[f"score/{name}"].append(score.value if score.valid else math.nan)
            if not score.valid:
                self._reasons.setdefault((name, score.status), _why(score))
        for name, number in (("step", step), ("group", group)):
            self._whole[name].append(number)
        for name, real in (("success", t.success), ("old", old), ("new", record.value if record.valid else math.nan)):
            self._real[name].append(float(real))
        self._changed.append(most_changed(t.record, record))
        self._ids.append(t.id)  # last: what an interrupt cuts off here is cut off in result() too

    def result(self) -> Rescored:
        """What has been scored so far."""
        n = len(self._ids)
        whole = {name: np.array(column[:n], np.int64) for name, column in self._whole.items()}
        real = {name: np.array(column[:n], np.float64) for name, column in self._real.items()}
        return Rescored(
            list(self._ids), whole["step"], whole["group"], [name for _, name in self._groups],
            real["success"], real["old"], real["new"],
            {name: real[f"score/{name}"] for name in self._names},
            {name: whole[f"status/{name}"] for name in self._names},
            self._changed[:n], dict(self._reasons), self._broken,
        )  # fmt: skip


def _why(score: Score) -> str:
    return str(score.info.get("error") or score.info.get("reason") or "no reason given")


def parts(record: RewardRecord) -> dict[str, float]:
    """Each plugin's part in the reward: weight times score; what a gate changed is the part of the gate's plugin."""
    found = {name: weight * record.scores[name].value for name, weight in record.weights.items()}
    if record.gate is not None:
        found[record.gate] = found.get(record.gate, 0.0) + record.value - math.fsum(found.values())
    return found


def most_changed(old: RewardRecord | None, new: RewardRecord) -> Change | None:
    """The plugin whose part changed most from one reward to the other; None if none did, or one of them is invalid."""
    if old is None or not old.valid or not new.valid:
        return None
    before, after = parts(old), parts(new)
    changes = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in {**after, **before}}
    if not changes:
        return None
    most = max(changes, key=lambda name: abs(changes[name]))
    return Change(most, changes[most]) if abs(changes[most]) > 1e-9 else None
