"""A model beside the learner's: one to sample with while the other is written to.

Comes in: a model that is trained.  Goes out: a second one with weights of its own where the first one learns, and what
the first one holds there at a moment.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]
"""What of a model learns, by the names of its parameters."""


def twin(model: Any) -> Any:
    """A copy of a model; what does not learn is not copied but shared, since nobody writes to it.

    It learns nothing itself.
    """
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    made = copy.deepcopy(model, shared).eval()
    return made.requires_grad_(False)


def learned(model: Any) -> dict[str, Tensor]:
    """What of a model learns, as it is now: a copy in the host's memory."""
    return {n: p.detach().to("cpu", copy=True) for n, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def take_on(model: Any, weights: Weights) -> None:
    """Give a twin other weights; on the host it then holds these very tensors, and no copy of them."""
    mine = dict(model.named_parameters())
    for name, tensor in weights.items():
        mine[name].data = tensor.to(mine[name].device)
