"""Imitation before reinforcement: a policy that hardly ever succeeds has nothing to learn from its rewards.

Comes in: a new run.  Goes out: its model, having imitated episodes of the environments' own experts for a few steps.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import closing

from mmrl.config import EnvironmentConfig, WarmStart
from mmrl.config_load import LoadedConfig
from mmrl.env import NoExpert
from mmrl.episode import EpisodeLimits, EpisodeSpec
from mmrl.errors import BadInput
from mmrl.make import make
from mmrl.rollout import Scheduler
from mmrl.run_sync import run_sync
from mmrl.training_args import TrainingArgs
from mmrl.trajectory import Trajectory
from mmrl.turn_cap import largest
from mmrl_agents.batch import Segment
from mmrl_agents.imitation import imitation_segments
from mmrl_agents.learner import Learner
from mmrl_agents.policies.noisy_expert import NoisyExpert
from mmrl_agents.run import Run
from mmrl_agents.sft import pick
from mmrl_agents.tasks import NOISE_WARM
from mmrl_agents.transcript import Transcript
from mmrl_agents.turns import end_ids

MICRO_BATCH_TOKENS = 4096
CHUNK = 64


def check_experts(loaded: LoadedConfig) -> None:
    """Refuse a warm start where an environment has no expert.

    Raises:
        BadInput: naming the environment and its place.
    """
    if loaded.config.warm_start is None:
        return
    for i, config in enumerate(loaded.config.environments):
        with closing(make(config.id, **config.kwargs)) as env:
            env.reset(seed=config.seeds.start)
            try:
                env.expert_action()
            except NoExpert as error:
                where = loaded.where("environments", i)
                raise BadInput(f"{where}: warm_start imitates experts, but {error}") from error


def warm_start(run: Run, plan: WarmStart) -> None:
    """Imitate the experts of the run's environments; the model learns in place.

    Raises:
        BadInput: if no expert episode succeeded.
        KeyboardInterrupt: if the reporter was asked to stop.
    """
    began = time.monotonic()
    trajectories, own = expert_episodes(run, plan)
    transcript = Transcript(run.processing, end_ids(run.model.generation_config, run.processing))
    window = run.config.rollout.window
    segments = [
        s
        for i, t in enumerate(trajectories)
        for s in imitation_segments(t, i, transcript, window, own[t.id][: len(t.turns)])
    ]
    run.reporter.say(f"warm start: imitating {len(trajectories)} expert episodes for {plan.steps} steps")
    imitate(run, plan, segments)
    minutes = run.progress.minutes + run.processes.of_first(time.monotonic() - began) / 60
    run.progress = dataclasses.replace(run.progress, minutes=minutes)


def imitate(run: Run, plan: WarmStart, segments: Sequence[Segment]) -> None:
    """The optimiser steps, with an optimiser of their own."""
    own = run.config.training_args
    args = TrainingArgs(
        optim=own.optim,
        galore=own.galore,
        learning_rate=plan.learning_rate,
        warmup_steps=max(1, plan.steps // 10),
        lr_scheduler_type=plan.lr_scheduler_type,
        per_device_train_batch_size=plan.batch_size,
        max_tokens_per_micro_batch=min(MICRO_BATCH_TOKENS, own.max_tokens_per_micro_batch),
    )
    learner = Learner(run.model, args, 1.0, plan.steps, vision=run.learner.vision, sharing=run.learner.sharing,
                      forward=run.learner.forward, processes=run.processes, shards=run.shards)  # fmt: skip
    run.reporter.begin("warm start: imitation steps", plan.steps)
    for step in range(1, plan.steps + 1):
        learner.imitate(pick(segments, step, plan.batch_size, own.seed))
        run.reporter.tick()
        if run.stopping():
            run.store.close()
            raise KeyboardInterrupt


def expert_episodes(run: Run, plan: WarmStart) -> tuple[list[Trajectory], dict[str, list[bool]]]:
    """Successful expert episodes of every training environment, and which turns were the expert's own.

    An environment's weight multiplies how many there are.  Every process of the run makes all of them: no model is
    asked.
    """
    expert = NoisyExpert(plan.noise)
    environments: list[EnvironmentConfig] = run.config.environments
    seed = run.config.training_args.seed
    specs = [
        EpisodeSpec(f"w{e}-{i:05d}", env.id, plan.first_seed + i, f"w{e}-{i}", (NOISE_WARM, seed, e, i), env.kwargs)
        for e, env in enumerate(environments)
        for i in range(max(1, round(plan.episodes * env.weight)))
    ]
    scheduler = Scheduler(EpisodeLimits(largest(run.config.rollout.max_turns), None), CHUNK)
    run.reporter.begin("warm start: expert episodes", len(specs))
    found: list[Trajectory] = run_sync(scheduler.run(specs, expert, None, run.reporter.episode))
    kept = [t for t in found if t.error is None and t.success]
    if not kept:
        why = next((t.error for t in found if t.error), "none ended in success")
        raise BadInput(f"warm_start: none of the {len(found)} expert episodes can be imitated: {why}")
    return kept, expert.own
