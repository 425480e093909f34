"""What a run will take of memory, told from its configuration.

Comes in: a configuration.  Goes out: a :class:`mmrl.memory_plan.MemoryPlan`.  The model is laid out without weights,
the run's first step (unless it learns from stored rollouts, which are read) and its evaluations are rehearsed with
random answers, and the model's own code is traced over the largest passes of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from mmrl.config import Config
from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.memory_plan import MemoryPlan
from mmrl.training_args import TrainingArgs
from mmrl.trajectory import Trajectory
from mmrl_agents.batch import Segment, segments_of
from mmrl_agents.blueprint import Sizes, blueprint, sizes_of
from mmrl_agents.credit import find_method
from mmrl_agents.feed import Feed
from mmrl_agents.host_memory import in_use
from mmrl_agents.image_tokens import ImageTokens
from mmrl_agents.imitation import imitation_segments
from mmrl_agents.models import ModelFiles, find_model, load_generation, load_processing, text_context
from mmrl_agents.passes import Passes, passes_of
from mmrl_agents.reading import WAYS
from mmrl_agents.rehearsal import Sampling, rehearse, rehearse_evaluations, samplings_of
from mmrl_agents.run import dtype_of
from mmrl_agents.tasks import plan
from mmrl_agents.trace import Sampled, trace_sampling, trace_update
from mmrl_agents.transcript import Transcript
from mmrl_agents.turns import end_ids
from mmrl_agents.vision import Vision


@dataclass(frozen=True)
class Work:
    """What a run does at most at once: the segments of a step, and what it samples in steps and in evaluations."""

    segments: tuple[Segment, ...]
    sampling: Sequence[Sampling]


FindWork = Callable[[LoadedConfig, Transcript, int], Work]
"""From a configuration, how text becomes tokens, and the tokens that the model holds."""


def by_rehearsal(loaded: LoadedConfig, transcript: Transcript, context: int) -> Work:
    """The work of a run that learns from its own episodes."""
    played = rehearse(loaded.config, plan(loaded.config), transcript, context)
    segments = [s for i, t in enumerate(played) for s in segments_of(t, i)]
    evaluated = rehearse_evaluations(loaded.config, transcript, context)
    return Work(tuple(segments), samplings_of(loaded.config, played, evaluated))


def from_stored(read: Callable[[Config], Sequence[Trajectory]]) -> FindWork:
    """The work of a run that learns from stored rollouts: of their longest segments, as many as make a step."""

    def find(loaded: LoadedConfig, transcript: Transcript, context: int) -> Work:
        config, args = loaded.config, loaded.config.training_args
        rows = [s for i, t in enumerate(read(config))
                for s in imitation_segments(t, i, transcript, config.rollout.window)]  # fmt: skip
        size = args.per_device_train_batch_size * args.gradient_accumulation_steps
        longest = sorted(rows, key=lambda s: -len(s.ids))[:size]
        return Work(tuple(longest), samplings_of(config, [], rehearse_evaluations(config, transcript, context)))

    return find


class MemoryPlanner:
    """Plans a run and its variants; see :class:`mmrl.memory_plan.Planner`.

    Args:
        find_work: what the run does.
        refers: whether it keeps a reference policy whatever ``kl_coef``.
    """

    def __init__(self, find_work: FindWork, refers: bool = False) -> None:
        self._find_work = find_work
        self._refers = refers
        self._known: list[tuple[Any, Work]] = []

    def plan(self, loaded: LoadedConfig, gpu: bool = False) -> MemoryPlan:
        """Plan a run's memory: on a GPU of any kind, or where it would run on this machine."""
        config, args = loaded.config, loaded.config.training_args
        files = find_model(config.model_id, loaded.where("model_id"))
        processing = load_processing(files)
        transcript = Transcript(processing, end_ids(load_generation(files), processing))
        work = self._work(loaded, transcript, files)
        model = blueprint(files, args)
        feed = Feed(_vision(model, transcript.image_tokens))
        critic = find_method(args.advantage).critic
        refers = self._refers or args.kl_coef > 0
        sizes = sizes_of(model, files, args, refers)
        passes = passes_of(work.segments, model, args, feed)
        on_host = not gpu and not torch.cuda.is_available()
        ways = [way for way in WAYS if way != "packed" or on_host]  # as mmrl_agents.reading.way_to_read looks for one
        found = [(traced(model, s, Feed(_vision(model, transcript.image_tokens)), ways), s) for s in work.sampling]
        sampled, sampling = max(found, key=lambda t: t[0].cache + t[0].work, default=(None, None))
        learned = trace_update(model, passes, args, Feed(_vision(model, transcript.image_tokens)), critic)
        ahead = config.rollout.async_steps
        copies = 0 if not ahead else ahead + 1 if on_host else 1  # on the host earlier versions wait in its memory too
        best = config.eval.episodes > 0 and config.eval.final_episodes > 0
        return MemoryPlan(
            weights=sizes.weights,
            reference=sizes.reference,
            optimizer=sizes.optimizer,
            gradients=sizes.gradients,
            activations=learned.peak - learned.gradients,
            kept=learned.gradients,
            cache=sampled.cache if sampled else 0,
            work=sampled.work if sampled else 0,
            best=sizes.weights if best else 0,
            base=in_use() if on_host else 0,
            notes=_notes(args, sizes, passes, sampling, copies),
            tokens=passes.largest[0].tokens,
            rows=sampling.rows if sampling else 0,
            length=max(len(s.ids) for s in work.segments),
            sampler=copies * sizes.gradients,
        )

    def _work(self, loaded: LoadedConfig, transcript: Transcript, files: ModelFiles) -> Work:
        """The work, found once for all variants that do the same."""
        c, args = loaded.config, loaded.config.training_args
        key = (c.model_id, c.environments, c.rollout, c.eval, c.sft, c.logged, args.seed, args.num_generations,
               args.per_device_train_batch_size, args.gradient_accumulation_steps)  # fmt: skip
        for known, work in self._known:
            if known == key:
                return work
        context = min(c.rollout.max_context or text_context(files), text_context(files))
        work = self._find_work(loaded, transcript, context)
        self._known.append((key, work))
        return work


def _vision(model: Any, tokens: ImageTokens | None) -> Vision | None:
    return None if tokens is None else Vision(model, tokens, probe=False)


def traced(model: Any, sampling: Sampling, feed: Feed, ways: Sequence[str]) -> Sampled:
    """What sampling takes, read in the first way that the model's code takes.

    Raises:
        BadInput: if it takes none.
    """
    for way in ways[:-1]:
        with suppress(BadInput):
            return trace_sampling(model, sampling, feed, way)
    return trace_sampling(model, sampling, feed, ways[-1])


def _batches(sampling: Sampling) -> str:
    return f"{sampling.batches} x {sampling.rows}" if sampling.batches > 1 else f"{sampling.rows}"


def _most(sampling: Sampling) -> str:
    fed = max((f for f in (sampling.fresh, sampling.further) if f is not None), key=lambda f: f.rows * f.tokens)
    return f"{fed.rows} x {fed.tokens}"


def _notes(args: TrainingArgs, sizes: Sizes, passes: Passes, sampling: Sampling | None, copies: int) -> dict[str, str]:
    """What stands behind each figure, in words."""
    kind = dtype_of(args) + (", linear layers in 4 bits" if args.load_in_4bit else "")
    one = passes.largest[0]
    lines = f"{one.packs} x {one.slots} tokens" + (" that share beginnings" if one.branches else "")
    held = "" if sampling is None else f"{_batches(sampling)} answers at once, up to {sampling.length} tokens each"
    read = "" if sampling is None else f"up to {_most(sampling)} new tokens, and logits"
    return {
        "weights": f"{sizes.values / 1e6:.1f} million, {kind}",
        "reference": "a frozen copy for KL" if sizes.reference else "",
        "gradients": f"{sizes.learned / 1e6:.1f} million learn",
        "optimizer": args.optim,
        "activations": f"{passes.count} pass{'es' * (passes.count > 1)} a step, the largest {lines}, "
                       f"{one.states} of them through the head"
                       + (", checkpointed" if args.gradient_checkpointing else ""),
        "cache": held,
        "sampler": f"what learns, {copies} time{'s' * (copies > 1)}" if copies else "",
        "work": read,
    }  # fmt: skip
