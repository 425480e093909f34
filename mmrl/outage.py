"""When a step gives no reward at all: what is said, and when the run stops.

Comes in: the scored rollouts of each step.  Goes out: a line in words, or the end of the run.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmrl.errors import RunStopped
from mmrl.score import Score
from mmrl.trajectory import Trajectory

PATIENCE = 3
"""Steps in a row without any reward that a plugin's failures may cost once it has worked: a server that restarts."""


def without_reward(step: int, trajectories: Sequence[Trajectory]) -> str | None:
    """Why no rollout of a step has a reward, in words; None if one has, or if every episode broke off.

    Args:
        step: which step.
        trajectories: its rollouts, scored.
    """
    if any(t.valid for t in trajectories) or not (scores := _by_plugin(trajectories)):
        return None
    said = [f"'{name}' {_fate(found)}" for name, found in scores.items()]
    return f"no rollout of step {step} has a reward: plugin {'; '.join(said)}"


def broken(trajectories: Sequence[Trajectory]) -> list[str]:
    """The plugins that failed on every rollout which was scored."""
    return [n for n, found in _by_plugin(trajectories).items() if all(s.status == "failed" for s in found)]


class Outage:
    """Counts the steps in a row that a broken plugin has cost.

    A plugin that fails on every rollout teaches nothing.  Before this process has seen any reward it will hardly mend
    itself, so that the run stops at once; later it may be a server that restarts, and the run stops after
    ``PATIENCE`` such steps.
    """

    def __init__(self) -> None:
        self._worked = False
        self._lost = 0

    def note(self, step: int, trajectories: Sequence[Trajectory]) -> str | None:
        """Take the rollouts of a step; returns what is to be said.

        Raises:
            RunStopped: naming the plugins and the first error of each.
        """
        said, failing = without_reward(step, trajectories), broken(trajectories)
        if said is None:
            self._worked = self._worked or any(t.valid for t in trajectories)
            self._lost = 0
            return None
        self._lost = self._lost + 1 if failing else 0
        if failing and (not self._worked or self._lost >= PATIENCE):
            row = f" ({self._lost} steps in a row)" if self._lost > 1 else ""
            mend = " and ".join(failing)
            raise RunStopped(f"{said}{row}; nothing can be learned: mend {mend}, and go on with --resume")
        return said


def _by_plugin(trajectories: Sequence[Trajectory]) -> dict[str, list[Score]]:
    found: dict[str, list[Score]] = {}
    for t in trajectories:
        for name, score in (t.record.scores if t.record is not None else {}).items():
            found.setdefault(name, []).append(score)
    return found


def _fate(scores: Sequence[Score]) -> str:
    """What became of a plugin's scores."""
    failed = [s for s in scores if s.status == "failed"]
    if failed:
        why = str(failed[0].info.get("error", "")).partition("\n")[0]
        return f"failed on {len(failed)} of {len(scores)} ({why})"
    known = sum(s.valid for s in scores)
    reason = next((str(s.info["reason"]) for s in scores if not s.valid and "reason" in s.info), "")
    return f"applied to {known or 'none'} of {len(scores)}" + (f" ({reason})" if reason else "")
