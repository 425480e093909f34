import shutil
import tracemalloc
from pathlib import Path

import pytest
import torch
from learner_tools import llama, ragged
from tiny_model import save_tiny_model

from mmrl.errors import BadInput
from mmrl.training_args import LoraArgs, TrainingArgs
from mmrl_agents import checkpoint
from mmrl_agents.checkpoint import Progress
from mmrl_agents.learner import Learner
from mmrl_agents.models import find_model, load_model, load_processing
from mmrl_agents.replay import Remembered
from mmrl_agents.run import build_model

PROGRESS = Progress(step=3, cursor=(4, 0), best=0.25, best_step=2, minutes=1.5, success=(0.1, None),
                    remembered=(Remembered(1, 2, "s000002-00001", 1.0, 0.1 + 0.2),))  # fmt: skip


def build(folder: Path, lora: bool, kl: float = 0.0, bf16: bool = False) -> tuple[object, Learner]:
    torch.manual_seed(0)
    args = TrainingArgs(learning_rate=1e-2, lora=LoraArgs(r=2) if lora else None, lr_scheduler_type="linear",
                        kl_coef=kl, bf16=bf16)  # fmt: skip
    model, reference = build_model(find_model(str(folder)), args)
    return model, Learner(model, args, 1.0, 10, reference)


def state(learner: Learner) -> list[torch.Tensor]:
    moments = [v for s in learner.optimizer.state_dict()["state"].values() for v in s.values()]
    return [*learner.model.state_dict().values(), *moments]


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("bf16", [False, True])
def test_a_restored_learner_goes_on_to_the_same_bits(tiny: Path, tmp_path: Path, lora: bool, bf16: bool) -> None:
    model, learner = build(tiny, lora, bf16=bf16)
    learner.update(ragged(4), [1.0, -1.0, 0.5, -0.5])
    torch.rand(7)
    checkpoint.save(tmp_path / "c", model, load_processing(find_model(str(tiny))), learner.state_dict(), PROGRESS)
    noise = torch.rand(3)
    rates = [learner.update(ragged(4), [-1.0, 1.0, 0.5, -0.5])["learning_rate"] for _ in range(2)]
    other, twin = build(tiny, lora, bf16=bf16)
    checkpoint.restore_policy(tmp_path / "c", other)
    checkpoint.restore_learner(tmp_path / "c", twin)
    assert torch.equal(torch.rand(3), noise)
    assert [twin.update(ragged(4), [-1.0, 1.0, 0.5, -0.5])["learning_rate"] for _ in range(2)] == rates
    assert len(state(twin)) == len(state(learner))
    assert all(torch.equal(a, b) for a, b in zip(state(learner), state(twin), strict=True))


def test_progress_comes_back(tiny: Path, tmp_path: Path) -> None:
    model, learner = build(tiny, False)
    checkpoint.save(tmp_path / "c", model, load_processing(find_model(str(tiny))), learner.state_dict(), PROGRESS)
    assert checkpoint.load_progress(tmp_path / "c") == PROGRESS


def test_a_checkpoint_of_an_earlier_version_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text('{"step": 3, "cursor": [4], "best": 0.1, "best_step": 2, "minutes": 1.5}')
    with pytest.raises(BadInput, match=r"progress\.json lacks success, remembered: an earlier version of mmrl"):
        checkpoint.load_progress(tmp_path)


def test_no_checkpoint_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is no checkpoint: it has no progress\.json"):
        checkpoint.load_progress(tmp_path)


def test_weights_that_do_not_fit_are_bad_input(tiny: Path, tmp_path: Path) -> None:
    model, learner = build(tiny, False)
    checkpoint.save(tmp_path / "c", model, load_processing(find_model(str(tiny))), learner.state_dict(), PROGRESS)
    (tmp_path / "c" / "model.safetensors").unlink()
    small = llama(num_hidden_layers=1, num_key_value_heads=4, vocab_size=262, dtype=torch.float32)
    small.save_pretrained(tmp_path / "small")
    shutil.copy(tmp_path / "small" / "model.safetensors", tmp_path / "c")
    with pytest.raises(BadInput) as error:
        checkpoint.restore_policy(tmp_path / "c", model)
    assert str(error.value) == (
        f"{tmp_path / 'c'}: the weights do not fit the model: model.layers.1.input_layernorm.weight: was none, now "
        "[32]; model.layers.1.mlp.down_proj.weight: was none, now [32, 64]; model.layers.1.mlp.gate_proj.weight: was "
        "none, now [64, 32] and 6 more; they are of another model, adapter or version: start a new run in another "
        "training_args.output_dir"
    )


@pytest.mark.parametrize(("lora", "file", "first"), [
    (False, "model.safetensors",
     "model.embed_tokens.weight: was [262, 64], now [262, 32]; model.layers.0.input_layernorm.weight: was [64], now "
     "[32]; model.layers.0.mlp.down_proj.weight: was [64, 128], now [32, 64] and 17 more"),
    (True, "adapter_model.safetensors",
     "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight: was [2, 128], now [2, 64]; "
     "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight: was [64, 2], now [32, 2]; "
     "base_model.model.model.layers.0.mlp.gate_proj.lora_A.weight: was [2, 64], now [2, 32] and 25 more"),
])  # fmt: skip
def test_weights_of_another_size_are_bad_input(tiny: Path, tmp_path: Path, lora: bool, file: str, first: str) -> None:
    model, learner = build(tiny, lora)
    processing = load_processing(find_model(str(tiny)))
    checkpoint.save(tmp_path / "c", model, processing, learner.state_dict(), PROGRESS)
    other, _ = build(save_tiny_model(tmp_path / "wide", hidden_size=64), lora)
    checkpoint.save_policy(tmp_path / "o", other, processing)
    shutil.copy(tmp_path / "o" / file, tmp_path / "c" / file)
    before = [t.clone() for t in state(learner)]
    with pytest.raises(BadInput) as error:
        checkpoint.restore_policy(tmp_path / "c", model)
    assert f"{tmp_path / 'c'}: the weights do not fit the model: {first}; they are" in str(error.value)
    assert all(torch.equal(a, b) for a, b in zip(before, state(learner), strict=True))


@pytest.mark.parametrize("lora", [False, True])
def test_a_saved_policy_loads_with_plain_transformers(tiny: Path, tmp_path: Path, lora: bool) -> None:
    model, learner = build(tiny, lora, kl=0.1)
    learner.update(ragged(4), [1.0, -1.0, 0.5, -0.5])
    checkpoint.save_policy(tmp_path / "p", model, load_processing(find_model(str(tiny))))
    loaded, ids = load_model(find_model(str(tmp_path / "p"))), torch.tensor([[7, 8, 9]])
    learner.model.eval()
    assert torch.equal(loaded(input_ids=ids).logits, learner.model(input_ids=ids).logits)


def test_a_saved_adapter_is_the_trained_one_alone(tiny: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """The frozen reference beside it is no part of the policy; and saving asks no hub about the base."""
    model, _ = build(tiny, True)
    checkpoint.save_policy(tmp_path / "first", model, load_processing(find_model(str(tiny))))
    again, learner = build(tmp_path / "first", True, kl=0.1)
    learner.update(ragged(4), [1.0, -1.0, 0.5, -0.5])
    recwarn.clear()
    learner.model.peft_config["default"].base_model_name_or_path = "mmrl/tiny"
    checkpoint.save_policy(tmp_path / "second", again, load_processing(find_model(str(tiny))))
    assert [str(w.message) for w in recwarn if "config file" in str(w.message)] == []
    names = {p.name for p in (tmp_path / "second").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names
    assert "ref" not in names


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here is always full")
def test_a_full_disk_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write_state(Path("/dev/full"), {"a": torch.zeros(1_000_000)})


def test_a_state_is_written_without_a_second_copy_of_it(tmp_path: Path) -> None:
    state = {str(n): torch.full((1000, 1000), float(n)) for n in range(8)}
    tracemalloc.start()
    checkpoint.write_state(tmp_path / "state.pt", state)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * state["0"].nbytes
    read = torch.load(tmp_path / "state.pt", weights_only=True)
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())
