"""How large the passes of an update are.

Comes in: the segments that a step learns from.  Goes out: the sizes of its largest passes, cut as the learner cuts
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mmrl.image import Image
from mmrl.training_args import TrainingArgs
from mmrl_agents.batch import Segment
from mmrl_agents.feed import Feed
from mmrl_agents.kv_cache import can_keep
from mmrl_agents.layout import lay_out
from mmrl_agents.packing import rows_to_read
from mmrl_agents.packs import PLAIN, Limits, Pack, Row, partition, passes
from mmrl_agents.sharing import cost_of


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass.

    Attributes:
        packs: lines of tokens; ``slots``: tokens of each, padding included.
        branches: whether rows share beginnings, so that attention needs a mask of its own.
        states: how many of the slots the head reads; ``asked``: how many log-probabilities it gives.
        images: the different images among the tokens.
    """

    packs: int
    slots: int
    branches: bool
    states: int
    asked: int
    images: tuple[Image, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens of the pass, padding included."""
        return self.packs * self.slots


@dataclass(frozen=True)
class Passes:
    """The passes of a step: how many, and the largest of them, by tokens and by what the head reads."""

    count: int
    largest: tuple[Pass, ...]


def passes_of(segments: Sequence[Segment], model: Any, args: TrainingArgs, feed: Feed) -> Passes:
    """Cut segments as :class:`mmrl_agents.sharing.Sharing` does where the model can share beginnings.

    Args:
        segments: at least one.
        model: with or without weights.
        args: the limits of a pass, and whether beginnings are shared.
        feed: how ids become the model's input.
    """
    masks = [s.mask[1:] for s in segments]
    rows = rows_to_read([s.ids for s in segments], masks, [s.images for s in segments], feed)
    limits = Limits(args.per_device_train_batch_size, args.max_tokens_per_micro_batch)
    cost = cost_of(model) if args.prefix_sharing and can_keep(model) else PLAIN
    cut = [_sized(held, rows, masks, segments) for held in passes(partition(rows, cost, limits), limits)]
    widest, most_asked = max(cut, key=lambda p: (p.tokens, p.states)), max(cut, key=lambda p: (p.states, p.tokens))
    return Passes(len(cut), tuple(dict.fromkeys((widest, most_asked))))


def _sized(held: Sequence[Pack], rows: Sequence[Row], masks: Sequence[Sequence[bool]],
           segments: Sequence[Segment]) -> Pass:  # fmt: skip
    members = [i for pack in held for i in pack.rows]
    place = {i: n for n, i in enumerate(members)}
    layout = lay_out([rows[i] for i in members], [[place[i] for i in p.rows] for p in held], torch.device("cpu"))
    places, slots = layout.pack.tolist(), layout.slot.tolist()
    pairs = {(places[n], slots[n][t], segments[i].ids[t + 1])
             for n, i in enumerate(members) for t, asked in enumerate(masks[i]) if asked}  # fmt: skip
    images = {image.sha256: image for i in members for image in rows[i].images}
    return Pass(len(held), layout.ids.shape[1], layout.sees is not None, len({pair[:2] for pair in pairs}), len(pairs),
                tuple(images.values()))  # fmt: skip
