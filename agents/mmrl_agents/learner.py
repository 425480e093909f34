"""The learner: sole owner of the optimiser.

Comes in: trajectories with advantages (or segments to imitate).  Goes out: updated weights and metrics.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mmrl.training_args import TrainingArgs
from mmrl.trajectory import Trajectory
from mmrl_agents.batch import (
    Finer,
    MicroBatch,
    Segment,
    collate,
    finer,
    segments_of,
    token_counts,
    token_of,
    turn_of,
)
from mmrl_agents.correction import CORRECTIONS, Bounds
from mmrl_agents.critic import Critic, ValueRows, ValueTargets, value_loss, value_metrics
from mmrl_agents.foresight import NOTHING, Foreseen, foresight
from mmrl_agents.forward import Forward
from mmrl_agents.logprobs import Scorer
from mmrl_agents.loss import KL, LossStats, LossTerms, policy_loss, sft_loss, summary, weighted_log_ratio
from mmrl_agents.loss_type import find_loss
from mmrl_agents.normaliser import NORMALISERS
from mmrl_agents.optimizers import make_optimizer
from mmrl_agents.packs import Limits
from mmrl_agents.processes import ALONE, Processes
from mmrl_agents.reference import Reference
from mmrl_agents.shards import WHOLE, Shards, put_together, take_state, whole_state
from mmrl_agents.shares import Passes, added, passes_of
from mmrl_agents.sharing import Sharing
from mmrl_agents.surrogate import Clip
from mmrl_agents.token_table import from_batch, to_batch
from mmrl_agents.vision import Vision


@dataclass(frozen=True)
class Prepared:
    """A micro-batch with the log-probabilities that stay fixed while it is learned from."""

    batch: MicroBatch
    old: Float[Tensor, "rows seq"] | None
    ref: Float[Tensor, "rows seq"] | None
    values: ValueTargets | None = None


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
        critic: for advantages that ask one; it learns beside the policy, at its own rate.
        sharing: whether segments share what they begin with; None decides by ``args`` and tells nobody.
        forward: how the model and its reference are run; None is by ``args``.
        processes: that share the passes of an update; each is given the whole batch, and all come to the same weights.
        shards: how they share the weights.
    """

    def __init__(self, model: Any, args: TrainingArgs, temperature: float, total_steps: int,
                 reference: Reference | None = None, budget: int = 256, vision: Vision | None = None,
                 critic: Critic | None = None, sharing: Sharing | None = None, forward: Forward | None = None,
                 processes: Processes = ALONE, shards: Shards = WHOLE) -> None:
        self.model = model
        self.processes, self.shards = processes, shards
        self.args = args
        self.reference = reference
        self.budget = budget
        self.vision = vision
        self._reference_scorer: Scorer | None = None
        self.forward = forward or Forward(args.torch_compile, args.mixed_precision is True, args.offload_activations)
        self.scorer = Scorer(model, temperature, vision, self.forward, shards)
        self.sharing = sharing or Sharing(args.prefix_sharing)
        self.limits = Limits(args.per_device_train_batch_size, args.max_tokens_per_micro_batch)
        self.temperature = temperature
        self.terms = terms_of(args)
        self.entropy: float | None = None
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(model, self.parameters, args)
        self.critic = critic
        if critic is not None:
            self.optimizer.add_param_group({"params": list(critic.parameters()), "lr": args.critic_learning_rate})
        self.scheduler = _scheduler(self.optimizer, args, total_steps)

    @torch.no_grad()
    def foresee(self, trajectories: Sequence[Trajectory]) -> Foreseen:
        """What the model says of a batch before it learns from it, in one pass; nothing if no credit needs to know."""
        charge = self.args.kl_coef if self.args.kl_in == "reward" else 0.0
        if self.critic is None and charge == 0:
            return NOTHING
        self.model.eval()
        valid = [t for t in trajectories if t.valid]
        segments = [s for i, t in enumerate(valid) for s in segments_of(t, i)]
        counts = token_counts(segments, len(valid)).tolist()
        old, values, ref = ([[0.0] * n for n in counts] for _ in range(3))
        none = torch.zeros(len(valid))
        for chunk, packs in self._passes(segments) if segments else ():
            b = self._collate(chunk, packs, none, none, None)
            said, _, expected = self._pass(b)
            from_batch(said, chunk, old)
            if expected is not None:
                from_batch(expected, chunk, values)
            if charge > 0:
                from_batch(self._score_reference(b), chunk, ref)
        old, values, ref = added(self.processes, (old, values, ref))
        return {t.id: foresight(old[i], values[i] if self.critic is not None else (), ref[i], charge)
                for i, t in enumerate(valid)}  # fmt: skip

    def update(self, trajectories: Sequence[Trajectory], advantages: Sequence[float],
               by_turn: Sequence[Sequence[float]] | None = None, by_token: Sequence[Sequence[float]] | None = None,
               returns: Sequence[Sequence[float | None]] | None = None,
               foreseen: Foreseen = NOTHING) -> dict[str, float]:
        """Learn from a batch: ``num_iterations`` optimiser steps.

        Args:
            trajectories: valid ones only.
            advantages: one each.
            by_turn: instead, one for each turn of each trajectory.
            by_token: instead, one for each sampled id of each trajectory.
            returns: what the critic should have said before each sampled id; None where it is not asked.
            foreseen: what :meth:`foresee` gave; needed with ``returns``.

        Returns:
            Metrics; ``update/skipped`` is 1 if no trajectory had a non-zero advantage, neither KL nor entropy pulls and
            no critic learns.  With ``entropy_target``, ``entropy`` is over all trajectories in every step.

        Raises:
            ValueError: naming the trajectory whose ids and log-probabilities do not match.
        """
        segments = [s for i, t in enumerate(trajectories) for s in segments_of(t, i)]
        advantage = torch.tensor(advantages, dtype=torch.float64)
        fine = _finer(by_turn, turn_of) or _finer(by_token, token_of)
        table = advantage[:, None] if fine is None else fine.table
        terms = dataclasses.replace(self.terms, entropy_coef=self._entropy_coef())
        pulled = terms.kl_coef > 0 or terms.entropy_coef > 0 or returns is not None
        watched = self.args.entropy_target is not None
        if not segments or (not table.any() and not pulled):
            return {"update/skipped": 1.0, **(self._look(segments) if watched and segments else {})}
        weight = terms.loss.normaliser(token_counts(segments, len(trajectories)), self.budget)
        if not pulled and not watched:  # then these add exactly 0
            segments = [s for s in segments if table[s.trajectory].any()]
        seen = [foreseen[t.id] for t in trajectories] if foreseen else []
        values = None if returns is None else ValueRows.of(returns, seen, terms.loss.normaliser, self.budget)
        prepared = [
            self._prepare(self._collate(chunk, packs, advantage, weight, fine), chunk, [f.old for f in seen], values)
            for chunk, packs in self._passes(segments)
        ]
        metrics: dict[str, float] = {}
        for _ in range(self.args.num_iterations):
            metrics, prepared = self._policy_step(prepared, terms)
        self.entropy = metrics["entropy"]
        targets = self.processes.exchange([p.values.on_host() for p in prepared if p.values is not None])
        return {**metrics, **value_metrics([t for part in targets for t in part])}

    @torch.no_grad()
    def _look(self, segments: Sequence[Segment]) -> dict[str, float]:
        """The entropy of a batch from which nothing is learned."""
        self.model.eval()
        none, total, tokens = torch.zeros(1 + max(s.trajectory for s in segments)), 0.0, 0
        for chunk, packs in self._passes(segments):
            b = self._collate(chunk, packs, none, none, None)
            total += float(self._pass(b)[1][b.mask].sum())
            tokens += int(b.mask.sum())
        parts = self.processes.exchange((total, tokens))
        self.entropy = sum(t for t, _ in parts) / max(sum(n for _, n in parts), 1)
        return {"entropy": self.entropy}

    def _entropy_coef(self) -> float:
        """The weight of this update's entropy bonus: 0 unless entropy was below its target in the update before."""
        target = self.args.entropy_target
        on = target is None or (self.entropy is not None and self.entropy < target)
        return self.args.entropy_coef if on else 0.0

    def _passes(self, segments: Sequence[Segment]) -> Passes:
        """This process's passes over the segments of a step."""
        return passes_of(segments, self.sharing, self.scorer, self.limits, self.processes, self.shards)

    def _collate(self, chunk: Sequence[Segment], packs: tuple[tuple[int, ...], ...], advantage: Tensor, weight: Tensor,
                 fine: Finer | None) -> MicroBatch:  # fmt: skip
        batch = collate(chunk, advantage, weight, packs=packs)
        return (batch if fine is None else finer(batch, chunk, fine)).to(self.model.device)

    @torch.no_grad()
    def _prepare(self, batch: MicroBatch, chunk: Sequence[Segment], known: Sequence[Sequence[float]],
                 values: ValueRows | None) -> Prepared:
        """Old log-probabilities as far as they are known already, the reference's, and what the critic learns."""
        self.model.eval()
        old, kind = None, torch.promote_types(self.model.dtype, torch.float32)
        if self.args.num_iterations > 1 and known:
            old = to_batch(known, chunk, batch.ids.shape[1], kind).to(batch.ids.device)
        ref = self._score_reference(batch) if self.reference is not None and self.terms.kl_coef > 0 else None
        return Prepared(batch, old, ref, None if values is None else values.at(chunk, batch, kind))

    def _score_reference(self, batch: MicroBatch) -> Tensor:
        """Log-probabilities of the reference, whose weights never change: what it saw stays known."""
        assert self.reference is not None
        with self.reference() as model:
            if self._reference_scorer is None:
                vision = self.vision
                if vision is not None and (model is not self.model or vision.trains):
                    tokens = vision.tokens
                    vision = self.shards.run(model, lambda: Vision(model, tokens))
                self._reference_scorer = Scorer(model, self.temperature, vision, self.forward, self.shards)
            return self._reference_scorer(batch.ids, batch.mask, batch.images, batch.packs)[0]

    def _pass(self, batch: MicroBatch, learn_entropy: bool = False) -> tuple[Tensor, Tensor, Tensor | None]:
        """Log-probabilities and entropies of the sampled tokens, and the critic's values, if there is one."""
        if self.critic is None:
            return (*self.scorer.tokens(batch.ids, batch.mask, batch.images, learn_entropy, batch.packs), None)
        return self.scorer.with_values(batch.ids, batch.mask, batch.images, self.critic, learn_entropy, batch.packs)

    def _policy_step(self, prepared: Sequence[Prepared], terms: LossTerms) -> tuple[dict[str, float], list[Prepared]]:
        """One optimiser step over all micro-batches, which then know the old policy's log-probabilities."""
        # Dropout stays off: log-probabilities of sampler, old policy and update must be of one function.
        eval_mode(self.model)
        total, wrong, entropy, stats, after = 0.0, 0.0, 0.0, list[LossStats](), list[Prepared]()
        for p in prepared:
            b = p.batch
            logp, h, v = self._pass(b, terms.entropy_coef > 0)
            if not b.mask.any():  # made only because the other processes make theirs
                (0 * logp.sum()).backward()
                after.append(p)
                continue
            old = logp.detach() if p.old is None else p.old
            after.append(dataclasses.replace(p, old=old))
            loss, s = policy_loss(logp, old, b.mu, p.ref, b.advantage, b.weight, b.mask, terms, h)
            total += float(loss.detach())
            if v is not None and p.values is not None:
                error = value_loss(v, p.values, self.args.value_clip)
                wrong += float(error.detach())
                loss = loss + self.args.value_coef * error
            loss.backward()
            entropy += float(h.detach()[b.mask].mean()) * s.tokens
            stats.append(s)
        parts = self.processes.exchange(((total, wrong, entropy), stats))
        total, wrong, entropy = (sum(part[0][i] for part in parts) for i in range(3))
        stats = [s for part in parts for s in part[1]]
        out = {"loss": total, **self._step(), **summary(stats)}
        out["entropy"] = entropy / max(sum(s.tokens for s in stats), 1)
        return (out if self.critic is None else {**out, "value_loss": wrong}), after

    def imitate(self, segments: Sequence[Segment]) -> dict[str, float]:
        """One optimiser step of supervised learning on the masked ids of ``segments``."""
        trajectories = 1 + max(s.trajectory for s in segments)
        weight = NORMALISERS["dapo"](token_counts(segments, trajectories), self.budget)
        total = 0.0
        self.model.train()
        with self.processes.own_noise():
            for chunk, packs in self._passes(segments):
                b = collate(chunk, torch.zeros(trajectories), weight, packs=packs).to(self.model.device)
                loss = sft_loss(self.scorer(b.ids, b.mask, b.images, b.packs)[0], b.weight, b.mask)
                loss.backward()
                total += float(loss.detach())
        if self.vision is not None:
            self.vision.forget()
        return {"loss": sum(self.processes.exchange(total)), **self._step()}

    def weigh(self, segments: Sequence[Segment], worth: Sequence[float]) -> dict[str, float]:
        """One optimiser step of the weighted log-ratio on the masked ids of ``segments``.

        Args:
            segments: logged answers.
            worth: w(x, y) of every trajectory that a segment may name.

        Returns:
            Metrics; ``log_ratio_up`` and ``log_ratio_down`` are the means of log(pi/pi_ref) over the tokens of answers
            with w above and below 0 (0 if there are none).
        """
        places = {n: i for i, n in enumerate(dict.fromkeys(s.trajectory for s in segments))}
        here = [dataclasses.replace(s, trajectory=places[s.trajectory]) for s in segments]
        advantage = torch.tensor([worth[n] for n in places], dtype=torch.float64)
        weight = NORMALISERS[self.args.normaliser or "grpo"](token_counts(here, len(places)), self.budget)
        eval_mode(self.model)  # without dropout, as the reference
        total, ratios, worths = 0.0, list[Tensor](), list[Tensor]()
        for chunk, packs in self._passes(here):
            b = self._collate(chunk, packs, advantage, weight, None)
            with torch.no_grad():
                ref = self._score_reference(b)
            logp, _ = self.scorer(b.ids, b.mask, b.images, b.packs)
            loss = weighted_log_ratio(logp, ref, b.advantage, b.weight, b.mask, self.terms)
            loss.backward()
            total += float(loss.detach())
            ratios.append((logp.detach() - ref)[b.mask].cpu())
            worths.append(b.advantage[b.mask].cpu())
        if self.vision is not None:
            self.vision.forget()
        parts = self.processes.exchange((total, (ratios, worths)))
        total = sum(part[0] for part in parts)
        d, w = (torch.cat([t for part in parts for t in part[1][i]]) for i in (0, 1))
        up, down = (float(d[side].mean()) if side.any() else 0.0 for side in (w > 0, w < 0))
        return {"loss": total, "tokens": float(len(d)), "log_ratio_up": up, "log_ratio_down": down, **self._step()}

    def _step(self) -> dict[str, float]:
        own = [] if self.critic is None else list(self.critic.parameters())
        self.processes.add_gradients(own if self.shards.cut else [*self.parameters, *own])
        norm = put_together(torch.nn.utils.clip_grad_norm_(self.parameters, self.args.max_grad_norm))
        rate = self.optimizer.param_groups[0]["lr"]
        finite = bool(torch.isfinite(norm))
        if self.critic is not None:  # by itself: a critic that is far off would take the policy's share of the norm
            of_critic = torch.nn.utils.clip_grad_norm_(self.critic.parameters(), self.args.max_grad_norm)
            finite = finite and bool(torch.isfinite(of_critic))
        if finite:
            self.optimizer.step()
            if self.vision is not None and self.vision.trains:
                self.vision.forget()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()
        return {"grad_norm": float(norm), "learning_rate": float(rate), "update/not_finite": float(not finite)}

    def state_dict(self) -> dict[str, Any]:
        """Optimiser, schedule, the last update's entropy and the critic, for a checkpoint."""
        critic = None if self.critic is None else self.critic.state_dict()
        return {"optimizer": whole_state(self.optimizer), "scheduler": self.scheduler.state_dict(),
                "entropy": self.entropy, "critic": critic}  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave."""
        take_state(self.optimizer, state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.entropy = state["entropy"]
        if self.critic is not None:
            self.critic.load_state_dict(state["critic"])


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
        kl_coef=args.kl_coef if args.kl_in == "loss" else 0.0,
        kl=KL[args.kl_estimator],
        entropy_coef=args.entropy_coef,
    )


def eval_mode(model: Any) -> None:
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
