"""When a step gives no reward at all: what is said, and when the run stops.

Comes in: the scored rollouts of each step.  Goes out: a line in words, or the end of the run.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmrl.errors import RunStopped
from mmrl.score import Score
from mmrl.trajectory import Trajectory

PATIENCE = 3
"""Steps in a row without any reward that failures may cost once all has worked: a server that restarts."""


def without_reward(step: int, trajectories: Sequence[Trajectory]) -> str | None:
    """Why no rollout of a step has a reward, in words; None if one has.

    Args:
        step: which step.
        trajectories: its rollouts, scored.
    """
    if any(t.valid for t in trajectories):
        return None
    if errors := all_broke_off(trajectories):
        why = errors[0].partition("\n")[0]
        return f"no episode of step {step} came to its end; {len(errors)} ended by an exception, first: {why}"
    if not (scores := _by_plugin(trajectories)):
        return None
    said = [f"'{name}' {_fate(found)}" for name, found in scores.items()]
    return f"no rollout of step {step} has a reward: plugin {'; '.join(said)}"


def all_broke_off(trajectories: Sequence[Trajectory]) -> list[str]:
    """The error of every episode, if an exception ended each of them; else nothing."""
    errors = [t.error for t in trajectories if t.error is not None]
    return errors if len(errors) == len(trajectories) else []


def broken(trajectories: Sequence[Trajectory]) -> list[str]:
    """What failed on every rollout: plugins on those that were scored, or the environments."""
    if all_broke_off(trajectories):
        return list(dict.fromkeys(t.env_id for t in trajectories))
    return [n for n, found in _by_plugin(trajectories).items() if all(s.status == "failed" for s in found)]


class Outage:
    """Counts the steps in a row that a broken plugin, or environment, has cost.

    What fails on every rollout teaches nothing.  Before this process has seen any reward it will hardly mend itself,
    so that the run stops at once; later it may be a server that restarts, and the run stops after ``PATIENCE`` such
    steps.  So it does from the start where an environment broke off in a step of one task: its next seed may do.
    """

    def __init__(self) -> None:
        self._worked = False
        self._lost = 0

    def note(self, step: int, trajectories: Sequence[Trajectory]) -> str | None:
        """Take the rollouts of a step; returns what is to be said.

        Raises:
            RunStopped: naming what failed, and its first error.
        """
        said, failing = without_reward(step, trajectories), broken(trajectories)
        if said is None:
            self._worked = self._worked or any(t.valid for t in trajectories)
            self._lost = 0
            return None
        self._lost = self._lost + 1 if failing else 0
        tasks = {(t.env_id, t.seed) for t in trajectories}
        alone = len(tasks) == 1 and bool(all_broke_off(trajectories))
        if failing and (self._lost >= PATIENCE or not (self._worked or alone)):
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
