"""The learner: sole owner of the optimiser.

Comes in: trajectories with advantages (or segments to imitate).  Goes out: updated weights and metrics.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.config import TrainingArgs
from mmrl.trajectory import Trajectory
from mmrl_agents.batch import (
    Finer,
    MicroBatch,
    Segment,
    collate,
    finer,
    micro_batches,
    segments_of,
    token_counts,
    token_of,
    turn_of,
)
from mmrl_agents.correction import CORRECTIONS, Bounds
from mmrl_agents.logprobs import Scorer
from mmrl_agents.loss import KL, LossStats, LossTerms, policy_loss, sft_loss
from mmrl_agents.loss_type import find_loss
from mmrl_agents.normaliser import NORMALISERS
from mmrl_agents.optimizers import make_optimizer
from mmrl_agents.reference import Reference
from mmrl_agents.surrogate import Clip
from mmrl_agents.vision import Vision


@dataclass(frozen=True)
class Prepared:
    """A micro-batch with the log-probabilities that stay fixed while it is learned from."""

    batch: MicroBatch
    old: Float[Tensor, "rows seq"] | None
    ref: Float[Tensor, "rows seq"] | None


class Learner:
    """Updates ``model``.

    Args:
        model: a causal or vision-language model; parameters with ``requires_grad`` are trained.
        args: how.
        temperature: the sampler's.
        total_steps: length of the learning-rate schedule, in optimiser steps.
        reference: for the KL term; None if ``kl_coef`` is 0.
        budget: token budget of one trajectory, for the constant normaliser.
        vision: how the model sees, if it does; shared with the sampler, so that a frozen tower runs once a step.
    """

    def __init__(self, model: Any, args: TrainingArgs, temperature: float, total_steps: int,
                 reference: Reference | None = None, budget: int = 256, vision: Vision | None = None) -> None:
        self.model = model
        self.args = args
        self.reference = reference
        self.budget = budget
        self.vision = vision
        self._reference_scorer: Scorer | None = None
        self.scorer = Scorer(model, temperature, vision)
        self.temperature = temperature
        self.terms = terms_of(args)
        self.entropy: float | None = None
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(model, self.parameters, args)
        self.scheduler = _scheduler(self.optimizer, args, total_steps)

    def update(self, trajectories: Sequence[Trajectory], advantages: Sequence[float],
               by_turn: Sequence[Sequence[float]] | None = None,
               by_token: Sequence[Sequence[float]] | None = None) -> dict[str, float]:
        """Learn from a batch: ``num_iterations`` optimiser steps.

        Args:
            trajectories: valid ones only.
            advantages: one each.
            by_turn: instead, one for each turn of each trajectory.
            by_token: instead, one for each sampled id of each trajectory.

        Returns:
            Metrics; ``update/skipped`` is 1 if no trajectory had a non-zero advantage and neither KL nor entropy pulls.

        Raises:
            ValueError: naming the trajectory whose ids and log-probabilities do not match.
        """
        segments = [s for i, t in enumerate(trajectories) for s in segments_of(t, i)]
        advantage = torch.tensor(advantages, dtype=torch.float64)
        fine = _finer(by_turn, turn_of) or _finer(by_token, token_of)
        table = advantage[:, None] if fine is None else fine.table
        terms = dataclasses.replace(self.terms, entropy_coef=self._entropy_coef())
        pulled = terms.kl_coef > 0 or terms.entropy_coef > 0
        if not segments or (not table.any() and not pulled):
            return {"update/skipped": 1.0}
        weight = terms.loss.normaliser(token_counts(segments, len(trajectories)), self.budget)
        if not pulled:  # then these add exactly 0
            segments = [s for s in segments if table[s.trajectory].any()]
        parts = [
            self._collate(chunk, advantage, weight, fine)
            for chunk in micro_batches(
                segments, self.args.per_device_train_batch_size, self.args.max_tokens_per_micro_batch
            )
        ]
        prepared = [self._prepare(part) for part in parts]
        metrics: dict[str, float] = {}
        for _ in range(self.args.num_iterations):
            metrics = self._policy_step(prepared, terms)
        self.entropy = metrics["entropy"]
        return metrics

    def _entropy_coef(self) -> float:
        """The weight of this update's entropy bonus: 0 unless entropy was below its target in the update before."""
        target = self.args.entropy_target
        on = target is None or (self.entropy is not None and self.entropy < target)
        return self.args.entropy_coef if on else 0.0

    def _collate(self, chunk: Sequence[Segment], advantage: Tensor, weight: Tensor, fine: Finer | None) -> MicroBatch:
        batch = collate(chunk, advantage, weight)
        return (batch if fine is None else finer(batch, chunk, fine)).to(self.model.device)

    @torch.no_grad()
    def _prepare(self, batch: MicroBatch) -> Prepared:
        """Old log-probabilities (only if a second step will need them) and the reference's."""
        self.model.eval()
        old = self.scorer(batch.ids, batch.mask, batch.images)[0] if self.args.num_iterations > 1 else None
        ref = None
        if self.reference is not None and self.terms.kl_coef > 0:
            with self.reference() as model:
                ref = self._score_reference(model, batch)
        return Prepared(batch, old, ref)

    def _score_reference(self, model: Any, batch: MicroBatch) -> Tensor:
        """Log-probabilities of the reference, whose weights never change: what it saw stays known."""
        if self._reference_scorer is None:
            vision = self.vision
            if vision is not None and (model is not self.model or vision.trains):
                vision = Vision(model, vision.tokens)
            self._reference_scorer = Scorer(model, self.temperature, vision)
        return self._reference_scorer(batch.ids, batch.mask, batch.images)[0]

    def _policy_step(self, prepared: Sequence[Prepared], terms: LossTerms) -> dict[str, float]:
        """One optimiser step over all micro-batches."""
        # Dropout stays off: log-probabilities of sampler, old policy and update must be of one function.
        _eval_mode(self.model)
        total, entropy, stats = 0.0, 0.0, list[LossStats]()
        for p in prepared:
            b = p.batch
            logp, h = self.scorer.tokens(b.ids, b.mask, b.images, learn_entropy=terms.entropy_coef > 0)
            old = logp.detach() if p.old is None else p.old
            loss, s = policy_loss(logp, old, b.mu, p.ref, b.advantage, b.weight, b.mask, terms, h)
            loss.backward()
            total += float(loss.detach())
            entropy += float(h.detach()[b.mask].mean()) * s.tokens
            stats.append(s)
        out = {"loss": total, **self._step(), **_summary(stats)}
        out["entropy"] = entropy / max(sum(s.tokens for s in stats), 1)
        return out

    def imitate(self, segments: Sequence[Segment]) -> dict[str, float]:
        """One optimiser step of supervised learning on the masked ids of ``segments``."""
        trajectories = 1 + max(s.trajectory for s in segments)
        weight = NORMALISERS["dapo"](token_counts(segments, trajectories), self.budget)
        total = 0.0
        self.model.train()
        for chunk in micro_batches(
            segments, self.args.per_device_train_batch_size, self.args.max_tokens_per_micro_batch
        ):
            b = collate(chunk, torch.zeros(trajectories), weight).to(self.model.device)
            loss = sft_loss(self.scorer(b.ids, b.mask, b.images)[0], b.weight, b.mask)
            loss.backward()
            total += float(loss.detach())
        if self.vision is not None:
            self.vision.forget()
        return {"loss": total, **self._step()}

    def _step(self) -> dict[str, float]:
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.args.max_grad_norm)
        rate = self.optimizer.param_groups[0]["lr"]
        finite = bool(torch.isfinite(norm))
        if finite:
            self.optimizer.step()
            if self.vision is not None and self.vision.trains:
                self.vision.forget()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()
        return {"grad_norm": float(norm), "learning_rate": float(rate), "update/not_finite": float(not finite)}

    def state_dict(self) -> dict[str, Any]:
        """Optimiser, schedule and the last update's entropy, for a checkpoint."""
        return {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict(),
                "entropy": self.entropy}  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.entropy = state["entropy"]


def terms_of(args: TrainingArgs) -> LossTerms:
    """The terms of the loss that a configuration asks for.

    Raises:
        BadInput: if its ``loss_type`` names no loss.
    """
    low, high = args.importance_range
    return LossTerms(
        loss=find_loss(args.loss_type, args.normaliser),
        clip=Clip(args.epsilon, args.epsilon if args.epsilon_high is None else args.epsilon_high, args.dual_clip),
        correction=CORRECTIONS[args.importance_correction],
        bounds=Bounds(args.importance_cap, low, high),
        kl_coef=args.kl_coef,
        kl=KL[args.kl_estimator],
        entropy_coef=args.entropy_coef,
    )


def _eval_mode(model: Any) -> None:
    """Evaluation mode, but for the switch by which checkpointed layers decide to recompute their activations."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    model.eval()
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = module.gradient_checkpointing


def _finer(rows: Sequence[Sequence[float]] | None, place: Callable[[Segment], tuple[int, ...]]) -> Finer | None:
    if rows is None:
        return None
    width = max((len(r) for r in rows), default=0)
    padded = [[*r, *[0.0] * (width - len(r))] for r in rows]
    return Finer(torch.tensor(padded, dtype=torch.float64).reshape(len(rows), width), place)


def _scheduler(optimizer: torch.optim.Optimizer, args: TrainingArgs, total: int) -> Any:
    from transformers import get_scheduler

    warmup = args.warmup_steps or round(args.warmup_ratio * total)
    name = "constant_with_warmup" if args.lr_scheduler_type == "constant" else args.lr_scheduler_type
    return get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=total)


def _summary(stats: Sequence[LossStats]) -> dict[str, float]:
    sums = {f.name: sum(getattr(s, f.name) for s in stats) for f in fields(LossStats)}
    tokens = max(sums["tokens"], 1)
    return {
        "tokens": float(sums["tokens"]),
        "clip_share": sums["clipped"] / tokens,
        "kl": sums["kl"] / tokens,
        "mismatch_kl": sums["mismatch"] / tokens,
        "effective_sample": sums["weight"] ** 2 / (tokens * sums["weight_sq"]) if sums["weight_sq"] > 0 else 0.0,
        "dropped_share": sums["dropped"] / tokens,
        "ratio_deviation": max(s.ratio for s in stats),
    }
