"""What environments and plugins failed at, said step by step, and the end of a run that gets no reward any more.

Comes in: scored rollouts.  Goes out: lines in words.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmrl.errors import RunStopped
from mmrl.report import Reporter
from mmrl.trajectory import Trajectory
from mmrl_agents.run import Run, save_checkpoint


def say_what_failed(run: Run, step: int, trajectories: Sequence[Trajectory]) -> None:
    """Say which plugins failed, or why no rollout has a reward.

    Raises:
        RunStopped: if a plugin fails always, or every episode; all steps before are in a checkpoint.
    """
    try:
        said = run.outage.note(step, trajectories)
    except RunStopped:
        if run.progress.step:
            save_checkpoint(run)
        run.store.close()
        raise
    if said is None:
        warn_of_failures(run.reporter, trajectories)
    else:
        run.reporter.say(said)


def warn_of_failures(reporter: Reporter, trajectories: Sequence[Trajectory]) -> None:
    """Say how many episodes an exception ended and which plugins failed, how often, and the first error of each."""
    broken = [t.error for t in trajectories if t.error is not None]
    if broken:
        why = broken[0].partition("\n")[0]
        reporter.say(f"{len(broken)} of {len(trajectories)} episodes ended by an exception, first: {why}")
    failed: dict[str, list[str]] = {}
    for t in trajectories:
        for name, score in (t.record.scores if t.record else {}).items():
            if score.status == "failed":
                failed.setdefault(name, []).append(str(score.info.get("error", "")))
    for name, errors in failed.items():
        why = errors[0].partition("\n")[0]
        reporter.say(f"plugin '{name}' failed on {len(errors)} of {len(trajectories)} rollouts: {why}")
