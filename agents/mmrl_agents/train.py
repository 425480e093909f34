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
from mmrl.errors import BadInput
from mmrl.make import make
from mmrl.ready import make_ready
from mmrl.report import Reporter
from mmrl.run_state import newest
from mmrl.serving import Launch, Place
from mmrl_agents.batches import Batches, make_batches
from mmrl_agents.check_context import check_context, check_room
from mmrl_agents.check_images import check_images
from mmrl_agents.checkpoint import Progress
from mmrl_agents.credit import find_method, no_states
from mmrl_agents.curriculum import check_curriculum
from mmrl_agents.drawn import Drawn
from mmrl_agents.failures import say_what_failed
from mmrl_agents.foresight import kl_metrics
from mmrl_agents.heldout import HeldOut
from mmrl_agents.lesson import lesson_of, with_replays, without_advantage
from mmrl_agents.memory import MemoryPlanner, by_rehearsal
from mmrl_agents.metrics import cost_metrics, rollout_metrics
from mmrl_agents.processes import in_step
from mmrl_agents.replay import Library, best, check_replay, replay_metrics, replayed, worth_remembering
from mmrl_agents.run import Run, check_names, open_run, publish, save_checkpoint
from mmrl_agents.same_run import check_same_config
from mmrl_agents.sampler import check_sampler
from mmrl_agents.sampling import all_advantages, check_sampling, kept_credit
from mmrl_agents.serve import server
from mmrl_agents.staleness import check_staleness, limit_of, staleness_metrics, without_stale
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
        check_staleness(loaded)
        if not loaded.config.reward_plugins:
            raise BadInput(f"{loaded.path}: {loaded.config.train_type} needs at least one entry in reward_plugins")

    def planner(self) -> MemoryPlanner:
        """Plan its memory; see :class:`mmrl.memory_plan.Plans`."""
        return MemoryPlanner(by_rehearsal)

    def server(self, loaded: LoadedConfig, place: Place) -> Launch:
        """How a server to sample with is started; see :class:`mmrl.serving.Serves`."""
        return server(loaded, place)

    @in_step
    def train(self, loaded: LoadedConfig, resume: bool, reporter: Reporter) -> Path:
        """Train; see :class:`mmrl.trainer.Trainer`."""
        suite = check_config(loaded)[1]
        if resume:
            check_same_config(loaded)
        make_ready(loaded, suite, reporter)
        sizes = plan(loaded.config)
        run = open_run(loaded, resume, reporter, sizes.steps * loaded.config.training_args.num_iterations)
        with closing(make_batches(run, suite, sizes)) as batches:
            held_out, library = HeldOut(run), Library(run.store)
            if run.progress.step == 0:
                held_out.final("before")
                if loaded.config.warm_start is not None:
                    warm_start(run, loaded.config.warm_start)
                    publish(run, "warm")
                    held_out.final("warm")
                    held_out.choose_best()
            while not finished(run, sizes.steps):
                started = time.monotonic()
                metrics = train_step(run, batches, sizes, library)
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


def train_step(run: Run, batches: Batches, sizes: Plan, library: Library) -> dict[str, float]:
    """One step: take its episodes, compare them in their groups, update, store."""
    config, before, step = run.config, run.progress, run.progress.step + 1
    began = time.monotonic()
    drawn = batches.take()
    generated, ran = time.monotonic(), drawn.sampled.trajectories
    say_what_failed(run, step, ran)
    sampled = without_stale(drawn.sampled, before.step, limit_of(config.rollout))
    again = library.fetch(replayed(before.remembered, config, sizes, step))
    foreseen = run.learner.foresee([*sampled.batch, *(t for t, _ in again)])
    earned = kept_credit(sampled, config, foreseen)
    lesson = with_replays(lesson_of(sampled.batch, earned), again)
    if not lesson.trajectories and config.training_args.entropy_target is not None:
        lesson = without_advantage(ran)
    update = run.learner.update(lesson.trajectories, lesson.advantages, lesson.turns, lesson.tokens, lesson.returns,
                                foreseen)  # fmt: skip
    advantages = all_advantages(sampled, earned)
    run.progress = progress_after(run, drawn, advantages)
    library.keep(ran, run.progress.remembered)
    run.store.write_rollouts(step, ran, advantages)
    seconds = {**drawn.seconds, "rollout": generated - began, "update": time.monotonic() - generated}
    course = {**staleness_metrics(ran, before.step, config.rollout),
              **replay_metrics(config.replay, before.remembered, again), **kl_metrics(foreseen)}  # fmt: skip
    metrics = {"step": step, **rollout_metrics(ran, advantages), **drawn.compared(update), **drawn.metrics(config),
               **course}  # fmt: skip
    run.warn(metrics)
    return {**metrics, **cost_metrics(metrics["tokens/sampled"], seconds)}


def progress_after(run: Run, drawn: Drawn, advantages: Sequence[float | None]) -> Progress:
    """Where the run stands after a step: the seeds used, the success of the mix, what may be replayed."""
    before, sampled, step = run.progress, drawn.sampled, run.progress.step + 1
    good = worth_remembering(step, sampled.trajectories, advantages, sampled.entries, sampled.size)
    return dataclasses.replace(before, step=step, cursor=sampled.cursor, success=drawn.success,
                               remembered=best((*before.remembered, *good), run.config.replay))  # fmt: skip
