"""The memory of a GRPO run, worked out on a model of shapes (see :mod:`mmrl_agents.shadow`).

Comes in: a configuration and its worst moments in tokens.  Goes out: bytes by phase and part.  The same learner and
sampler run as in training, so that every product, mask and copy of theirs counts; only their numbers are not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmrl.config import Config, TrainingArgs
from mmrl.memory import Phase
from mmrl.trajectory import Trajectory
from mmrl_agents.decoder import base_of, evaluating
from mmrl_agents.feed import Feed
from mmrl_agents.four_bit import BITS
from mmrl_agents.generate import CACHE_BYTES, Generator
from mmrl_agents.image_tokens import image_tokens
from mmrl_agents.kv_cache import RaggedCache
from mmrl_agents.learner import Learner
from mmrl_agents.models import ModelFiles
from mmrl_agents.optimizers import OPTIMIZERS, state_bytes
from mmrl_agents.probe import Played
from mmrl_agents.reference import Reference
from mmrl_agents.shadow import Shadowing, shadow_model
from mmrl_agents.tally import Tally
from mmrl_agents.vision import Vision
from mmrl_agents.workload import Sampling, growths, held_out_sampling, training_sampling, update_of


def phases(config: Config, files: ModelFiles, processing: Any, played: Played, host: bool) -> tuple[Phase, ...]:
    """The phases of a run.

    Args:
        config: the run's.
        files: of its model.
        processing: its tokenizer or processor.
        played: its episodes.
        host: whether it runs on the host, where checkpoints are put together too.
    """
    args = config.training_args
    traced = args if OPTIMIZERS[args.optim].package is None else args.model_copy(update={"optim": "adamw"})
    model, reference = shadow_model(files, traced)
    weights = weight_bytes(model, args)
    state = state_bytes(model, [p for p in model.parameters() if p.requires_grad], args)
    held = {"weights": weights, "reference": reference_bytes(model, reference), "optimiser": state}
    with Shadowing():
        tokens = image_tokens(processing)
        vision = None if tokens is None else Vision(model, tokens)
        rollout = config.rollout
        learner = Learner(model, traced, rollout.temperature, 1, reference, rollout.max_new_tokens, vision)
        out = [Phase("rollout", {**held, **sampled(model, vision, training_sampling(config, played.steps), args)})]
        gradients = sum(p.nbytes for p in learner.parameters)
        activations = updated(learner, config, played.steps, gradients) + dequantised(model, args)
        out.append(Phase("update", {**held, "gradients": gradients, "activations": activations}))
        evaluation = held_out_sampling(config, played.held_out)
        if evaluation is not None:
            second = {"best, loaded": weights} if config.eval.episodes and config.eval.final_episodes else {}
            out.append(Phase("evaluation", {**held, **second, **sampled(model, vision, evaluation, args)}))
    if host:
        out.append(Phase("checkpoint", {**held, "copies": max(state, saved_bytes(model))}))
    return tuple(out)


def updated(learner: Learner, config: Config, steps: Sequence[Sequence[Trajectory]], gradients: int) -> int:
    """Bytes that the heaviest micro-batch of a run's update needs beside its gradients."""
    text = learner.model.config.get_text_config()
    work = update_of(config, steps, text.vocab_size, 16 * text.num_hidden_layers * text.hidden_size)
    for parameter in learner.parameters:  # a step, so that the optimiser's state is there, as it is from the second on
        parameter.grad = torch.zeros_like(parameter)
    learner.optimizer.step()
    learner.entropy = 0.0  # so that a bonus with a target acts
    first = work.micro_batches == 1
    if first:
        learner.optimizer.zero_grad(set_to_none=True)
    with Tally() as tally:
        learner.update(work.segments, [1.0 - 2.0 * (i % 2) for i in range(len(work.segments))])
    return tally.peak - gradients if first else tally.peak


@torch.no_grad()
def sampled(model: Any, vision: Vision | None, work: Sampling, args: TrainingArgs) -> dict[str, int]:
    """Bytes that sampling needs: keys and values when they are most, and what is computed beside them."""
    generator = Generator(model, (), 1.0, vision)
    with Tally() as begin:
        generator.sample(work.prompts)
    generator.rest()
    # The worst is where the cache grows for the last time, or where it last takes in much at once.
    grown = growths(work.widths)
    much = [i for i, width in enumerate(work.widths) if width > 1 and i > 0]
    moments = [after(model, vision, work, i) for i in {*grown[-1:], *much[-1:]}] or [(begin.peak, 0)]
    keys = max(held for _, held in moments)
    kept = keys * (work.batches - 1) if keys * work.batches <= CACHE_BYTES else 0
    worst = max(begin.peak, *(peak for peak, _ in moments)) + dequantised(model, args)
    return {"keys and values": keys + kept, "sampling": max(worst - keys, 0)}


def after(model: Any, vision: Vision | None, work: Sampling, index: int) -> tuple[int, int]:
    """The most bytes of a batch's pass ``index``, and those of its keys and values after it.

    The cache is brought there in as few passes as give it the room that it would have.
    """
    grown = [i for i in growths(work.widths) if i < index]
    made = sum(work.widths[: grown[-1] if grown else index])
    steps = [work.widths[grown[-1]], sum(work.widths[grown[-1] + 1 : index])] if grown else []
    with evaluating(model), Tally() as tally:
        cache = RaggedCache.empty([None], layers_of(model), model.device)
        cache.forward(model, [[0] * made], Feed(vision))
        cache = cache.select([0] * work.rows, [None] * work.rows)
        for width in [w for w in (*steps, work.widths[index]) if w]:
            tally.peak = tally.live
            cache.forward(model, [[0] * width] * work.rows, Feed(vision))
    return tally.peak, cache.nbytes


def layers_of(model: Any) -> int:
    """How many layers keep keys and values."""
    return model.config.get_text_config().num_hidden_layers


def _quantised(model: Any, args: TrainingArgs) -> list[Tensor]:
    """The weights that lie in 4 bits: of linear layers but for the head and the adapter."""
    base = base_of(model)
    head = base.get_output_embeddings()
    linear = [m for m in base.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    return [m.weight for m in linear if args.load_in_4bit and not m.weight.requires_grad]


def weight_bytes(model: Any, args: TrainingArgs) -> int:
    """Bytes of a model's weights and buffers, tied ones once, 4-bit ones as such."""
    small = {id(w) for w in _quantised(model, args)}
    whole = sum(t.nbytes for t in [*model.parameters(), *model.buffers()] if id(t) not in small)
    return whole + round(sum(w.numel() for w in _quantised(model, args)) * BITS / 8)


def dequantised(model: Any, args: TrainingArgs) -> int:
    """Bytes of the largest 4-bit weight as the product with it needs it."""
    return max((w.nbytes for w in _quantised(model, args)), default=0)


def reference_bytes(model: Any, reference: Reference | None) -> int:
    """Bytes of the reference, where it is a model of its own."""
    if reference is None:
        return 0
    with reference() as other:
        return 0 if other is model else sum(p.nbytes for p in other.parameters())


def saved_bytes(model: Any) -> int:
    """Bytes of what a checkpoint writes of the model: all of it, or what is trained of an adapter."""
    return sum(p.nbytes for p in (model.parameters() if base_of(model) is model else
                                  (p for p in model.parameters() if p.requires_grad)))  # fmt: skip
