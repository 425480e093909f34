from pathlib import Path
from typing import Any

import pytest
import torch
from learner_tools import llama, lora, ragged, scored
from tiny_model import save_tiny_model
from update_tools import ADVANTAGES, arguments, learner, same, weights

from mmrl.training_args import LoraArgs
from mmrl_agents.models import find_model
from mmrl_agents.reference import adapter_copy, adapter_off, frozen_copy
from mmrl_agents.run import build_model


def kl_run(model: Any, reference: Any) -> tuple[float, float]:
    made = learner(model, reference, kl_coef=0.1, learning_rate=0.01)
    trajectories = scored(model, ragged(7))
    return made.update(trajectories, ADVANTAGES)["kl"], made.update(trajectories, ADVANTAGES)["kl"]


def check_enabled(model: Any) -> None:
    """The adapter speaks and is trained; nothing else is."""
    assert model.active_adapters == ["default"]
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        n for n, _ in model.named_parameters() if "lora_" in n and ".default." in n
    }
    ids = torch.tensor([[2, 3, 4]])
    with torch.no_grad():
        on = model(input_ids=ids).logits
        with model.disable_adapter():
            off = model(input_ids=ids).logits
    assert not torch.allclose(on, off)


def test_kl_is_0_before_the_first_step_for_a_frozen_copy() -> None:
    model = llama(dtype=torch.float32)
    first, second = kl_run(model, frozen_copy(model))
    assert first == 0.0
    assert second > 1e-5


def test_kl_is_0_before_the_first_step_with_the_adapter_off() -> None:
    model = lora(llama(dtype=torch.float32))
    first, second = kl_run(model, adapter_off(model))
    assert first == 0.0
    assert second > 1e-5
    check_enabled(model)


def test_kl_is_0_before_the_first_step_for_a_copied_adapter(tmp_path: Path) -> None:
    model = lora(llama(dtype=torch.float32), trained=True)
    model.save_pretrained(tmp_path / "adapter")
    reference = adapter_copy(model, str(tmp_path / "adapter"))
    copied = {n: p.clone() for n, p in model.named_parameters() if ".ref." in n}
    first, second = kl_run(model, reference)
    assert first == 0.0
    assert second > 1e-5
    check_enabled(model)
    assert copied
    assert same(copied, weights(model))


@pytest.mark.parametrize("kind", ["lora", "full", "adapter"])
def test_the_reference_of_a_resumed_run_is_what_the_run_started_from(tmp_path: Path, kind: str) -> None:
    base = save_tiny_model(tmp_path / "base")
    start = base
    if kind == "adapter":
        model, _ = build_model(find_model(str(base)), arguments(lora=LoraArgs(r=2)))
        with torch.no_grad():
            [p.normal_() for n, p in model.named_parameters() if "lora_B" in n]
        model.save_pretrained(tmp_path / "adapter")
        start = tmp_path / "adapter"
    args = arguments(kl_coef=0.1, lora=None if kind == "full" else LoraArgs(r=2))
    model, reference = build_model(find_model(str(start)), args)
    ids = torch.tensor([[7, 8, 9, 10]])
    with torch.no_grad():
        before = model.eval()(input_ids=ids).logits
        for p in model.parameters():  # as a checkpoint would
            if p.requires_grad:
                p.add_(0.05)
        after = model(input_ids=ids).logits
        assert reference is not None
        with reference() as referee:
            held = referee(input_ids=ids).logits
        again = model(input_ids=ids).logits
    assert torch.equal(held, before)
    assert not torch.allclose(after, before)
    assert torch.equal(again, after)


def test_kl_coef_0_loads_no_reference(tmp_path: Path) -> None:
    base = save_tiny_model(tmp_path / "base")
    for adapter in (None, LoraArgs(r=2)):
        assert build_model(find_model(str(base)), arguments(lora=adapter))[1] is None
