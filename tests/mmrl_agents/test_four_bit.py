"""QLoRA on a CPU, as far as bitsandbytes goes there: loading, gradients, training, resuming."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from learner_tools import ragged, run_config
from tiny_model import save_tiny_model

from mmrl.report import Quiet
from mmrl.store import RunStore
from mmrl.training_args import LoraArgs, TrainingArgs
from mmrl_agents import checkpoint
from mmrl_agents.checkpoint import Progress
from mmrl_agents.four_bit import BITS
from mmrl_agents.learner import Learner
from mmrl_agents.models import find_model, load_model, load_processing
from mmrl_agents.run import build_model
from mmrl_agents.train import Grpo

ADVANTAGES = [1.0, -1.0, 0.5, -0.5]
IDS = torch.tensor([[7, 8, 9, 10, 11]])


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("wide") / "model", hidden_size=128)


def built(folder: Path, **changes: Any) -> Learner:
    torch.manual_seed(0)
    args = TrainingArgs(learning_rate=1e-2, kl_coef=0.1, lora=LoraArgs(r=4), load_in_4bit=True, **changes)
    model, reference = build_model(find_model(str(folder)), args)
    return Learner(model, args, 1.0, 10, reference)


def layers(model: Any) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, bnb.nn.Linear4bit)]


def test_the_layers_weights_take_4_bits_and_a_little(wide: Path) -> None:
    whole, small = load_model(find_model(str(wide))), load_model(find_model(str(wide)), four_bit=True)
    assert len(layers(small)) == 14
    assert type(small.get_output_embeddings()) is torch.nn.Linear
    for layer in layers(small):
        state = layer.weight.quant_state
        assert (state.quant_type, state.nested, layer.compute_dtype) == ("nf4", True, torch.float32)
        held = layer.weight.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes
        assert held == pytest.approx(state.shape.numel() * BITS / 8, rel=1e-3)
    near = [float((w - s).norm() / w.norm()) for w, s in zip(outputs(whole), outputs(small), strict=True)]
    assert 0 < max(near) < 0.3


@torch.no_grad()
def outputs(model: Any) -> list[torch.Tensor]:
    return list(model(input_ids=IDS, output_hidden_states=True).hidden_states)


def test_the_gradient_is_that_of_the_weights_it_stands_for(wide: Path) -> None:
    """Also after the layers have sampled without a gradient, where bitsandbytes would pack their weights."""
    learner = built(wide)
    twin = copy.deepcopy(learner.model)
    with torch.no_grad():
        learner.model.eval()(input_ids=IDS)
    grads = []
    for model in (learner.model, plain(twin)):
        for name, p in model.named_parameters():
            if "lora_B" in name:
                p.data.fill_(0.01)
        model.eval()(input_ids=IDS, labels=IDS).loss.backward()
        grads.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert len(grads[0]) == 28
    for name, gradient in grads[0].items():
        assert float(grads[1][name].abs().max()) > 0
        torch.testing.assert_close(gradient, grads[1][name], rtol=1e-4, atol=1e-6)


def plain(model: Any) -> Any:
    """The model with each 4-bit layer as the linear layer that it stands for."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, bnb.nn.Linear4bit):
                made = torch.nn.Linear(child.in_features, child.out_features, bias=False)
                made.weight.data = bnb.functional.dequantize_4bit(child.weight.data, child.weight.quant_state)
                made.weight.requires_grad_(False)
                setattr(module, name, made)
    return model


@pytest.mark.parametrize("bf16", [False, True])
def test_it_learns_from_its_base_as_reference_and_resumes_to_the_same_bits(wide: Path, tmp_path: Path,
                                                                           bf16: bool) -> None:  # fmt: skip
    learner = built(wide, bf16=bf16)
    kl = [learner.update(ragged(4), ADVANTAGES)["kl"] for _ in range(3)]
    assert kl[0] == 0.0
    assert kl[2] > 1e-4
    processing = load_processing(find_model(str(wide)))
    checkpoint.save(tmp_path / "c", learner.model, processing, learner.state_dict(), Progress())
    twin = built(wide, bf16=bf16)
    checkpoint.restore_policy(tmp_path / "c", twin.model)
    checkpoint.restore_learner(tmp_path / "c", twin)
    losses = [[made.update(ragged(4), ADVANTAGES)["loss"] for _ in range(2)] for made in (learner, twin)]
    assert losses[0] == losses[1]
    assert logits(learner.model).equal(logits(twin.model))


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(input_ids=IDS).logits


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_saved_policy_is_loaded_on_4_bits_or_on_the_whole_weights(wide: Path, tmp_path: Path, dtype: str) -> None:
    learner = built(wide, bf16=dtype == "bfloat16")
    for _ in range(3):
        learner.update(ragged(4), ADVANTAGES)
    checkpoint.save_policy(tmp_path / "p", learner.model, load_processing(find_model(str(wide))))
    same, near = (load_model(find_model(str(tmp_path / "p")), dtype, four_bit=f) for f in (True, False))
    assert logits(same).equal(logits(learner.model))
    assert not layers(near)
    assert not logits(near).equal(logits(learner.model))


def test_a_whole_run(tmp_path: Path) -> None:
    """Sampling, learning, the best checkpoint loaded in 4 bits again for the final evaluation."""
    save_tiny_model(tmp_path / "model", hidden_size=128)
    loaded = run_config(tmp_path, training_args={"lora": {"r": 4}, "load_in_4bit": True, "optim": "adamw_8bit"},
                        eval={"episodes": 2, "final_episodes": 2})  # fmt: skip
    trainer = Grpo()
    trainer.check(loaded)
    metrics = RunStore(trainer.train(loaded, False, Quiet())).metrics()
    assert [m["update/not_finite"] for m in metrics] == [0.0] * 4
    for m in metrics:
        assert m["mismatch_kl"] == pytest.approx(0.0, abs=1e-3)
    assert (loaded.output_dir / "best" / "adapter_model.safetensors").is_file()
