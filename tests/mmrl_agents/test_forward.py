"""The compiled update is the plain one: same numbers, same checkpoints, few versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from learner_tools import llama, lora, ragged, run_config
from safetensors.torch import load_file
from torch import Tensor

from mmrl.errors import BadInput
from mmrl.training_args import TrainingArgs
from mmrl_agents.critic import Critic
from mmrl_agents.forward import Forward, check_compiler, check_offload, compiler_problem, host_hooks
from mmrl_agents.learner import Learner
from mmrl_agents.reference import adapter_off

ADVANTAGES = [1.0, -1.0, 0.5, -0.5, 0.25, -0.25]


def learner(compiled: bool) -> Learner:
    """A learner whose passes are of all kinds: adapter on and off, packs and rows, with and without a gradient."""
    model = lora(llama(dtype=torch.float32, num_hidden_layers=1), trained=True)
    args = TrainingArgs(learning_rate=1e-2, kl_coef=0.1, num_iterations=2, torch_compile=compiled,
                        max_tokens_per_micro_batch=64)  # fmt: skip
    return Learner(model, args, 0.7, 10, adapter_off(model), critic=Critic(32))


def weights(made: Learner) -> dict[str, Tensor]:
    return {n: p.detach() for n, p in made.model.named_parameters() if p.requires_grad}


def update(made: Learner, seed: int) -> dict[str, float]:
    """Metrics of an update on a batch of rows of all lengths."""
    batch = ragged(6, seed)
    returns = [[0.5] * sum(len(t.token_ids) for t in b.turns) for b in batch]
    return made.update(batch, ADVANTAGES, returns=returns, foreseen=made.foresee(batch))


def test_a_compiled_update_is_the_plain_one(tmp_path: Path) -> None:
    plain, compiled, start = learner(False), learner(True), weights(learner(False))
    counters = torch._dynamo.utils.counters
    counters.clear()
    for seed in range(3):
        assert update(compiled, seed) == pytest.approx(update(plain, seed), rel=1e-4, abs=1e-5)
    for name, weight in weights(plain).items():
        torch.testing.assert_close(weights(compiled)[name], weight, rtol=1e-4, atol=1e-5)
        assert not torch.equal(start[name], weight)
    assert counters["stats"]["unique_graphs"] > 0
    counters.clear()
    for seed in range(3, 6):  # batches of other sizes need no new version
        update(compiled, seed)
    assert counters["stats"]["unique_graphs"] == 0
    names: list[set[str]] = []
    for made, folder in ((plain, tmp_path / "plain"), (compiled, tmp_path / "compiled")):
        made.model.save_pretrained(folder)
        names.append({*load_file(folder / "adapter_model.safetensors"), *made.model.state_dict()})
    assert names[0] == names[1]


def test_a_part_is_compiled_once_and_only_if_asked() -> None:
    part = torch.nn.Linear(2, 2)
    assert Forward().of(part) is part
    how = Forward(compiled=True)
    assert how.of(part) is how.of(part) is not part


def test_a_missing_compiler_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config as inductor

    loaded = run_config(tmp_path, training_args={"torch_compile": True})
    check_compiler(loaded)
    compiler_problem.cache_clear()
    cpp: Any = inductor.cpp
    monkeypatch.setattr(cpp, "cxx", ("/no/such/compiler",))
    torch.compiler.reset()
    with pytest.raises(BadInput) as error:
        check_compiler(loaded)
    compiler_problem.cache_clear()
    place, _, words = str(error.value).partition(": ")
    assert words.startswith("torch_compile needs a compiler, and none works here for cpu (")
    assert words.endswith("); install one (on Debian and Ubuntu: apt install g++), or leave torch_compile out")
    assert "\n" not in words
    assert "torch_compile" in (tmp_path / "run.yaml").read_text().splitlines()[int(place.rpartition(":")[2]) - 1]
    check_compiler(run_config(tmp_path, training_args={"torch_compile": False}))


def test_what_is_kept_on_the_host_changes_no_update() -> None:
    def updated(offload: bool) -> dict[str, Tensor]:
        args = TrainingArgs(learning_rate=1e-2, offload_activations=offload, max_tokens_per_micro_batch=64)
        made = Learner(llama(dtype=torch.float32, num_hidden_layers=1), args, 0.7, 10)
        made.update(ragged(6, 0), ADVANTAGES)
        return weights(made)

    plain, offloaded = updated(False), updated(True)
    assert all(torch.equal(plain[n], offloaded[n]) for n in plain)


def test_all_but_weights_goes_to_the_host() -> None:
    model, state = torch.nn.Linear(2, 2), torch.ones(2, 2)
    keep, back = host_hooks(model, torch.device("meta"))  # a device that this machine has beside its own
    assert [keep(saved)[1].device.type for saved in (model.weight, model.weight.t(), state, state[:1])] == [
        "cpu", "cpu", "meta", "meta",
    ]  # fmt: skip
    assert back(keep(model.weight)) is model.weight
    assert keep(state)[0] == state.device


def test_offloading_without_a_gpu_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        check_offload(run_config(tmp_path, training_args={"offload_activations": True}))
        return
    with pytest.raises(BadInput, match=r"yaml:\d+: offload_activations moves what a GPU holds"):
        check_offload(run_config(tmp_path, training_args={"offload_activations": True}))
