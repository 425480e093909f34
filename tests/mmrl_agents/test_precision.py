from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from learner_tools import Listening, llama, lora, ragged, run_config
from torch import Tensor

from mmrl.errors import BadInput
from mmrl.store import RunStore
from mmrl.training_args import TrainingArgs
from mmrl_agents.forward import Forward
from mmrl_agents.learner import Learner
from mmrl_agents.logprobs import Scorer
from mmrl_agents.precision import (
    BFLOAT16,
    FILE,
    FLOAT32,
    Measured,
    Precision,
    check_precision,
    choose,
    decide,
    measure,
    said,
)
from mmrl_agents.reference import adapter_off
from mmrl_agents.run import open_run
from mmrl_agents.train import Grpo

ADVANTAGES = [1.0, -1.0, 0.5, -0.5]


@pytest.mark.parametrize(("update", "sample", "mismatch", "chosen"), [
    ((2.0, 1.0), (2.0, 1.0), 0.001, BFLOAT16),
    ((1.0, 2.0), (1.0, 2.0), 0.001, FLOAT32),
    ((2.0, 1.0), (1.0, 2.0), 0.001, Precision(update=True, sample=False)),
    ((1.0, 2.0), (2.0, 1.0), 0.001, Precision(update=False, sample=True)),
    ((1.0, 0.95), (1.0, 0.95), 0.001, FLOAT32),  # as fast, up to noise
    ((1.1, 1.0), (1.0, 1.0), 0.001, Precision(update=True, sample=False)),
    ((4.0, 1.0), (1.0, 2.0), 0.1, BFLOAT16),  # 5 s against 3 s in all
    ((2.0, 1.0), (1.0, 4.0), 0.1, FLOAT32),
    ((2.0, 1.0), (1.0, 2.0), float("nan"), FLOAT32),
    ((2.0, 1.0), (2.0, 1.0), 0.1, BFLOAT16),
])  # fmt: skip
def test_the_choice_by_what_was_measured(
    update: tuple[float, float], sample: tuple[float, float], mismatch: float, chosen: Precision
) -> None:
    assert choose(Measured(update, sample, mismatch)) == chosen


def test_a_choice_is_said_with_its_figures() -> None:
    line = said(Precision(True, False), Measured((0.48, 0.21), (0.3, 0.55), 0.0004))
    assert line == ("mixed_precision: update in bfloat16 (float32 0.48 s, bfloat16 0.21 s), sampling in float32 "
                    "(float32 0.3 s, bfloat16 0.55 s); a sampler in bfloat16 diverges by "
                    "0.0004 nats a token")  # fmt: skip


def test_a_choice_is_kept_with_the_run(tmp_path: Path) -> None:
    asked, heard = list[int](), list[str]()

    def find() -> Measured:
        asked.append(1)
        return Measured((2.0, 1.0), (1.0, 2.0), 0.001)

    first = decide(tmp_path, "auto", find, heard.append)
    assert decide(tmp_path, "auto", find, heard.append) == first == Precision(update=True, sample=False)
    assert (len(asked), len(heard)) == (1, 1)
    kept = json.loads((tmp_path / FILE).read_text())
    assert kept == {"chosen": {"update": True, "sample": False},
                    "measured": {"update": [2.0, 1.0], "sample": [1.0, 2.0], "mismatch": 0.001}}  # fmt: skip


@pytest.mark.parametrize(("wanted", "chosen"), [(False, FLOAT32), (True, BFLOAT16)])
def test_what_is_said_outright_is_not_measured(tmp_path: Path, wanted: bool, chosen: Precision) -> None:
    def never() -> Measured:
        raise AssertionError

    assert decide(tmp_path, wanted, never, print) == chosen
    assert [*tmp_path.iterdir()] == []


def test_a_measurement_leaves_the_model_alone() -> None:
    model = llama(dtype=torch.float32, spread=0.1).train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    state = torch.get_rng_state()
    found = measure(model, 1.0)
    assert all(s > 0 for s in (*found.update, *found.sample))
    assert 0 < found.mismatch < 0.01
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(p, before[n]) and p.grad is None for n, p in model.named_parameters())


def gradient(bfloat16: bool, **changes: float) -> tuple[dict[str, Tensor], dict[str, float], Learner]:
    """The first step of a LoRA learner with its base as reference: what each weight moved by."""
    model = lora(llama(dtype=torch.float32, spread=0.1), trained=True)
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    args = TrainingArgs(learning_rate=1e-3, kl_coef=0.1, mixed_precision=bfloat16, importance_correction="none")
    learner = Learner(model, args, 1.0, 10, adapter_off(model))
    grads: dict[str, Tensor] = {}
    learner.optimizer.register_step_pre_hook(
        lambda *_: grads.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    )
    metrics = learner.update(ragged(4), ADVANTAGES)
    assert grads.keys() == before.keys()
    return grads, metrics, learner


def test_an_update_in_bfloat16_is_close_to_one_in_float32() -> None:
    exact, plain, _ = gradient(False)
    rounded, mixed, learner = gradient(True)
    kinds = {t.dtype for s in learner.optimizer.state.values() for t in s.values() if isinstance(t, Tensor)}
    assert kinds == {torch.float32} == {p.dtype for p in learner.model.parameters()}
    one, two = (torch.cat([g.flatten() for g in grads.values()]) for grads in (exact, rounded))
    assert float((one - two).norm() / one.norm()) < 0.05
    assert not torch.equal(one, two)
    assert mixed["ratio_deviation"] == plain["ratio_deviation"] == 0.0
    assert mixed["grad_norm"] == pytest.approx(plain["grad_norm"], rel=0.05)
    assert mixed["kl"] == pytest.approx(plain["kl"], rel=0.2)


def test_shared_prefixes_under_autocast_agree_with_plain_rows() -> None:
    model = llama(dtype=torch.float32, spread=0.1)
    scorer = Scorer(model, 1.0, forward=Forward(bfloat16=True))
    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11], [5, 6, 7, 8, 12, 13, 14]])
    mask = torch.tensor([[False] * 3 + [True] * 3] * 2)
    apart, together = scorer(ids, mask, packs=[(0,), (1,)])[0], scorer(ids, mask, packs=[(0, 1)])[0]
    assert apart.dtype == torch.float32
    torch.testing.assert_close(together, apart, rtol=0.02, atol=0.02)
    exact = Scorer(model, 1.0)(ids, mask)[0]
    torch.testing.assert_close(together, exact, rtol=0.02, atol=0.02)
    assert not torch.equal(apart, exact)


def test_a_run_measures_once_and_a_resumed_one_takes_the_same(tmp_path: Path) -> None:
    heard = Listening()
    loaded = run_config(tmp_path, training_args={"mixed_precision": "auto", "max_steps": 1})
    Grpo().train(loaded, False, heard)
    assert len([line for line in heard.said if line.startswith("mixed_precision: update in ")]) == 1
    kept = json.loads((loaded.output_dir / FILE).read_text())
    kept["chosen"] = {"update": True, "sample": False}
    (loaded.output_dir / FILE).write_text(json.dumps(kept))
    run = open_run(loaded, True, heard, 1)
    assert run.precision == Precision(True, False)
    assert run.learner.scorer.dtype == torch.bfloat16
    assert len([line for line in heard.said if line.startswith("mixed_precision")]) == 1


def test_a_run_in_mixed_precision_samples_and_learns_in_it(tmp_path: Path) -> None:
    mixed, plain = (
        RunStore(Grpo().train(run_config(tmp_path / name, training_args=args), False, Listening())).metrics()
        for name, args in (("mixed", {"mixed_precision": True, "max_steps": 2}), ("plain", {"max_steps": 2}))
    )
    assert len(mixed) == 2
    assert all(0 <= line["mismatch_kl"] < 1e-3 for line in mixed)
    assert mixed[0]["grad_norm"] != plain[0]["grad_norm"]
    assert mixed[0]["grad_norm"] == pytest.approx(plain[0]["grad_norm"], rel=0.3)


def test_weights_in_bfloat16_leave_no_products_to_choose(tmp_path: Path) -> None:
    loaded = run_config(tmp_path, training_args={"bf16": True, "mixed_precision": "auto"})
    with pytest.raises(BadInput) as error:
        check_precision(loaded)
    place, _, words = str(error.value).partition(": ")
    assert words == ("mixed_precision keeps weights in float32, and bf16 has them in bfloat16; leave one of them out")
    assert "mixed_precision" in (tmp_path / "run.yaml").read_text().splitlines()[int(place.rpartition(":")[2]) - 1]
    check_precision(run_config(tmp_path, training_args={"bf16": True}))
