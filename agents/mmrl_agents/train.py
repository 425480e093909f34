"""GRPO: the training loop, one screen.

rollouts -> rewards -> advantages in each group -> update -> next version of the policy

Which tasks a step runs and which of its groups it learns from: see :mod:`mmrl_agents.sampling`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from mmrl.check_config import check_config
from mmrl.config_load import LoadedConfig
from mmrl.episode import EpisodeLimits, EpisodeSpec
from mmrl.errors import BadInput
from mmrl.make import make
from mmrl.ready import make_ready
from mmrl.report import Reporter
from mmrl.reward import RewardSuite
from mmrl.run_state import RunState, newest
from mmrl.run_sync import run_sync
from mmrl.stopwatch import Stopwatch
from mmrl.trajectory import Trajectory
from mmrl.turn_cap import cap_at, cap_metrics
from mmrl_agents.check_context import check_context, check_room
from mmrl_agents.check_images import check_images
from mmrl_agents.checkpoint import Progress
from mmrl_agents.credit import find_method, no_states
from mmrl_agents.curriculum import check_curriculum, followed, mix_metrics, mix_weights
from mmrl_agents.failures import say_what_failed
from mmrl_agents.foresight import kl_metrics
from mmrl_agents.heldout import HeldOut
from mmrl_agents.lesson import lesson_of, with_replays
from mmrl_agents.memory import MemoryPlanner, by_rehearsal
from mmrl_agents.metrics import cost_metrics, rollout_metrics
from mmrl_agents.processes import in_step
from mmrl_agents.replay import Library, best, check_replay, replay_metrics, replayed, worth_remembering
from mmrl_agents.run import Run, check_names, open_run, publish, save_checkpoint
from mmrl_agents.same_run import check_same_config
from mmrl_agents.sampler import Sampler, check_sampler, make_sampler
from mmrl_agents.sampling import (
    RunRound,
    Sampled,
    all_advantages,
    check_sampling,
    kept_credit,
    resampling_metrics,
    sample,
)
from mmrl_agents.shared_scheduler import SharedScheduler
from mmrl_agents.tasks import Plan, check_batch, plan
from mmrl_agents.time_limit import finished, say_if_cut_short
from mmrl_agents.warm_start import check_experts, warm_start


class Grpo:
    """Group-relative policy optimisation (``train_type: GRPO``)."""

    def check(self, loaded: LoadedConfig) -> None:
        """Check sizes, names and rewards; see :class:`mmrl.trainer.Trainer`."""
        check_batch(loaded)
        check_names(loaded)
        check_images(loaded)
        check_context(loaded)
        check_room(loaded)
        check_sampler(loaded)
        check_experts(loaded)
        check_states(loaded)
        check_sampling(loaded)
        check_curriculum(loaded)
        check_replay(loaded)
        if not loaded.config.reward_plugins:
            raise BadInput(f"{loaded.path}: {loaded.config.train_type} needs at least one entry in reward_plugins")

    def planner(self) -> MemoryPlanner:
        """Plan its memory; see :class:`mmrl.memory_plan.Plans`."""
        return MemoryPlanner(by_rehearsal)

    @in_step
    def train(self, loaded: LoadedConfig, resume: bool, reporter: Reporter) -> Path:
        """Train; see :class:`mmrl.trainer.Trainer`."""
        suite = check_config(loaded)[1]
        if resume:
            check_same_config(loaded)
        make_ready(loaded, suite, reporter)
        sizes = plan(loaded.config)
        run = open_run(loaded, resume, reporter, sizes.steps * loaded.config.training_args.num_iterations)
        with closing(make_sampler(run)) as policy:
            held_out, library = HeldOut(run), Library(run.store)
            if run.progress.step == 0:
                held_out.final("before")
                if loaded.config.warm_start is not None:
                    warm_start(run, loaded.config.warm_start)
                    policy.updated(0)
                    held_out.final("warm")
                    held_out.choose_best()
            while not finished(run, sizes.steps):
                started = time.monotonic()
                metrics = train_step(run, policy, suite, sizes, library)
                metrics["time/minutes"] = run.progress.minutes + (time.monotonic() - started) / 60
                metrics = run.processes.of_first(metrics)
                run.progress = dataclasses.replace(run.progress, minutes=metrics["time/minutes"])
                last = finished(run, sizes.steps)
                if last or run.progress.step % loaded.config.eval.every == 0:
                    metrics |= held_out.choose_best()
                run.store.log(metrics)
                run.metrics = newest(run.metrics, metrics)
                reporter.step(run.progress.step, sizes.steps, metrics)
                stopping = run.stopping()
                if last or stopping or run.progress.step % loaded.config.training_args.save_steps == 0:
                    save_checkpoint(run)
                if stopping and not last:
                    run.store.close()
                    raise KeyboardInterrupt
        say_if_cut_short(run, sizes.steps)
        publish(run, "final")
        held_out.final("after")
        run.store.close()
        return run.store.root


def check_states(loaded: LoadedConfig) -> None:
    """Refuse credit by state where an environment says nothing of its state."""
    args = loaded.config.training_args
    baseline = args.turn_baseline == "state"
    asked = [("turn_baseline", "state", "group")] if baseline else []
    asked += [("advantage", args.advantage, "grpo")] if find_method(args.advantage).states else []
    for words in asked:
        for i, config in enumerate(loaded.config.environments):
            with closing(make(config.id, **config.kwargs)) as env:
                if "state_key" not in env.reset(seed=config.seeds.start)[1]:
                    raise BadInput(f"{loaded.where('environments', i)}: {no_states(config.id, *words)}")


def train_step(run: Run, policy: Sampler, suite: RewardSuite, sizes: Plan, library: Library) -> dict[str, float]:
    """One step: run the episodes, compare them in their groups, update, store."""
    config, before, step = run.config, run.progress, run.progress.step + 1
    began, state = time.monotonic(), state_of(run, sizes.steps)
    weights, watch = mix_weights(config, before.success), Stopwatch()
    sampled = sample(config, sizes, step, before.cursor, rounds_of(run, policy, suite, state, watch), weights)
    policy.rest()
    generated = time.monotonic()
    say_what_failed(run, step, sampled.trajectories)
    again = library.fetch(replayed(before.remembered, config, sizes, step))
    foreseen = run.learner.foresee([*sampled.batch, *(t for t, _ in again)])
    earned = kept_credit(sampled, config, foreseen)
    lesson = with_replays(lesson_of(sampled.batch, earned), again)
    update = run.learner.update(lesson.trajectories, lesson.advantages, lesson.turns, lesson.tokens, lesson.returns,
                                foreseen)  # fmt: skip
    policy.updated(step)
    advantages = all_advantages(sampled, earned)
    run.progress = progress_after(run, sampled, advantages)
    library.keep(sampled.trajectories, run.progress.remembered)
    run.store.write_rollouts(step, sampled.trajectories, advantages)
    seconds = {**watch.seconds, "rollout": generated - began, "update": time.monotonic() - generated}
    course = {**resampling_metrics(sampled), **mix_metrics(config.environments, weights, sampled.success),
              **replay_metrics(config.replay, before.remembered, again),
              **cap_metrics(config.rollout.max_turns, state), **kl_metrics(foreseen)}  # fmt: skip
    metrics = {"step": step, **rollout_metrics(sampled.trajectories, advantages), **update, **course}
    run.warn(metrics)
    return {**metrics, **cost_metrics(metrics["tokens/sampled"], seconds)}


def rounds_of(run: Run, policy: Sampler, suite: RewardSuite, state: RunState, watch: Stopwatch) -> RunRound:
    """Runs the rounds of a step, each on a bar of its own."""
    scheduler, most = training_scheduler(run, state), 1 + run.config.rollout.dynamic_sampling

    def run_round(specs: Sequence[EpisodeSpec], number: int) -> list[Trajectory]:
        where = f", round {number + 1} of at most {most}" if number else ""
        run.reporter.begin(f"step {state.step}: episodes{where}", len(specs))
        return run_sync(scheduler.run(specs, policy, suite, run.reporter.episode, state, watch))

    return run_round


def progress_after(run: Run, sampled: Sampled, advantages: Sequence[float | None]) -> Progress:
    """Where the run stands after a step: the seeds used, the success of the mix, what may be replayed."""
    before, config, step = run.progress, run.config, run.progress.step + 1
    good = worth_remembering(step, sampled.trajectories, advantages, sampled.entries, sampled.size)
    return dataclasses.replace(
        before, step=step, cursor=sampled.cursor, success=followed(config.curriculum, before.success, sampled.success),
        remembered=best((*before.remembered, *good), config.replay),
    )  # fmt: skip


def training_scheduler(run: Run, state: RunState) -> SharedScheduler:
    """How training episodes run where the run stands."""
    r = run.config.rollout
    limits = EpisodeLimits(cap_at(r.max_turns, state), r.window)
    return SharedScheduler(limits, r.concurrency, r.max_batch, r.deterministic, run.processes, run.shards)


def state_of(run: Run, steps: int) -> RunState:
    """Where the run stands, for scheduled weights."""
    return RunState(run.progress.step + 1, run.progress.step / max(steps, 1), run.metrics)
