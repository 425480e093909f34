"""GRPO: the training loop, one screen.

rollouts -> rewards -> advantages in each group -> update -> next version of the policy
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from mmrl.check_config import check_config
from mmrl.config_load import LoadedConfig
from mmrl.episode import EpisodeLimits
from mmrl.errors import BadInput
from mmrl.make import make
from mmrl.memory import MemoryPlan
from mmrl.report import Reporter
from mmrl.reward import RewardSuite
from mmrl.rollout import Scheduler
from mmrl.run_state import RunState, newest
from mmrl.run_sync import run_sync
from mmrl.stopwatch import Stopwatch
from mmrl.trajectory import Trajectory
from mmrl_agents.check_images import check_images
from mmrl_agents.credit import credit, find_method, no_states
from mmrl_agents.heldout import HeldOut
from mmrl_agents.metrics import cost_metrics, rollout_metrics
from mmrl_agents.planner import plan_run
from mmrl_agents.policies.hf import HFPolicy
from mmrl_agents.run import Run, check_names, open_run, publish, save_checkpoint
from mmrl_agents.tasks import Plan, plan, step_specs
from mmrl_agents.warm_start import check_experts, warm_start


class Grpo:
    """Group-relative policy optimisation (``train_type: GRPO``)."""

    def check(self, loaded: LoadedConfig) -> None:
        """Check sizes, names and rewards; see :class:`mmrl.trainer.Trainer`."""
        plan(loaded.config)
        check_names(loaded)
        check_images(loaded)
        check_experts(loaded)
        check_states(loaded)
        if not loaded.config.reward_plugins:
            raise BadInput(f"{loaded.path}: GRPO needs at least one entry in reward_plugins")

    def plan(self, loaded: LoadedConfig, limit: int | None) -> MemoryPlan:
        """Say what memory it will take; see :class:`mmrl.trainer.Planner`."""
        return plan_run(loaded, limit)

    def train(self, loaded: LoadedConfig, resume: bool, reporter: Reporter) -> Path:
        """Train; see :class:`mmrl.trainer.Trainer`."""
        suite = check_config(loaded)[1]
        sizes = plan(loaded.config)
        run = open_run(loaded, resume, reporter, sizes.steps * loaded.config.training_args.num_iterations)
        policy = make_policy(run)
        held_out = HeldOut(run)
        if run.progress.step == 0:
            held_out.final("before")
            if loaded.config.warm_start is not None:
                warm_start(run, loaded.config.warm_start)
                policy.updated(0)
                held_out.final("warm")
                held_out.choose_best()
        while not finished(run, sizes.steps):
            started = time.monotonic()
            metrics = train_step(run, policy, suite, sizes)
            minutes = run.progress.minutes + (time.monotonic() - started) / 60
            run.progress = dataclasses.replace(run.progress, minutes=minutes)
            last = finished(run, sizes.steps)
            if last or run.progress.step % loaded.config.eval.every == 0:
                metrics |= held_out.choose_best()
            run.store.log(metrics)
            run.metrics = newest(run.metrics, metrics)
            reporter.step(run.progress.step, sizes.steps, metrics)
            if last or reporter.stopping or run.progress.step % loaded.config.training_args.save_steps == 0:
                save_checkpoint(run)
            if reporter.stopping and not last:
                run.store.close()
                raise KeyboardInterrupt
        publish(run, "final")
        held_out.final("after")
        run.store.close()
        return run.store.root


def check_states(loaded: LoadedConfig) -> None:
    """Refuse credit by state where an environment says nothing of its state."""
    args = loaded.config.training_args
    by_state = {
        ("turn_baseline", "state", "group"): args.turn_baseline == "state",
        ("advantage", args.advantage, "grpo"): find_method(args.advantage).states,
    }
    for words in (w for w, asked in by_state.items() if asked):
        for i, config in enumerate(loaded.config.environments):
            with closing(make(config.id, **config.kwargs)) as env:
                if "state_key" not in env.reset(seed=config.seeds.start)[1]:
                    raise BadInput(f"{loaded.where('environments', i)}: {no_states(config.id, *words)}")


def finished(run: Run, steps: int) -> bool:
    """Whether the last step or the last minute is over."""
    limit = run.config.training_args.max_minutes
    return run.progress.step >= steps or (limit is not None and run.progress.minutes >= limit)


def make_policy(run: Run) -> HFPolicy:
    """The sampler: the learner's own model."""
    rollout = run.config.rollout
    policy = HFPolicy(run.model, run.processing, rollout.temperature, rollout.max_new_tokens, rollout.max_context,
                      run.learner.vision)  # fmt: skip
    policy.updated(run.progress.step)
    if run.config.training_args.use_vllm_sampler:
        run.reporter.say("use_vllm_sampler: no vLLM sampler is installed; sampling with Hugging Face")
    return policy


def train_step(run: Run, policy: HFPolicy, suite: RewardSuite, sizes: Plan) -> dict[str, float]:
    """One step: run the episodes, compare them in their groups, update, store."""
    step = run.progress.step + 1
    specs, cursor = step_specs(run.config, sizes, step, run.progress.cursor)
    run.reporter.begin(f"step {step}: episodes", len(specs))
    began = time.monotonic()
    state = state_of(run, sizes.steps)
    watch = Stopwatch()
    trajectories = run_sync(training_scheduler(run).run(specs, policy, suite, run.reporter.episode, state, watch))
    policy.generator.rest()
    generated = time.monotonic()
    warn_of_failures(run, trajectories)
    earned = credit(trajectories, sizes.size, run.config)
    chosen = [(t, a) for t, a in zip(trajectories, earned.advantages, strict=True) if a is not None]
    update = run.learner.update([t for t, _ in chosen], [a for _, a in chosen], earned.turns, earned.tokens)
    policy.updated(step)
    run.progress = dataclasses.replace(run.progress, step=step, cursor=tuple(cursor))
    run.store.write_rollouts(step, trajectories, earned.advantages)
    seconds = {**watch.seconds, "rollout": generated - began, "update": time.monotonic() - generated}
    metrics = {"step": step, **rollout_metrics(trajectories, earned.advantages), **update}
    run.warn(metrics)
    return {**metrics, **cost_metrics(metrics["tokens/sampled"], seconds)}


def training_scheduler(run: Run) -> Scheduler:
    """How training episodes run."""
    r = run.config.rollout
    return Scheduler(EpisodeLimits(r.max_turns, r.window), r.concurrency, r.max_batch, r.deterministic)


def warn_of_failures(run: Run, trajectories: Sequence[Trajectory]) -> None:
    """Say which plugins failed, how often, and the first error of each."""
    failed: dict[str, list[str]] = {}
    for t in trajectories:
        for name, score in (t.record.scores if t.record else {}).items():
            if score.status == "failed":
                failed.setdefault(name, []).append(str(score.info.get("error", "")))
    for name, errors in failed.items():
        why = errors[0].partition("\n")[0]
        run.reporter.say(f"plugin '{name}' failed on {len(errors)} of {len(trajectories)} rollouts: {why}")


def state_of(run: Run, steps: int) -> RunState:
    """Where the run stands, for scheduled weights."""
    return RunState(run.progress.step + 1, run.progress.step / max(steps, 1), run.metrics)
