"""The losses against TRL's own trainer: a real ``GRPOTrainer`` around the same tiny model, on the same tensors."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_tools import VOCAB, llama, trajectory, turn
from torch import Tensor

from mmrl.training_args import TrainingArgs
from mmrl_agents.batch import MicroBatch, collate, segments_of, token_counts
from mmrl_agents.credit import Credit, without_overlong
from mmrl_agents.learner import terms_of
from mmrl_agents.lesson import lesson_of
from mmrl_agents.logprobs import Scorer
from mmrl_agents.loss import policy_loss

PROMPT, SEQ, BUDGET = 4, 6, 6
LENGTHS = (6, 2, 4, 1)
ADVANTAGES = [1.5, -0.7, -0.8, 0.4]


@dataclass(frozen=True)
class Pair:
    """The same loss in our words and in TRL's."""

    ours: dict[str, Any]
    theirs: dict[str, Any]

    def __str__(self) -> str:
        return " ".join(f"{k}={v}" for k, v in self.ours.items())


# TRL's epsilon_high is CISPO's greatest weight itself.
LOSSES = {
    "grpo": {"loss_type": "grpo"},
    "dapo": {"loss_type": "dapo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence"},
    "cispo": {"loss_type": "cispo", "epsilon_high": 1.28},
    "sapo": {"loss_type": "sapo"},
}
PAIRS = [
    *[Pair({"loss_type": n}, theirs) for n, theirs in LOSSES.items()],
    *[Pair({"loss_type": n, "kl_coef": 0.3}, {**theirs, "beta": 0.3}) for n, theirs in LOSSES.items()],
    *[Pair({"loss_type": n, "dual_clip": 1.4}, {**LOSSES[n], "delta": 1.4}) for n in ("grpo", "gspo")],
    Pair({"loss_type": "gspo", "epsilon": 3e-4, "epsilon_high": 4e-4},
         {**LOSSES["gspo"], "epsilon": 3e-4, "epsilon_high": 4e-4}),
    Pair({"loss_type": "dapo", "entropy_coef": 0.1}, {**LOSSES["dapo"], "entropy_coef": 0.1}),
    *[Pair({"loss_type": n, "kl_coef": 0.3, "kl_estimator": "rho_k3"},
           {**LOSSES[n], "beta": 0.3, "use_bias_correction_kl": True}) for n in ("grpo", "dapo", "sapo")],
]  # fmt: skip


class Batch:
    """Rows of one prompt length and ragged completions, with log-probabilities to compare with."""

    def __init__(self, model: Any) -> None:
        g = torch.Generator().manual_seed(3)
        ids = torch.randint(2, VOCAB, (len(LENGTHS), PROMPT + SEQ), generator=g).tolist()
        trajectories = [
            trajectory(f"t{i}", [turn(row[:PROMPT], row[PROMPT : PROMPT + n])])
            for i, (row, n) in enumerate(zip(ids, LENGTHS, strict=True))
        ]
        self.segments = [s for i, t in enumerate(trajectories) for s in segments_of(t, i)]
        logp = Scorer(model, 1.0)(*self.rows(torch.ones(4).double())[:2])[0].detach()
        self.old, self.mu, self.ref = (
            logp + 0.6 * torch.randn(logp.shape, generator=g, dtype=torch.float64) for _ in range(3)
        )

    def rows(self, weight: Tensor) -> tuple[Tensor, Tensor, MicroBatch]:
        """Ids, mask and the batch, as the learner collates them."""
        b = collate(self.segments, torch.tensor(ADVANTAGES, dtype=torch.float64), weight, torch.float64)
        return b.ids, b.mask, b

    def inputs(self) -> dict[str, Tensor]:
        """What TRL's loss asks for."""
        ids, mask, b = self.rows(torch.ones(4).double())
        completion = mask[:, PROMPT - 1 :]
        return {
            "prompt_ids": ids[:, :PROMPT], "prompt_mask": torch.ones_like(ids[:, :PROMPT]),
            "completion_ids": ids[:, PROMPT:], "completion_mask": completion.long(),
            "advantages": b.advantage[:, 0], "old_per_token_logps": self.old[:, PROMPT - 1 :],
            "ref_per_token_logps": self.ref[:, PROMPT - 1 :], "num_items_in_batch": completion.sum(),
        }  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Any:
    return llama().train()


@pytest.fixture(scope="module")
def batch(model: Any) -> Batch:
    return Batch(model)


def trl_trainer(model: Any, tiny: Path, folder: Path, beta: float = 0.0, **changes: Any) -> Any:
    """TRL's trainer as anybody would make it; only its loop does not run."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    logging.getLogger("trl").setLevel(logging.ERROR)
    config: dict[str, Any] = {"epsilon": 0.2, "epsilon_high": 0.28, "use_bias_correction_kl": False, **changes}
    args = GRPOConfig(
        output_dir=str(folder), per_device_train_batch_size=4, num_generations=2, max_completion_length=BUDGET,
        report_to=[], use_cpu=True, save_strategy="no", bf16=False, **config,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=model, reward_funcs=lambda completions, **_: [0.0] * len(completions), args=args,
        train_dataset=Dataset.from_dict({"prompt": ["a", "b"]}), processing_class=AutoTokenizer.from_pretrained(tiny),
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1  # as the loop would set it
    trainer.beta = beta  # not before: it would load a reference model, whose log-probabilities are given here
    return trainer


def ours(model: Any, batch: Batch, args: TrainingArgs) -> tuple[Tensor, Sequence[Tensor]]:
    terms = terms_of(args)
    _, _, b = batch.rows(terms.loss.normaliser(token_counts(batch.segments, len(LENGTHS)), BUDGET))
    logp, entropy = Scorer(model, 1.0).tokens(b.ids, b.mask, learn_entropy=args.entropy_coef > 0)
    ref = batch.ref if args.kl_coef else None
    loss, _ = policy_loss(logp, batch.old, batch.mu, ref, b.advantage, b.weight, b.mask, terms, entropy)
    return loss.detach(), torch.autograd.grad(loss, list(model.parameters()))


def equal(mine: tuple[Tensor, Sequence[Tensor]], theirs: Tensor, model: Any) -> None:
    loss, grads = mine
    torch.testing.assert_close(loss, theirs.detach(), rtol=0, atol=1e-6)
    their_grads = torch.autograd.grad(theirs, list(model.parameters()))
    assert max(float(g.abs().max()) for g in grads) > 1e-2
    torch.testing.assert_close(list(grads), list(their_grads), rtol=0, atol=1e-6)


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_equals_trl(pair: Pair, model: Any, batch: Batch, tiny: Path, tmp_path: Path) -> None:
    trainer = trl_trainer(model, tiny, tmp_path, **pair.theirs)
    theirs = trainer._compute_loss(trainer.model, batch.inputs())
    mine = ours(model, batch, TrainingArgs(importance_correction="none", **pair.ours))
    equal(mine, theirs, model)


def test_dapo_without_overlong_rows_equals_trls_mask(model: Any, batch: Batch, tiny: Path, tmp_path: Path) -> None:
    """`mask_truncated_completions`: TRL clears the rows' masks before it counts tokens, here they are not there."""
    cut = [dataclasses.replace(turn([2], [3]), finish_reason="length" if i == 1 else "stop") for i in range(4)]
    lesson = lesson_of([trajectory(f"{i}", [t]) for i, t in enumerate(cut)],
                       without_overlong(Credit([*ADVANTAGES], None), [trajectory("", [t]) for t in cut]))  # fmt: skip
    kept = torch.tensor([int(t.id) for t in lesson.trajectories])
    assert kept.tolist() == [0, 2, 3]
    trainer, inputs = trl_trainer(model, tiny, tmp_path, **LOSSES["dapo"]), batch.inputs()
    mask = torch.zeros_like(inputs["completion_mask"]).index_copy(0, kept, inputs["completion_mask"][kept])
    theirs = trainer._compute_loss(trainer.model, {**inputs, "completion_mask": mask, "num_items_in_batch": mask.sum()})
    terms = terms_of(TrainingArgs(loss_type="dapo", importance_correction="none"))
    segments = [dataclasses.replace(batch.segments[row], trajectory=i) for i, row in enumerate(kept.tolist())]
    weight = terms.loss.normaliser(token_counts(segments, len(kept)), BUDGET)
    b = collate(segments, torch.tensor(lesson.advantages, dtype=torch.float64), weight, torch.float64)
    logp, _ = Scorer(model, 1.0)(b.ids, b.mask)
    loss, _ = policy_loss(logp, batch.old[kept], batch.mu[kept], None, b.advantage, b.weight, b.mask, terms)
    equal((loss.detach(), torch.autograd.grad(loss, list(model.parameters()))), theirs, model)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("correction", ["token", "icepop", "geometric"])
def test_equals_trl_with_an_importance_correction(loss: str, correction: str, model: Any, batch: Batch, tiny: Path,
                                                  tmp_path: Path) -> None:
    """TRL's loss takes the weights of tokens as given; here they are written out."""
    trainer = trl_trainer(model, tiny, tmp_path, **LOSSES[loss])
    trainer.use_vllm = True  # the switch by which the loss reads the weights
    inputs = batch.inputs()
    log_w, mask = (batch.old - batch.mu)[:, PROMPT - 1 :], inputs["completion_mask"]
    w, mean = log_w.exp(), ((log_w * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)).exp()
    weight = {"token": w.clamp(max=2.0), "icepop": w * ((w >= 0.7) & (w <= 1.6)),
              "geometric": w.clamp(max=2.0) * ((mean >= 0.7) & (mean <= 1.6))}[correction]  # fmt: skip
    theirs = trainer._compute_loss(trainer.model, {**inputs, "importance_sampling_ratio": weight})
    args = TrainingArgs(loss_type=loss, importance_correction=correction, importance_range=(0.7, 1.6))  # type: ignore[arg-type]
    equal(ours(model, batch, args), theirs, model)
