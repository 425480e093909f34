from __future__ import annotations

import importlib.util
import typing
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_tools import llama, ragged, run_config

from mmrl.errors import BadInput
from mmrl.training_args import GaloreArgs, LoraArgs, TrainingArgs
from mmrl_agents import checkpoint
from mmrl_agents.checkpoint import Progress
from mmrl_agents.galore import GaloreAdamW
from mmrl_agents.learner import Learner
from mmrl_agents.models import find_model, load_processing
from mmrl_agents.optimizers import OPTIMIZERS, check_optimizer, layer_weights, make_optimizer, state_bytes
from mmrl_agents.run import build_model

ADVANTAGES = [1.0, -1.0, 0.5, -0.5]
HERE = [n for n, kind in OPTIMIZERS.items() if not kind.gpu]
"""The optimisers that run on a CPU."""


def arguments(optim: str, **changes: Any) -> TrainingArgs:
    galore = GaloreArgs(rank=4, refresh=2) if optim == "galore_adamw" else None
    return TrainingArgs(optim=optim, galore=galore, learning_rate=1e-2, weight_decay=0.1, **changes)


def wide(folder: Path) -> Path:
    """A model with weights large enough for 8-bit states."""
    from tiny_model import save_tiny_model

    return save_tiny_model(folder / "wide", hidden_size=64)


def built(folder: Path, args: TrainingArgs) -> Learner:
    torch.manual_seed(0)
    model, reference = build_model(find_model(str(folder)), args)
    return Learner(model, args, 1.0, 10, reference)


def test_the_names_are_the_configurations() -> None:
    names = typing.get_args(TrainingArgs.model_fields["optim"].annotation)
    assert list(OPTIMIZERS) == list(names)
    assert TrainingArgs().optim == "adamw"


def test_adamw_is_torchs() -> None:
    model = llama()
    args = TrainingArgs(learning_rate=0.01, adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-6, weight_decay=0.3)
    made = make_optimizer(model, list(model.parameters()), args)
    assert type(made) is torch.optim.AdamW
    (group,) = made.param_groups
    assert [group[k] for k in ("lr", "betas", "eps", "weight_decay")] == [0.01, (0.8, 0.95), 1e-6, 0.3]
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]


def test_galore_projects_the_layers_matrices_and_no_more() -> None:
    model = llama(dtype=torch.float32, num_key_value_heads=4)
    made = make_optimizer(model, list(model.parameters()), arguments("galore_adamw"))
    assert isinstance(made, GaloreAdamW)
    projected = {id(p) for g in made.param_groups if g["projected"] for p in g["params"]}
    names = {n for n, p in model.named_parameters() if id(p) in projected}
    ends = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert names == {n for n, _ in model.named_parameters() if n.removesuffix(".weight").endswith(ends)}
    assert layer_weights(model) == projected
    assert sum(len(g["params"]) for g in made.param_groups) == len(list(model.parameters()))


def test_a_tied_head_is_not_projected(tiny: Path) -> None:
    model = built(tiny, arguments("galore_adamw")).model
    assert id(model.get_input_embeddings().weight) == id(model.get_output_embeddings().weight)
    assert id(model.get_input_embeddings().weight) not in layer_weights(model)


def moments(learner: Learner) -> list[torch.Tensor]:
    def tensors(state: Any) -> list[torch.Tensor]:
        if isinstance(state, torch.Tensor):
            return [state]
        return [t for v in state.values() for t in tensors(v)] if isinstance(state, dict) else []

    return tensors(learner.optimizer.state_dict()["state"])


@pytest.mark.parametrize("optim", HERE)
def test_a_restored_learner_goes_on_to_the_same_bits(tmp_path: Path, optim: str) -> None:
    folder = wide(tmp_path)
    learner = built(folder, arguments(optim))
    for _ in range(3):
        learner.update(ragged(4), ADVANTAGES)
    processing = load_processing(find_model(str(folder)))
    checkpoint.save(tmp_path / "c", learner.model, processing, learner.state_dict(), Progress())
    twin = built(folder, arguments(optim))
    checkpoint.restore_policy(tmp_path / "c", twin.model)
    checkpoint.restore_learner(tmp_path / "c", twin)
    for made in (learner, twin):
        for _ in range(3):
            made.update(ragged(4), ADVANTAGES)
    one, two = ([*made.model.state_dict().values(), *moments(made)] for made in (learner, twin))
    assert len(one) == len(two) > 20
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("optim", HERE)
@pytest.mark.parametrize("bf16", [False, True])
def test_the_state_takes_the_memory_that_is_said(tmp_path: Path, optim: str, bf16: bool) -> None:
    args = arguments(optim, bf16=bf16)
    learner = built(wide(tmp_path), args)
    learner.update(ragged(4), ADVANTAGES)
    unique = {t.untyped_storage().data_ptr(): t.nbytes for t in moments(learner) if t.dim() > 0}
    said = state_bytes(learner.model, learner.parameters, args)
    shared = 2 * 256 * 4 if "8bit" in optim else 0  # two tables of what the 8 bits stand for
    assert sum(unique.values()) == said + shared


def test_the_states_of_the_others_are_smaller(tmp_path: Path) -> None:
    learner = built(wide(tmp_path), arguments("adamw"))
    sizes = {n: state_bytes(learner.model, learner.parameters, arguments(n)) for n in OPTIMIZERS}
    assert sizes["adamw"] == 2 * sum(p.nbytes for p in learner.parameters)
    assert sizes["adamw_8bit"] == sizes["paged_adamw_8bit"] < 0.32 * sizes["adamw"]
    assert sizes["galore_adamw"] < 0.4 * sizes["adamw"]


@pytest.mark.parametrize("optim", HERE)
def test_every_optimiser_makes_what_was_rewarded_likelier(tmp_path: Path, optim: str) -> None:
    learner = built(wide(tmp_path), arguments(optim))
    before = learner.model.state_dict()["model.layers.0.mlp.up_proj.weight"].clone()
    losses = [learner.update(ragged(2), [1.0, 0.0])["loss"] for _ in range(8)]
    assert losses[-1] < losses[0]
    assert not torch.equal(before, learner.model.state_dict()["model.layers.0.mlp.up_proj.weight"])


@pytest.mark.parametrize(
    ("args", "key", "words"),
    [
        ({"optim": "paged_adamw_8bit"}, "optim",
         "optim 'paged_adamw_8bit' moves its state between a GPU and the host, and there is no GPU here; take "
         "'adamw_8bit'"),
        ({"optim": "paged_adamw"}, "optim",
         "optim 'paged_adamw' moves its state between a GPU and the host, and there is no GPU here; take 'adamw'"),
        ({"galore": {"rank": 4}}, "galore",
         "optim 'adamw' does not read 'galore'; leave it out, or set optim: galore_adamw"),
        ({"optim": "galore_adamw", "lora": {"r": 2}}, "optim",
         "optim 'galore_adamw' projects whole weights, and training_args.lora trains none; leave one of them out"),
        ({"load_in_4bit": True}, "load_in_4bit",
         "weights in 4 bits cannot be trained; set training_args.lora to train an adapter on them"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: dict[str, Any],
                                         key: str, words: str) -> None:  # fmt: skip
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    loaded = run_config(tmp_path, training_args=args)
    with pytest.raises(BadInput) as error:
        check_optimizer(loaded)
    assert str(error.value) == f"{loaded.where('training_args', key)}: {words}"
    assert f"{key}:" in (tmp_path / "run.yaml").read_text().splitlines()[int(str(error.value).split(":")[1]) - 1]


@pytest.mark.parametrize(
    ("args", "what"),
    [({"optim": "adamw_8bit"}, "optim 'adamw_8bit'"), ({"optim": "paged_adamw_8bit"}, "optim 'paged_adamw_8bit'"),
     ({"load_in_4bit": True, "lora": {"r": 2}}, "load_in_4bit")],
)  # fmt: skip
def test_a_missing_package_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: dict[str, Any],
                                        what: str) -> None:  # fmt: skip
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    words = f"{what} needs the package bitsandbytes; install it with: pip install 'mmrl\\[bnb\\]'"
    with pytest.raises(BadInput, match=words):
        check_optimizer(run_config(tmp_path, training_args=args))


def test_what_goes_together_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    for args in ({"optim": "adamw_8bit"}, {"optim": "galore_adamw", "galore": {"rank": 2}},
                 {"load_in_4bit": True, "lora": {"r": 2}, "optim": "adamw_8bit"}):  # fmt: skip
        check_optimizer(run_config(tmp_path, training_args=args))
    assert LoraArgs().rslora is LoraArgs().dora is False
