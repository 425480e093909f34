from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from learner_tools import ragged
from tiny_model import save_tiny_model

from mmrl.errors import BadInput
from mmrl.training_args import LoraArgs, TrainingArgs
from mmrl_agents import checkpoint
from mmrl_agents.blueprint import blueprint, nbytes, sizes_of
from mmrl_agents.four_bit import BITS
from mmrl_agents.learner import Learner
from mmrl_agents.models import find_model, load_model, load_processing
from mmrl_agents.run import build_model


def held(learner: Learner) -> int:
    """Bytes of the optimiser's state, without its counters."""
    return sum(t.nbytes for s in learner.optimizer.state.values() for t in s.values() if t.dim() > 0)


@pytest.mark.parametrize("args", [
    {},
    {"bf16": True},
    {"kl_coef": 0.1},
    {"lora": {"r": 4}, "kl_coef": 0.1},
    {"lora": {"r": 4}, "bf16": True},
    {"lora": {"r": 4, "dora": True}},
    {"optim": "galore_adamw", "galore": {"rank": 8}},
])  # fmt: skip
def test_a_blueprint_takes_what_the_model_takes(tmp_path: Path, args: dict[str, Any]) -> None:
    said = TrainingArgs.model_validate({"num_generations": 4, "learning_rate": 1e-3, **args})
    files = find_model(str(save_tiny_model(tmp_path / "model")))
    model, reference = build_model(files, said)
    learner = Learner(model, said, 1.0, 4, reference)
    learner.update(ragged(4), [1.0, -1.0, 0.5, -0.5])

    sizes = sizes_of(blueprint(files, said), files, said, said.kl_coef > 0)
    assert sizes.weights == nbytes([*model.parameters(), *model.buffers()])
    assert sizes.gradients == nbytes(learner.parameters)
    assert sizes.optimizer == held(learner)
    assert sizes.reference == (sizes.weights if said.kl_coef > 0 and said.lora is None else 0)
    assert sizes.values == sum(p.numel() for p in model.parameters())
    assert sizes.learned == sum(p.numel() for p in learner.parameters)


def test_no_blueprint_holds_memory(tmp_path: Path) -> None:
    args = TrainingArgs(lora=LoraArgs(r=4), gradient_checkpointing=True)
    model = blueprint(find_model(str(save_tiny_model(tmp_path / "model"))), args)
    assert {t.device for t in [*model.parameters(), *model.buffers()]} == {torch.device("meta")}


def test_a_ready_adapter_keeps_a_copy_of_itself_as_its_reference(tmp_path: Path) -> None:
    base = find_model(str(save_tiny_model(tmp_path / "model")))
    args = TrainingArgs(lora=LoraArgs(r=4), kl_coef=0.1)
    checkpoint.save_policy(tmp_path / "adapter", build_model(base, args)[0], load_processing(base))
    files = find_model(str(tmp_path / "adapter"))
    model, _ = build_model(files, args)
    sizes = sizes_of(blueprint(files, args), files, args, True)
    assert sizes.weights + sizes.reference == nbytes([*model.parameters(), *model.buffers()])
    assert sizes.reference == sizes.gradients > 0


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_vision_tower_has_no_gradients(frozen: bool) -> None:
    files, args = find_model("mmrl/tiny-vlm"), TrainingArgs(freeze_vision=frozen)
    model, _ = build_model(files, args)
    sizes = sizes_of(blueprint(files, args), files, args, False)
    assert sizes.gradients == nbytes([p for p in model.parameters() if p.requires_grad])
    assert (sizes.gradients == sizes.weights) is False  # buffers of positions learn nothing
    assert (sizes.learned == sizes.values) is not frozen


def test_weights_in_four_bits(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", hidden_size=256)
    files, args = find_model(str(folder)), TrainingArgs(lora=LoraArgs(r=4), load_in_4bit=True)
    sizes = sizes_of(blueprint(files, args), files, args, False)
    import bitsandbytes as bnb

    loaded = load_model(files, four_bit=True)
    packed = [m.weight for m in loaded.modules() if isinstance(m, bnb.nn.Linear4bit)]
    values = sum(w.quant_state.shape.numel() for w in packed)
    rest = nbytes([p for p in loaded.parameters() if all(p is not w for w in packed)]) + nbytes(loaded.buffers())
    assert sizes.weights - sizes.gradients == pytest.approx(rest + values * BITS / 8, rel=1e-3)


def test_a_model_that_nobody_knows_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(BadInput, match="its configuration cannot be read"):
        blueprint(find_model(str(tmp_path / "model")), TrainingArgs())
