"""The kinds of LoRA: what each trains, what its reference is, and that it comes back from the disk."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_tools import ragged

from mmrl.training_args import LoraArgs, TrainingArgs
from mmrl_agents import checkpoint
from mmrl_agents.checkpoint import Progress
from mmrl_agents.learner import Learner
from mmrl_agents.models import find_model, load_model, load_processing
from mmrl_agents.run import build_model

KINDS: dict[str, dict[str, bool]] = {
    "lora": {}, "rslora": {"rslora": True}, "dora": {"dora": True}, "both": {"rslora": True, "dora": True},
}  # fmt: skip
ADVANTAGES = [1.0, -1.0, 0.5, -0.5]
IDS = torch.tensor([[7, 8, 9, 10, 11]])


def built(folder: Path, kind: str, **changes: Any) -> Learner:
    torch.manual_seed(0)
    args = TrainingArgs(learning_rate=1e-2, kl_coef=0.1, lora=LoraArgs(r=4, alpha=8, **KINDS[kind]), **changes)
    model, reference = build_model(find_model(str(folder)), args)
    return Learner(model, args, 1.0, 10, reference)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(input_ids=IDS).logits


@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_as_its_reference_and_leaves_it(tiny: Path, kind: str) -> None:
    learner = built(tiny, kind)
    torch.testing.assert_close(logits(learner.model), logits(load_model(find_model(str(tiny)))), rtol=0, atol=1e-6)
    kl = [learner.update(ragged(4), ADVANTAGES)["kl"] for _ in range(3)]
    assert kl[0] == pytest.approx(0.0, abs=1e-12)
    assert kl[2] > 1e-4
    with learner.model.disable_adapter():
        assert torch.equal(logits(learner.model), logits(load_model(find_model(str(tiny)))))


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_and_what_is_trained(tiny: Path, kind: str) -> None:
    learner = built(tiny, kind)
    layer = next(m for n, m in learner.model.named_modules() if n.endswith("up_proj"))
    assert layer.scaling["default"] == (8 / math.sqrt(4) if KINDS[kind].get("rslora") else 8 / 4)
    trained = {n.rsplit("up_proj.", 1)[1] for n, p in learner.model.named_parameters()
               if p.requires_grad and "up_proj" in n}  # fmt: skip
    lengths = {"lora_magnitude_vector.default.weight"} if KINDS[kind].get("dora") else set[str]()
    assert trained == {"lora_A.default.weight", "lora_B.default.weight"} | lengths
    before = {n: p.detach().clone() for n, p in learner.model.named_parameters()}
    for _ in range(2):  # the product's first factor moves once the second is not 0
        learner.update(ragged(4), ADVANTAGES)
    moved = {n for n, p in learner.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n, p in learner.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_saved_loaded_and_merged(tiny: Path, tmp_path: Path, kind: str) -> None:
    learner = built(tiny, kind)
    for _ in range(3):
        learner.update(ragged(4), ADVANTAGES)
    checkpoint.save_policy(tmp_path / "p", learner.model, load_processing(find_model(str(tiny))))
    loaded = load_model(find_model(str(tmp_path / "p")))
    assert torch.equal(logits(loaded), logits(learner.model))
    assert not torch.allclose(logits(loaded), logits(load_model(find_model(str(tiny)))), atol=1e-3)
    torch.testing.assert_close(logits(loaded.merge_and_unload()), logits(learner.model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_learner_goes_on_to_the_same_bits(tiny: Path, tmp_path: Path, kind: str) -> None:
    learner = built(tiny, kind)
    learner.update(ragged(4), ADVANTAGES)
    processing = load_processing(find_model(str(tiny)))
    checkpoint.save(tmp_path / "c", learner.model, processing, learner.state_dict(), Progress())
    twin = built(tiny, kind)
    checkpoint.restore_policy(tmp_path / "c", twin.model)
    checkpoint.restore_learner(tmp_path / "c", twin)
    for made in (learner, twin):
        for _ in range(2):
            made.update(ragged(4), ADVANTAGES)
    one, two = learner.model.state_dict(), twin.model.state_dict()
    assert all(torch.equal(one[n], two[n]) for n in one)


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_that_is_trained_further_has_its_start_as_reference(tiny: Path, tmp_path: Path, kind: str) -> None:
    first = built(tiny, kind)
    for _ in range(3):
        first.update(ragged(4), ADVANTAGES)
    checkpoint.save_policy(tmp_path / "p", first.model, load_processing(find_model(str(tiny))))
    second = built(tmp_path / "p", kind)
    kl = [second.update(ragged(4), ADVANTAGES)["kl"] for _ in range(3)]
    assert kl[0] == pytest.approx(0.0, abs=1e-12)
    assert kl[2] > 1e-4
