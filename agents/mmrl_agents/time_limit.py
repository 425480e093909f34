"""The limit on a run's minutes of training, said where it ends the run before its last step."""

from __future__ import annotations

from mmrl_agents.run import Run


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
