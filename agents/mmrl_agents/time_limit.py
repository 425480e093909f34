"""Where a run ends: at its last step, or before it at its limit of minutes, and then that is said."""

from __future__ import annotations

from mmrl_agents.run import Run


def finished(run: Run, steps: int) -> bool:
    """Whether the last step or the last minute is over."""
    limit = run.config.training_args.max_minutes
    return run.progress.step >= steps or (limit is not None and run.progress.minutes >= limit)


def say_if_cut_short(run: Run, steps: int) -> None:
    """Say that ``training_args.max_minutes`` ended the run, if it did.

    Args:
        run: at its end.
        steps: that it would have taken.
    """
    step, minutes = run.progress.step, run.progress.minutes
    if step < steps:
        run.reporter.say(f"stopped after {minutes:.3g} minutes of training (training_args.max_minutes), "
                         f"step {step} of {steps}")  # fmt: skip
