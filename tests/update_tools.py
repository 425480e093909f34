"""A learner of a tiny model, and what its updates do, for the tests that share them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmrl.training_args import TrainingArgs
from mmrl_agents.learner import Learner

ADVANTAGES = [1.5, -0.5, 0.0, 0.7, -1.2, 2.0, -0.1]


def arguments(**changes: Any) -> TrainingArgs:
    return TrainingArgs(
        **{"learning_rate": 1e-3, "max_grad_norm": 1e9, "per_device_train_batch_size": 100, "weight_decay": 0.1,
           **changes}
    )  # fmt: skip


def learner(model: Any, reference: Any = None, **changes: Any) -> Learner:
    return Learner(model, arguments(**changes), 0.8, 10, reference, budget=20)


def gradients(made: Learner) -> list[list[Tensor]]:
    """Filled with the gradients that each optimiser step sees."""
    seen: list[list[Tensor]] = []
    made.optimizer.register_step_pre_hook(
        lambda *_: seen.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in made.parameters])
    )
    return seen


def weights(model: Any) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[n], b[n]) for n in a)
