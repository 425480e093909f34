"""Trajectories to tensors: segments, weights, batches.

A segment is one token sequence with a mask of what was sampled in it.  A whole-transcript trajectory is one
segment; under a window, or where a template does not preserve prefixes, each stretch of turns whose prompts
extend each other is a segment, so that one trajectory may train as several.  A segment's images go with it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mmrl.image import Image
from mmrl.trajectory import Trajectory


@dataclass(frozen=True)
class Segment:
    """One sequence to learn from.

    Attributes:
        ids: token ids.
        mask: 1 where an id was sampled by the policy.
        mu: the sampler's log-probability of each sampled id; 0 elsewhere.
        turn: index of the turn that each sampled id belongs to; -1 elsewhere.
        trajectory: index of the trajectory in its batch.
        images: those that stand among the ids, in order.
        before: how many ids of the trajectory were sampled in its earlier segments.
    """

    ids: tuple[int, ...]
    mask: tuple[bool, ...]
    mu: tuple[float, ...]
    turn: tuple[int, ...]
    trajectory: int
    images: tuple[Image, ...] = ()
    before: int = 0

    @property
    def sampled(self) -> int:
        """How many ids were sampled."""
        return sum(self.mask)

    @property
    def token(self) -> tuple[int, ...]:
        """Index of each sampled id among those of its trajectory; -1 elsewhere."""
        count = itertools.count(self.before)
        return tuple(next(count) if sampled else -1 for sampled in self.mask)


def segments_of(trajectory: Trajectory, index: int) -> list[Segment]:
    """Cut a trajectory into segments.

    Raises:
        ValueError: naming the trajectory and turn if a sampled id has no log-probability or a turn no ids.
    """
    segments: list[Segment] = []
    ids: list[int] = []
    mask: list[bool] = []
    mu: list[float] = []
    turns: list[int] = []
    images: tuple[Image, ...] = ()
    before = 0
    for n, turn in enumerate(trajectory.turns):
        if not turn.token_ids or len(turn.token_ids) != len(turn.logprobs):
            raise ValueError(f"trajectory {trajectory.id}, turn {n}: {len(turn.token_ids)} sampled ids but "
                             f"{len(turn.logprobs)} log-probabilities")  # fmt: skip
        # Two images may be the same ids, so these alone do not tell whether this prompt goes on from the last.
        if list(turn.prompt_ids[: len(ids)]) != ids or turn.images[: len(images)] != images:
            segments.append(Segment(tuple(ids), tuple(mask), tuple(mu), tuple(turns), index, images, before))
            before += sum(mask)
            ids, mask, mu, turns = [], [], [], []
        images = turn.images
        prompt = turn.prompt_ids[len(ids) :]
        ids += [*prompt, *turn.token_ids]
        mask += [False] * len(prompt) + [True] * len(turn.token_ids)
        mu += [0.0] * len(prompt) + list(turn.logprobs)
        turns += [-1] * len(prompt) + [n] * len(turn.token_ids)
    segments.append(Segment(tuple(ids), tuple(mask), tuple(mu), tuple(turns), index, images, before))
    return [s for s in segments if s.ids]


@dataclass(frozen=True)
class MicroBatch:
    """A padded batch; column t of the token-wise fields speaks of ``ids[:, t + 1]``.

    Attributes:
        ids: right-padded with 0.
        mask: True where the next id was sampled.
        mu: the sampler's log-probability of the next id.
        advantage: of the row's trajectory.
        weight: of the next id in the loss.
        images: of each row.
        packs: the rows that are computed together (see :meth:`mmrl_agents.logprobs.Scorer.tokens`).
    """

    ids: Int[Tensor, "rows length"]
    mask: Bool[Tensor, "rows length-1"]
    mu: Float[Tensor, "rows length-1"]
    advantage: Float[Tensor, "rows length-1"]
    weight: Float[Tensor, "rows length-1"]
    images: tuple[tuple[Image, ...], ...] = ()
    packs: tuple[tuple[int, ...], ...] = ()

    def to(self, device: torch.device) -> MicroBatch:
        """The batch on a device."""
        ids, mask, mu, advantage, weight = (
            t.to(device) for t in (self.ids, self.mask, self.mu, self.advantage, self.weight)
        )
        return MicroBatch(ids, mask, mu, advantage, weight, self.images, self.packs)


def token_counts(segments: Sequence[Segment], trajectories: int) -> Int[Tensor, " trajectories"]:
    """Sampled ids of each trajectory, over all of its segments."""
    counts = torch.zeros(trajectories, dtype=torch.long)
    for segment in segments:
        counts[segment.trajectory] += segment.sampled
    return counts


def collate(segments: Sequence[Segment], advantage: Float[Tensor, " trajectories"],
            weight: Float[Tensor, " trajectories"], dtype: torch.dtype = torch.float32,
            packs: tuple[tuple[int, ...], ...] = ()) -> MicroBatch:
    """Pad segments into one batch.

    Args:
        segments: rows, at least one.
        advantage: of each trajectory.
        weight: of one token of each trajectory.
        dtype: of the float fields.
        packs: the rows that are computed together.
    """
    width = max(len(s.ids) for s in segments)
    pad = [width - len(s.ids) for s in segments]
    rows = torch.tensor([s.trajectory for s in segments])
    shape = (len(segments), width - 1)
    return MicroBatch(
        ids=torch.tensor([[*s.ids, *[0] * p] for s, p in zip(segments, pad, strict=True)]),
        mask=torch.tensor([[*s.mask[1:], *[False] * p] for s, p in zip(segments, pad, strict=True)]),
        mu=torch.tensor([[*s.mu[1:], *[0.0] * p] for s, p in zip(segments, pad, strict=True)], dtype=dtype),
        advantage=advantage[rows].to(dtype)[:, None].expand(shape),
        weight=weight[rows].to(dtype)[:, None].expand(shape),
        images=tuple(s.images for s in segments) if any(s.images for s in segments) else (),
        packs=packs,
    )


@dataclass(frozen=True)
class Finer:
    """Advantages finer than a trajectory's.

    Attributes:
        table: an advantage for each place of each trajectory; rows are padded with 0.
        place: the place of each id of a segment: :func:`turn_of` or :func:`token_of`.
    """

    table: Float[Tensor, "trajectories places"]
    place: Callable[[Segment], tuple[int, ...]]


def turn_of(segment: Segment) -> tuple[int, ...]:
    """The turn of each id."""
    return segment.turn


def token_of(segment: Segment) -> tuple[int, ...]:
    """The index of each sampled id in its trajectory."""
    return segment.token


def finer(batch: MicroBatch, segments: Sequence[Segment], advantages: Finer) -> MicroBatch:
    """The batch with the advantage of each token's own place.

    Args:
        batch: collated from ``segments``.
        segments: its rows.
        advantages: of the places.
    """
    width = batch.ids.shape[1]
    place = torch.tensor([[*advantages.place(s)[1:], *[-1] * (width - len(s.ids))] for s in segments]).clamp(min=0)
    rows = torch.tensor([s.trajectory for s in segments])[:, None]
    return dataclasses.replace(batch, advantage=advantages.table[rows, place].to(batch.mu.dtype))
