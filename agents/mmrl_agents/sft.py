"""Supervised fine-tuning on stored rollouts (``train_type: SFT``): a warm start for GRPO."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from mmrl.check_config import check_config
from mmrl.config import Config
from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.report import Reporter
from mmrl.store import read_trajectories
from mmrl.trajectory import Trajectory
from mmrl_agents.batch import Segment
from mmrl_agents.check_context import check_context, check_fits
from mmrl_agents.check_images import check_images
from mmrl_agents.heldout import HeldOut
from mmrl_agents.imitation import imitation_segments
from mmrl_agents.memory import MemoryPlanner, from_stored
from mmrl_agents.models import find_model, load_generation, load_processing
from mmrl_agents.processes import in_step
from mmrl_agents.run import Run, check_names, open_run, publish, save_checkpoint
from mmrl_agents.tasks import NOISE_SFT
from mmrl_agents.time_limit import finished, say_if_cut_short
from mmrl_agents.transcript import Transcript
from mmrl_agents.turns import end_ids


class Sft:
    """Imitates the answers of stored rollouts."""

    def check(self, loaded: LoadedConfig) -> None:
        """Check names and files; see :class:`mmrl.trainer.Trainer`."""
        check_names(loaded)
        check_images(loaded)
        check_context(loaded)
        for key in ("warm_start", "curriculum", "replay"):
            if getattr(loaded.config, key) is not None:
                raise BadInput(f"{loaded.where(key)}: {key} belongs to GRPO; SFT imitates what 'sft' names")
        if loaded.config.sft is None:
            raise BadInput(f"{loaded.path}: SFT needs a section 'sft' with 'rollouts: [folder, ...]'; "
                           "make some with: mmrl collect")  # fmt: skip
        for i, path in enumerate(loaded.config.sft.rollouts):
            if not path.exists():
                where = loaded.where("sft", "rollouts", i)
                raise BadInput(f"{where}: no rollouts at {path}; make some with: mmrl collect")

    def planner(self) -> MemoryPlanner:
        """Plan its memory; see :class:`mmrl.memory_plan.Plans`."""
        return MemoryPlanner(from_stored(load_imitated))

    @in_step
    def train(self, loaded: LoadedConfig, resume: bool, reporter: Reporter) -> Path:
        """Train; see :class:`mmrl.trainer.Trainer`."""
        check_config(loaded)
        trajectories = load_imitated(loaded.config)
        return learn_offline(loaded, resume, reporter, trajectories, f"imitating {len(trajectories)} episodes",
                             lambda run, segments: run.learner.imitate(segments))  # fmt: skip


Update = Callable[[Run, Sequence[Segment]], dict[str, float]]
"""One optimiser step on these segments; returns metrics."""


def learn_offline(loaded: LoadedConfig, resume: bool, reporter: Reporter, trajectories: Sequence[Trajectory],
                  doing: str, update: Update, refers: bool = False) -> Path:
    """A run that learns from trajectories which are there already.

    Args:
        loaded: the run's configuration.
        resume: go on from the last checkpoint.
        reporter: what the run tells.
        trajectories: what it learns from.
        doing: that in words.
        update: how it learns.
        refers: it needs the reference policy, whatever ``kl_coef``.
    """
    config, args = loaded.config, loaded.config.training_args
    files = find_model(config.model_id)
    processing = load_processing(files)
    transcript = Transcript(processing, end_ids(load_generation(files), processing))
    segments = [
        s for i, t in enumerate(trajectories) for s in imitation_segments(t, i, transcript, config.rollout.window)
    ]
    check_fits(loaded, segments, trajectories)
    size = args.per_device_train_batch_size * args.gradient_accumulation_steps
    steps = args.max_steps if args.max_steps > 0 else max(1, round(args.num_train_epochs * len(segments) / size))
    run = open_run(loaded, resume, reporter, steps, refers)
    if run.progress.step == 0:
        HeldOut(run).final("before")
    reporter.say(f"{doing}, {len(segments)} segments, {steps} steps")
    _loop(run, segments, size, steps, update)
    say_if_cut_short(run, steps)
    publish(run, "final")
    HeldOut(run).final("after")
    run.store.close()
    return run.store.root


def _loop(run: Run, segments: Sequence[Segment], size: int, steps: int, update: Update) -> None:
    args, held_out = run.config.training_args, HeldOut(run)
    while not finished(run, steps):
        began, step = time.monotonic(), run.progress.step + 1
        metrics: dict[str, float] = {"step": step}
        metrics |= update(run, pick(segments, step, size, args.seed))
        metrics["time/minutes"] = run.progress.minutes + (time.monotonic() - began) / 60
        metrics = run.processes.of_first(metrics)
        run.progress = dataclasses.replace(run.progress, step=step, minutes=metrics["time/minutes"])
        last = finished(run, steps)
        if last or step % run.config.eval.every == 0:
            metrics |= held_out.choose_best()
        run.store.log(metrics)
        run.reporter.step(step, steps, metrics)
        stopping = run.stopping()
        if last or stopping or step % args.save_steps == 0:
            save_checkpoint(run)
        if stopping and not last:
            run.store.close()
            raise KeyboardInterrupt


def load_imitated(config: Config) -> list[Trajectory]:
    """The trajectories that a config's ``sft`` section names.

    Raises:
        BadInput: if nothing is left to imitate.
    """
    assert config.sft is not None
    found = [t for path in config.sft.rollouts for t in read_trajectories(path)]
    kept = [t for t in found if t.turns and t.error is None and (t.success or not config.sft.success_only)]
    if not kept:
        raise BadInput(f"sft.rollouts: none of the {len(found)} stored episodes succeeded; set sft.success_only=false "
                       "to imitate failures too")  # fmt: skip
    return kept


def pick(segments: Sequence[Segment], step: int, size: int, seed: int) -> list[Segment]:
    """The segments of one step: a new shuffle each epoch, a function of the step alone."""
    return [segments[i] for i in _order(len(segments), (step - 1) * size, size, seed)]


def _order(n: int, start: int, size: int, seed: int) -> Iterable[int]:
    shuffles: dict[int, Sequence[int]] = {}
    for at in range(start, start + size):
        epoch, place = divmod(at, n)
        if epoch not in shuffles:
            key = np.random.SeedSequence((NOISE_SFT, seed, epoch))
            shuffles[epoch] = np.random.Generator(np.random.Philox(key)).permutation(n).tolist()
        yield shuffles[epoch][place]
