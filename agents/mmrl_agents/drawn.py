"""The batch of a step: its episodes, run and scored, and where in the run they stood.

Comes in: a place in the run, a sampler, rewards.  Goes out: a :class:`Drawn`.  Batches are drawn one after the other;
what one leaves behind for the next (tasks used, success of the mix) does not wait for any update.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from mmrl.config import Config
from mmrl.episode import EpisodeLimits, EpisodeSpec
from mmrl.reward import RewardSuite
from mmrl.run_state import RunState
from mmrl.stopwatch import Stopwatch
from mmrl.trajectory import Trajectory
from mmrl.turn_cap import cap_at, cap_metrics
from mmrl_agents.curriculum import followed, mix_metrics, mix_weights
from mmrl_agents.mismatch import Gaps, figures
from mmrl_agents.probe import Probe
from mmrl_agents.run import Run
from mmrl_agents.sampler import Sampler
from mmrl_agents.sampling import RunRound, Sampled, resampling_metrics, sample
from mmrl_agents.shared_scheduler import SharedScheduler
from mmrl_agents.tasks import Plan


@dataclass(frozen=True)
class Place:
    """Where in a run a batch is drawn.

    Attributes:
        step: the step that learns from it, from 1.
        cursor: tasks that the batches before it used, for each environment.
        success: smoothed success of each environment in them, where a curriculum follows it.
        metrics: the newest value of every metric, as of the policy that samples.
    """

    step: int
    cursor: tuple[int, ...]
    success: tuple[float | None, ...]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Drawn:
    """A batch.

    Attributes:
        place: where it was drawn.
        sampled: its episodes.
        state: what plugins and schedules were told of the run.
        weights: of the environments in the mix.
        success: smoothed success of each environment after it.
        seconds: what each kind of work took.
        gaps: sampler and learner compared on some of its tokens, both with the weights that it was sampled with; None
            if the update itself can tell.
    """

    place: Place
    sampled: Sampled
    state: RunState
    weights: Sequence[float]
    success: tuple[float | None, ...]
    seconds: Mapping[str, float]
    gaps: Gaps | None

    @property
    def next(self) -> Place:
        """The place of the batch after it; metrics are as they were."""
        return Place(self.place.step + 1, self.sampled.cursor, self.success, self.place.metrics)

    def compared(self, update: Mapping[str, float]) -> dict[str, float]:
        """The metrics of its update, without a comparison of sampler and learner where the batch has its own."""
        return {k: v for k, v in update.items() if self.gaps is None or not k.startswith("mismatch/")}

    def metrics(self, config: Config) -> dict[str, float]:
        """What there is to say of how it was drawn."""
        return {**resampling_metrics(self.sampled),
                **mix_metrics(config.environments, self.weights, self.sampled.success),
                **cap_metrics(config.rollout.max_turns, self.state),
                **({} if self.gaps is None else figures(self.gaps))}  # fmt: skip


@runtime_checkable
class Bars(Protocol):
    """Shows how far the episodes are; a :class:`mmrl.report.Reporter` does."""

    def begin(self, what: str, total: int) -> None:
        """Start a bar of ``total`` episodes."""
        ...

    def episode(self, trajectory: Trajectory) -> None:
        """Count one."""
        ...


@dataclass(frozen=True)
class Drawer:
    """Draws the batches of a run.

    Attributes:
        run: whose; only what stays the same in it is read, so that it may be trained meanwhile.
        sizes: of a batch, and how many there are.
        sampler: speaks.
        suite: scores.
        bars: shows.
        wait: runs a coroutine to its end.
        probe: compares sampler and learner; None: nobody does.
    """

    run: Run
    sizes: Plan
    sampler: Sampler
    suite: RewardSuite
    bars: Bars
    wait: Callable[[Coroutine[Any, Any, Any]], Any]
    probe: Probe | None

    def draw(self, place: Place) -> Drawn:
        """Run and score the episodes of a step."""
        config, watch = self.run.config, Stopwatch()
        state = RunState(place.step, (place.step - 1) / max(self.sizes.steps, 1), place.metrics)
        weights = mix_weights(config, place.success)
        sampled = sample(config, self.sizes, place.step, place.cursor, self._rounds(state, watch), weights)
        gaps = None if self.probe is None else self.probe.compare(sampled.batch)
        success = followed(config.curriculum, place.success, sampled.success)
        return Drawn(place, sampled, state, weights, success, watch.seconds, gaps)

    def _rounds(self, state: RunState, watch: Stopwatch) -> RunRound:
        """Runs the rounds of a step, each on a bar of its own."""
        scheduler, most = training_scheduler(self.run, state), 1 + self.run.config.rollout.dynamic_sampling

        def run_round(specs: Sequence[EpisodeSpec], number: int) -> list[Trajectory]:
            where = f", round {number + 1} of at most {most}" if number else ""
            self.bars.begin(f"step {state.step}: episodes{where}", len(specs))
            return self.wait(scheduler.run(specs, self.sampler, self.suite, self.bars.episode, state, watch))

        return run_round


def training_scheduler(run: Run, state: RunState) -> SharedScheduler:
    """How training episodes run where the run stands."""
    r = run.config.rollout
    limits = EpisodeLimits(cap_at(r.max_turns, state), r.window)
    return SharedScheduler(limits, r.concurrency, r.max_batch, r.deterministic, run.processes, run.shards)
