"""Rows that begin alike, and models whose norms are as precise as the rest, for tests of what shares beginnings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from learner_tools import VOCAB, trajectory, turn
from torch import Tensor

from mmrl.image import Image
from mmrl.trajectory import Trajectory
from mmrl_agents.batch import Segment


def numbers(seed: int, length: int) -> list[int]:
    """As many ids; another seed, other ids."""
    gen = torch.Generator().manual_seed(seed)
    return torch.randint(2, VOCAB, (length,), generator=gen).tolist()


def segment(ids: Sequence[int], sampled: Sequence[int], index: int = 0, images: Sequence[Image] = ()) -> Segment:
    """A segment of which the ids at these places were sampled."""
    mask = tuple(n in sampled for n in range(len(ids)))
    return Segment(tuple(ids), mask, (-1.0,) * len(ids), tuple(0 if m else -1 for m in mask), index, tuple(images))


def answered(prompt: Sequence[int], answer: Sequence[int]) -> Segment:
    """A segment of a prompt and a sampled answer."""
    return segment([*prompt, *answer], range(len(prompt), len(prompt) + len(answer)))


def _trees() -> dict[str, list[Segment]]:
    asked, said = numbers(0, 9), numbers(1, 4)
    group = [answered(asked, numbers(10 + n, 3 + n)) for n in range(4)]
    inside = [answered(asked, [*said, *numbers(20 + n, 3)]) for n in range(3)]
    second = [*asked, *said, *numbers(2, 5)]
    third = [[*second, *numbers(30 + n, 3), *numbers(3, 4)] for n in range(2)]
    deep = [
        segment([*prompt, *numbers(40 + n, 4)], [*range(9, 13), *range(18, 21), *range(len(prompt), len(prompt) + 4)])
        for prompt in (second, *third) for n in range(2)
    ]  # fmt: skip
    whole = answered(asked, numbers(5, 8))
    return {
        "one row": [whole],
        "nothing in common": [whole, answered(numbers(6, 5), said)],
        "equal": [whole, whole, answered(asked, said)],
        "a row goes on from another": [whole, segment(whole.ids[:12], range(9, 12)), answered(asked, said)],
        "a group": group,
        "inside an answer": inside,
        "deep": deep,
        "all together": [*group, *inside, whole, answered(numbers(6, 5), said), *deep, whole],
    }


TREES = _trees()
"""By what is common to them: rows whose answers are partly the same ids, and rows of one tree up to three deep."""


def precise(model: Any) -> Any:
    """The model with norms that compute in its own precision; transformers' compute in single."""
    for name, module in list(model.named_modules()):
        if type(module).__name__.endswith("RMSNorm"):
            norm = torch.nn.RMSNorm(module.weight.shape[0], module.variance_epsilon)
            norm.weight = module.weight
            model.set_submodule(name, norm)
    return model


def groups(sizes: Sequence[int] = (4, 3), seed: int = 0) -> list[Trajectory]:
    """Groups of trajectories of one prompt each and two turns; some of a group say the same in the first turn."""
    out: list[Trajectory] = []
    for g, size in enumerate(sizes):
        prompt = numbers(100 * seed + g, 12 + g)
        for i in range(size):
            first = numbers(50 + i // 2, 3)
            following = [*prompt, *first, *numbers(60 + g, 4)]
            turns = [turn(prompt, first), turn(following, numbers(70 + 10 * g + i, 2 + i))]
            out.append(trajectory(f"g{g}-{i}", turns, float(i)))
    return out


def gradient_of(model: Any, loss: Tensor) -> list[Tensor]:
    """The gradients of all trained parameters."""
    trained = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, trained, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(trained, found, strict=True)]
