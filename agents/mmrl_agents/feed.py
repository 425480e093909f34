"""What a model is fed: ids alone, or ids with images among them.

Comes in: padded ids, the images of each row.  Goes out: the arguments of the model's decoder, and positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from mmrl.image import Image
from mmrl_agents.vision import Vision

BANNED = -1e30
"""The logit of an id that must never be sampled; finite, so that its probability times its logarithm is 0."""


@dataclass(frozen=True)
class Feed:
    """How ids become a model's input.

    Attributes:
        vision: how the model sees; None for a model of text alone.
    """

    vision: Vision | None = None

    @property
    def banned(self) -> tuple[int, ...]:
        """Ids that are never sampled."""
        return () if self.vision is None else self.vision.tokens.banned

    def tokens(self, ids: Int[Tensor, "rows length"], images: Sequence[Sequence[Image]]) -> dict[str, Tensor]:
        """The ids, or their embeddings where images stand among them.

        Args:
            ids: padded on either side with ids that stand for no image.
            images: of each row; empty if no row has any.
        """
        if self.vision is None:
            return {"input_ids": ids}
        return {"inputs_embeds": self.vision.embed(ids, images or [()] * len(ids))}

    def positions(self, rows: Sequence[Sequence[int]], images: Sequence[Sequence[Image]], places: Sequence[int],
                  width: int) -> tuple[Tensor, list[int]]:
        """Positions of new ids, padded on the left.

        Args:
            rows: the new ids of each row.
            images: those among them.
            places: the position of each row's first new id.
            width: length of the padded rows.

        Returns:
            Positions, shape (rows, width), or (3, rows, width) where images stand on a grid; and the position after
            the last id of each row.
        """
        if self.vision is None or not self.vision.grid:
            spans = [(at, at + len(row)) for row, at in zip(rows, places, strict=True)]
            padded = [[0] * (width - end + begin) + list(range(begin, end)) for begin, end in spans]
            return torch.tensor(padded), [end for _, end in spans]
        local = [self.vision.positions(row, shown) for row, shown in zip(rows, images, strict=True)]
        moved = [p + at for p, at in zip(local, places, strict=True)]
        after = [int(p.max()) + 1 if p.numel() else at for p, at in zip(moved, places, strict=True)]
        return torch.stack([torch.nn.functional.pad(p, (width - p.shape[1], 0)) for p in moved], dim=1), after

    def whole(self, ids: Int[Tensor, "rows length"], images: Sequence[Sequence[Image]]) -> dict[str, Tensor]:
        """The decoder's arguments for rows that begin at their first token and are padded on the right."""
        inputs = self.tokens(ids, images)
        if self.vision is None or not self.vision.grid or not images:
            return inputs  # positions in a row are what every decoder takes by itself
        places = self.positions(ids.tolist(), images, [0] * len(ids), ids.shape[1])[0].to(ids.device)
        # Without a mask, positions that jump would be read as several sequences in one row.
        return {**inputs, "position_ids": places, "attention_mask": torch.ones_like(ids)}

    def allowed(self, logits: Tensor) -> Tensor:
        """``logits`` with those of banned ids so low that their probability is 0."""
        if not self.banned:
            return logits
        out = logits.clone()
        out[..., list(self.banned)] = BANNED
        return out

