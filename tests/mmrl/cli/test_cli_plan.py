"""``mmrl plan`` with a learner that makes its plan up; and once with a real one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_model import save_tiny_model

LEARNER = '''
from mmrl.memory import MemoryPlan, Phase, Turned

class Silent:
    """Says nothing of its memory."""
    def check(self, loaded): pass
    def train(self, loaded, resume, reporter): raise AssertionError

class Fake(Silent):
    """Takes 2.5 GiB; half of it once its rows are halved."""
    def plan(self, loaded, limit):
        whole = loaded.config.training_args.per_device_train_batch_size
        update = Phase("update", {"weights": 2**29, "activations": whole * 2**28})
        rollout = Phase("rollout", {"weights": 2**29, "keys and values": 3 * 2**20})
        turned = Turned(("training_args.x=1", "training_args.y=2"), 3 * 2**29, "slower")
        fits = limit is None or update.total <= limit
        return MemoryPlan("the host", (rollout, update), ("short answers",), () if fits else (turned,))
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "learner.py").write_text(LEARNER)
    (tmp_path / "run.yaml").write_text("train_type: learner.py:Fake\nmodel_id: none\nenvironments: [{id: text/arithmetic}]\n")
    return tmp_path


def test_parts_by_phase(folder: Path, mmrl: Callable[..., Any]) -> None:
    code, out, err = mmrl("plan", "run.yaml")
    assert (code, err) == (0, "")
    assert [line.split("  ") [0] for line in out.splitlines()[:5]] == [
        "on the host", "weights", "keys and values", "activations", "together",
    ]  # fmt: skip
    assert out.splitlines()[1].split("  ")[-1].strip() == "512.0 MiB"
    assert [w for w in out.splitlines()[2].split("  ") if w] == ["keys and values", " 3.0 MiB", "-"] or "3.0 MiB" in out
    assert out.splitlines()[4].split() == ["together", "515.0", "MiB", "2.5", "GiB"]
    assert out.splitlines()[5:] == ["peak: 2.5 GiB, in phase update", "assumed: short answers"]


def test_whether_it_fits(folder: Path, mmrl: Callable[..., Any]) -> None:
    assert mmrl("plan", "run.yaml", "--gpu-gb", "2.8")[1].splitlines()[-1] == "fits in 2.8 GiB less 10% for what is not counted"
    assert mmrl("plan", "run.yaml", "--gpu-gb", "2.5")[1].splitlines()[7:] == [
        "does not fit in 2.5 GiB less 10% for what is not counted; turn, in this order:",
        "  training_args.x=1 training_args.y=2  -> 1.5 GiB  (slower)",
        "then it fits",
    ]
    assert mmrl("plan", "run.yaml", "--gpu-gb", "1.5")[1].splitlines()[-1] == (
        "that is not enough: take a smaller model or shorter episodes"
    )


def test_json(folder: Path, mmrl: Callable[..., Any]) -> None:
    code, out, _ = mmrl("plan", "run.yaml", "training_args.per_device_train_batch_size=4", "--gpu-gb", "1", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1]) == {
        "device": "the host",
        "peak": 3 * 2**29,
        "phases": {
            "rollout": {"weights": 2**29, "keys and values": 3 * 2**20, "together": 2**29 + 3 * 2**20},
            "update": {"weights": 2**29, "activations": 2**30, "together": 3 * 2**29},
        },
        "limit": round(0.9 * 2**30),
        "turned": [{"settings": ["training_args.x=1", "training_args.y=2"], "peak": 3 * 2**29, "price": "slower"}],
    }


def test_bad_input(folder: Path, mmrl: Callable[..., Any]) -> None:
    code, out, err = mmrl("plan", "run.yaml", "train_type=learner.py:Silent")
    assert (code, out) == (2, "")
    assert err == (
        "mmrl: override 'train_type=learner.py:Silent': the learner 'learner.py:Silent' says nothing of its memory; "
        "GRPO does\n"
    )
    assert mmrl("plan", "run.yaml", "training_args.learningrate=1")[0] == 2
    assert mmrl("plan", "run.yaml", "--gpu-gb", "0")[0] == 2


def test_a_real_plan_loads_no_weights(tmp_path: Path, mmrl: Callable[..., Any]) -> None:
    save_tiny_model(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    (tmp_path / "run.yaml").write_text(
        "train_type: GRPO\nmodel_id: model\nenvironments: [{id: text/arithmetic}]\n"
        "reward_plugins: [{name: number_match}]\n"
        "training_args: {num_generations: 4, per_device_train_batch_size: 4}\n"
        "rollout: {max_new_tokens: 4}\neval: {episodes: 0, final_episodes: 2}\n"
    )
    code, out, _ = mmrl("plan", "run.yaml", "--json")
    assert code == 0
    found = json.loads(out.splitlines()[-1])
    assert {"rollout", "update", "evaluation"} <= set(found["phases"])
    assert 10_000 < found["phases"]["update"]["weights"] < found["peak"] < 10_000_000
    assert not (tmp_path / "runs").exists()
