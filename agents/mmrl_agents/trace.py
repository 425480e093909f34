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

from mmrl.errors import BadInput, one_line
from mmrl.image import Image
from mmrl.training_args import TrainingArgs
from mmrl_agents.blueprint import META, in_four_bits, nbytes
from mmrl_agents.critic import Critic
from mmrl_agents.decoder import base_of
from mmrl_agents.feed import Feed
from mmrl_agents.fused import fused
from mmrl_agents.generate import draw
from mmrl_agents.head import log_probabilities
from mmrl_agents.kv_cache import RaggedCache, room_for
from mmrl_agents.learner import eval_mode
from mmrl_agents.passes import Pass, Passes
from mmrl_agents.reading import WAYS
from mmrl_agents.rehearsal import Fed, Sampling
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


Shapes = tuple[torch.Size, torch.Size, torch.dtype]
"""Of a layer's keys and of its values, and the type of both."""


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
def trace_sampling(model: Any, sampling: Sampling, feed: Feed, way: str) -> Sampled:
    """Let a sampler read its largest batch of new tokens, and its last token where all rows are at their longest.

    Args:
        model: from :func:`mmrl_agents.blueprint.blueprint`.
        sampling: how much is sampled at once.
        feed: what the model is fed.
        way: how it reads, one of :data:`mmrl_agents.reading.WAYS`.

    Raises:
        BadInput: if the model's code needs values to run.
    """
    model.eval()
    base, read, words = base_of(model), WAYS[way], _Words(feed.vision)
    with fused(), Tally(_held(model)) as tally, _explained(base):
        features = feed.vision.features(sampling.images) if feed.vision and sampling.images else None
        fresh, further = sampling.fresh, sampling.further
        prompts = _cache(base, fresh.rows)
        read(prompts, model, [[0] * fresh.tokens] * fresh.rows, words, ())
        del features
        shapes = [(layer.keys.shape, layer.values.shape, layer.keys.dtype) for layer in prompts.layers
                  if layer.keys is not None and layer.values is not None]  # fmt: skip
        shares = way == "packed" and sampling.prompts > 0
        cache = _shared(prompts, sampling, shapes) if shares else None
        del prompts
        if further is not None:
            read(_turned(base, sampling.ends, further, shapes), model, [[0] * further.tokens] * further.rows, words, ())
        reading, tally.peak = tally.peak, tally.now
        cache = cache or _apart(base, sampling.rows, shapes, room_of(sampling.ends), sampling.length - 1)
        logits = read(cache, model, [[0]] * sampling.rows, words, ())
        draw(feed.allowed(logits), torch.zeros(sampling.rows, dtype=torch.float64, device=META), 0.9)
        held = cache.nbytes
        # A layer that has no room left in a forward pass holds keys, or values, in their old place and their new one.
        grown = held // (2 * len(shapes)) if room_of(sampling.ends) > room_for(sampling.ends[0][0]) else 0
        work = max(reading, tally.peak + grown) - held
    if sampling.joined:  # which copies them layer by layer
        work = max(work, held // len(shapes))
    return Sampled(held * sampling.batches, max(0, work))


class _Words(Feed):
    """Feeds ids as if no image stood among them: whether one does is in their values."""

    def tokens(self, ids: Tensor, images: Sequence[Sequence[Image]]) -> dict[str, Tensor]:
        """The ids, or their embeddings where a model sees."""
        return super().tokens(ids, images) if self.vision is None else {"inputs_embeds": self.vision.words(ids)}


def _apart(base: Any, rows: int, shapes: Sequence[Shapes], room: int, held: int) -> RaggedCache:
    """Rows that hold so many tokens each, and have room for some more."""
    cache = _cache(base, rows)
    _fill(cache, rows, shapes, room, held)
    return _at(cache, rows, held)


def _turned(base: Any, ends: Sequence[tuple[int, int]], fed: Fed, shapes: Sequence[Shapes]) -> RaggedCache:
    """Rows at the beginning of a later turn, with the room that they have grown to by then."""
    end = fed.held + fed.tokens
    return _apart(base, fed.rows, shapes, room_of([*(e for e in ends if e[0] < end), (end, end)]), fed.held)


def _shared(prompts: RaggedCache, sampling: Sampling, shapes: Sequence[Shapes]) -> RaggedCache:
    """Rows that hold all but their last token, and no more than what they have beyond their prompts."""
    of = [i * sampling.prompts // sampling.rows for i in range(sampling.rows)]
    cache, own = prompts.fan_out(of, [None] * sampling.rows), sampling.length - sampling.ends[0][0]
    _fill(cache, sampling.rows, shapes, room_of([(0, own)]), own - 1)
    return _at(cache, sampling.rows, sampling.length - 1)


def _fill(cache: RaggedCache, rows: int, shapes: Sequence[Shapes], room: int, used: int) -> None:
    for layer, (keys, values, kind) in zip(cache.layers, shapes, strict=True):
        made = [torch.empty((rows, heads, room, dim), dtype=kind, device=META) for _, heads, _, dim in (keys, values)]
        layer.load(made[0], made[1], used)


def _at(cache: RaggedCache, rows: int, held: int) -> RaggedCache:
    cache.ids, cache.places = [[0] * held for _ in range(rows)], [held] * rows
    return cache


def _cache(base: Any, rows: int) -> RaggedCache:
    return RaggedCache.empty([None] * rows, base.config.get_text_config().num_hidden_layers)


def room_of(ends: Sequence[tuple[int, int]]) -> int:
    """Slots that a row has in the end: there are more whenever they are used up.

    Args:
        ends: the tokens that are held, turn after turn: after its prompt, which comes at once, and after its answer.
    """
    room = room_for(ends[0][0])
    for prompt, answer in ends:
        room = room_for(prompt) if prompt > room else room
        while room < answer:
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
