"""Numbers of sampled tokens: from trajectories to the places of a batch, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl_agents.batch import Segment


def to_batch(rows: Sequence[Sequence[float]], segments: Sequence[Segment], width: int,
             dtype: torch.dtype) -> Float[Tensor, "rows seq"]:
    """A number of each sampled token in the places of a batch; 0 elsewhere.

    Args:
        rows: of each sampled token of each trajectory.
        segments: the rows of the batch.
        width: ids of the longest.
        dtype: of the result.
    """
    placed = [
        [*(rows[s.trajectory][i] if i >= 0 else 0.0 for i in s.token[1:]), *[0.0] * (width - len(s.ids))]
        for s in segments
    ]
    return torch.tensor(placed, dtype=dtype)


def from_batch(found: Float[Tensor, "rows seq"], segments: Sequence[Segment], rows: Sequence[list[float]]) -> None:
    """The way back: write what a batch says of each sampled token into its trajectory's row."""
    for said, segment in zip(found.tolist(), segments, strict=True):
        for value, i in zip(said, segment.token[1:], strict=False):  # a row is as long as the longest segment's
            if i >= 0:
                rows[segment.trajectory][i] = value
