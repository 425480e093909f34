"""What an update and a sampler take beside the weights, found by running them on a model without weights.

Comes in: a model on the ``meta`` device, and how large its passes are.  Goes out: bytes.  The model's own code runs,
with its adapter and its checkpointing, so that every tensor that it keeps for the backward pass counts, whatever its
architecture; nothing is computed.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from mmrl.errors import BadInput, one_line
from mmrl.image import Image
from mmrl.training_args import TrainingArgs
from mmrl_agents.blueprint import META, in_four_bits, nbytes
from mmrl_agents.critic import Critic
from mmrl_agents.decoder import base_of, with_cache
from mmrl_agents.feed import Feed
from mmrl_agents.fused import fused
from mmrl_agents.generate import draw
from mmrl_agents.head import log_probabilities
from mmrl_agents.kv_cache import SlabLayer, Target, room_for
from mmrl_agents.learner import eval_mode
from mmrl_agents.passes import Pass, Passes
from mmrl_agents.rehearsal import Sampling
from mmrl_agents.tally import Tally


@dataclass(frozen=True)
class Learned:
    """What an update takes beside weights and the optimiser's state, in bytes.

    Attributes:
        peak: at its peak.
        gradients: how much of that are gradients of passes before.
    """

    peak: int
    gradients: int


@dataclass(frozen=True)
class Sampled:
    """What a sampler takes beside weights, in bytes: keys and values, and the rest of its peak."""

    cache: int
    work: int


def trace_update(model: Any, passes: Passes, args: TrainingArgs, feed: Feed, critic: bool) -> Learned:
    """Run the largest passes of an update forward and backward.

    Args:
        model: from :func:`mmrl_agents.blueprint.blueprint`.
        passes: how many there are, and the largest.
        args: how it learns.
        feed: what the model is fed.
        critic: whether a critic learns beside it.

    Raises:
        BadInput: if the model's code needs values to run.
    """
    eval_mode(model)
    base = base_of(model)
    head = Critic(base.get_output_embeddings().weight.shape[1], model.dtype, META) if critic else None
    gradients = nbytes([p for p in model.parameters() if p.requires_grad])
    unpacked = max((w.nbytes for w in in_four_bits(model)), default=0) if args.load_in_4bit else 0
    again = passes.count > 1
    with fused(), Tally(_held(model)) as tally, _explained(base):
        for one in passes.largest * (2 if again else 1):
            _learn(model, one, feed, head, args.entropy_coef > 0)
    model.zero_grad(set_to_none=True)
    return Learned(tally.peak + unpacked, gradients if again else 0)


def _learn(model: Any, one: Pass, feed: Feed, critic: Critic | None, learn_entropy: bool) -> None:
    base = base_of(model)
    inputs = _inputs(base, one.packs, one.slots, feed, one.images)
    if one.branches:
        inputs["attention_mask"] = torch.zeros((one.packs, 1, one.slots, one.slots), dtype=base.dtype, device=META)
    hidden = base.get_decoder()(**inputs, use_cache=False).last_hidden_state
    states = hidden.flatten(0, 1).index_select(0, torch.zeros(one.states, dtype=torch.long, device=META))

    def head(some: Tensor) -> Tensor:
        return feed.allowed(base.get_output_embeddings()(some).float())

    # Which state each is asked of decides nothing but the cuts into chunks: evenly.
    of = torch.arange(one.asked) * one.states // one.asked
    vocabulary = base.config.get_text_config().vocab_size
    logp, _ = log_probabilities(states, of, torch.zeros_like(of), head, vocabulary, learn_entropy)
    loss = logp.sum() if critic is None else logp.sum() + critic(states).sum()
    loss.backward()


@torch.no_grad()
def trace_sampling(model: Any, sampling: Sampling, feed: Feed) -> Sampled:
    """Run a sampler's largest batch of new tokens, and its last token where all rows are at their longest.

    Args:
        model: from :func:`mmrl_agents.blueprint.blueprint`.
        sampling: how much is sampled at once.
        feed: what the model is fed.

    Raises:
        BadInput: if the model's code needs values to run.
    """
    model.eval()
    base, decoder = base_of(model), base_of(model).get_decoder()
    count = base.config.get_text_config().num_hidden_layers
    with fused(), Tally(_held(model)) as tally, _explained(base):
        layers = [SlabLayer() for _ in range(count)]
        _read(base, decoder, sampling.fed_rows, sampling.fed_tokens, layers, feed, sampling.images)
        read, like = tally.peak, [(layer.keys, layer.values) for layer in layers]
        shapes = [(k.shape, v.shape) for k, v in like if k is not None and v is not None]
        del layers, like
        layers = [_full(keys, values, sampling, base.dtype) for keys, values in shapes]
        cache = sum(room.nbytes for layer in layers for room in (layer.room_k, layer.room_v) if room is not None)
        logits = _read(base, decoder, sampling.rows, 1, layers, feed, ())
        draw(logits, torch.zeros(sampling.rows, dtype=torch.float64, device=META), 0.9)
    return Sampled(cache, max(0, max(read, tally.peak) - cache))


def _read(base: Any, decoder: Any, rows: int, tokens: int, layers: Sequence[SlabLayer], feed: Feed,
          images: Sequence[Image]) -> Tensor:  # fmt: skip
    """Feed new tokens to all rows; returns the logits after the last."""
    inputs = _inputs(base, rows, tokens, feed, images)
    slots, nowhere = layers[0].used + tokens, torch.zeros(rows * tokens, dtype=torch.long, device=META)
    for layer in layers:
        layer.target = Target(None, nowhere, nowhere, rows, slots)
    mask = torch.ones((rows, 1, tokens, slots), dtype=torch.bool, device=META)
    hidden = decoder(**{**inputs, "attention_mask": mask}, use_cache=True,
                     **with_cache(decoder, Cache(layers=[*layers]))).last_hidden_state  # fmt: skip
    return feed.allowed(base.get_output_embeddings()(hidden[:, -1])).index_select(0, torch.zeros(
        rows, dtype=torch.long, device=META))  # fmt: skip


def _full(keys: torch.Size, values: torch.Size, sampling: Sampling, dtype: torch.dtype) -> SlabLayer:
    """A layer that holds all but the last token of every row, with the room that it has grown to by then."""
    room, layer = room_of(sampling), SlabLayer()
    made = [torch.empty((sampling.rows, heads, room, dim), dtype=dtype, device=META)
            for _, heads, _, dim in (keys, values)]  # fmt: skip
    layer.load(made[0], made[1], sampling.length - 1)
    return layer


def room_of(sampling: Sampling) -> int:
    """Tokens that a row has room for in the end: room grows whenever it is used up."""
    room = room_for(min(sampling.fed_tokens, sampling.length))
    while room < sampling.length:
        room = room_for(room + 1)
    return room


def _inputs(base: Any, rows: int, tokens: int, feed: Feed, images: Sequence[Image]) -> dict[str, Tensor]:
    """What a decoder is fed."""
    ids = torch.zeros((rows, tokens), dtype=torch.long, device=META)
    if feed.vision is None:
        return {"input_ids": ids, "position_ids": ids}
    embedded = base.get_input_embeddings()(ids)
    if images:
        features = torch.cat([*feed.vision.features(images).values()]).to(embedded.dtype)
        embedded = embedded.masked_scatter(torch.zeros((rows, tokens, 1), dtype=torch.bool, device=META), features)
    return {"inputs_embeds": embedded, "position_ids": ids.expand(3, -1, -1) if feed.vision.grid else ids}


def _held(model: Any) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


@contextmanager
def _explained(base: Any) -> Generator[None]:
    """Turns what a model's code raises without values into one line."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:  # whatever a model's own code raises on being run in this way
        raise BadInput(f"model type '{base.config.model_type}' does not run without its weights, so that what it takes "
                       f"cannot be planned: {one_line(error)}") from error  # fmt: skip
