"""Where the training loop gets its batches from: drawn when they are asked for, or ahead, in the background.

Comes in: a run.  Goes out: a :class:`mmrl_agents.drawn.Drawn` for every step.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from mmrl.reward import RewardSuite
from mmrl.run_sync import run_sync
from mmrl_agents.ahead import Ahead
from mmrl_agents.drawn import Drawer, Drawn, Place
from mmrl_agents.probe import Probe
from mmrl_agents.run import Run
from mmrl_agents.sampler import make_sampler
from mmrl_agents.tasks import Plan


@runtime_checkable
class Batches(Protocol):
    """Gives the batches of a run, step by step."""

    def take(self) -> Drawn:
        """The batch of the step that comes next; the learner's weights are then those of the steps before.

        Raises:
            Exception: whatever the sampler raised.
        """
        ...

    def close(self) -> None:
        """Stop, and give back all that is held."""
        ...


class InTurn:
    """Draws a batch when it is asked for; the learner waits."""

    def __init__(self, run: Run, suite: RewardSuite, sizes: Plan) -> None:
        self._run = run
        self._sampler = make_sampler(run)
        probe = None if run.config.replay is None else Probe(run.learner.scorer, run.learner.limits.tokens)
        self._drawer = Drawer(run, sizes, self._sampler, suite, run.reporter, run_sync, probe)

    def take(self) -> Drawn:
        """See :meth:`Batches.take`."""
        progress = self._run.progress
        self._sampler.updated(progress.step)
        drawn = self._drawer.draw(Place(progress.step + 1, progress.cursor, progress.success, self._run.metrics))
        self._sampler.rest()
        return drawn

    def close(self) -> None:
        """See :meth:`Batches.close`."""
        self._sampler.close()


def make_batches(run: Run, suite: RewardSuite, sizes: Plan) -> Batches:
    """The way to batches that the run's configuration asks for."""
    return (Ahead if run.config.rollout.async_steps else InTurn)(run, suite, sizes)
