"""``mmrl plan`` on a tiny model, with its figures taken apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from learner_tools import run_config
from stand_in_vllm import StandIn

from mmrl.cli.plan import MOST
from mmrl_agents.models import find_model, read_config

TINY = {"id": "text/arithmetic"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return run_config(tmp_path).path


def test_a_table_for_this_machine(mmrl: Callable[..., Any], config: Path) -> None:
    code, out, err = mmrl("plan", str(config))
    assert (code, err) == (0, "")
    names = [line.split("  ")[0] for line in out.splitlines()]
    assert names == ["Python and libraries", "weights", "optimiser", "gradients", "activations", "KV cache",
                     "beside it", "peak while sampling", "peak while learning", "peak", MOST]  # fmt: skip
    assert "million, float32" in out
    assert "adamw" in out
    assert not (config.parent / "run").exists()  # the run's folder is not made


def test_one_object_in_bytes(mmrl: Callable[..., Any], config: Path) -> None:
    code, out, _ = mmrl("plan", str(config), "training_args.kl_coef=0.1", "--json")
    found = json.loads(out.splitlines()[-1])
    assert code == 0
    assert found["reference"] == found["weights"] > 0
    assert found["peak"] == max(found["phases"].values())
    assert "fits" not in found


def test_a_model_that_sees(mmrl: Callable[..., Any], tmp_path: Path) -> None:
    seeing = run_config(tmp_path, environments=[{"id": "vqa/shapes", "kwargs": {"image_size": 56}}]).path
    code, out, err = mmrl("plan", str(seeing), "model_id=mmrl/tiny-vlm", "training_args.freeze_vision=true", "--json")
    found = json.loads(out.splitlines()[-1])
    assert (code, err) == (0, "")
    assert 0 < found["gradients"] < found["weights"]
    assert found["activations"] > 0


def test_what_is_not_in_it(mmrl: Callable[..., Any], tmp_path: Path) -> None:
    plain = run_config(tmp_path).path
    model = str(tmp_path / "model")
    server = StandIn(model, "there", vocabulary=read_config(find_model(model)).vocab_size).start()
    args = {"use_vllm_sampler": True, "vllm_config": {"server": [server.url]}, "lora": {"r": 8}}
    served = run_config(tmp_path, "served", training_args=args, rollout={"max_context": 256}).path
    try:
        code, out, err = mmrl("plan", str(served))
    finally:
        server.kill()
    assert (code, err) == (0, "")
    assert "vLLM is not in this" in out
    assert "vLLM" not in mmrl("plan", str(plain))[1]


def test_what_fits_a_gpu(mmrl: Callable[..., Any], config: Path) -> None:
    code, out, _ = mmrl("plan", str(config), "--gpu", "t4")
    assert code == 0
    assert "t4: 16.0 GiB, of which a run may take 14.4 GiB (10% stay free)" in out
    assert "fits, with 14.4 GiB to spare" in out
    assert "Python and libraries" not in out  # they are not on the GPU


def test_what_to_turn(mmrl: Callable[..., Any], config: Path) -> None:
    _, out, _ = mmrl("plan", str(config), "--json", "--gpu", "1GiB")
    peak = json.loads(out)["peak"]
    code, out, _ = mmrl("plan", str(config), "--json", "--gpu", f"{0.75 * peak / 2**20:.4f}MiB")
    found = json.loads(out)
    assert (code, found["fits"]) == (0, True)
    assert found["peak"] == peak
    assert found["turns"][-1]["peak"] <= 0.675 * peak
    code, out, _ = mmrl("plan", str(config), *found["set"], "--gpu", f"{0.75 * peak / 2**20:.4f}MiB")
    assert code == 0
    assert "fits, with" in out


def test_nothing_makes_it_fit(mmrl: Callable[..., Any], config: Path) -> None:
    code, out, err = mmrl("plan", str(config), "--gpu", "0.01MiB")
    assert (code, err) == (1, "")
    assert "does not fit: " in out
    assert "nothing makes it fit: " in out
    assert "take a smaller model or a larger GPU" in out


def test_a_learner_that_cannot_tell(mmrl: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Mine:\n    def check(self, loaded):\n        pass\n"
                                      "    def train(self, loaded, resume, reporter):\n        pass\n")  # fmt: skip
    tree = {"train_type": "mine.py:Mine", "model_id": "m", "environments": [TINY]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    code, _, err = mmrl("plan", "own.yaml")
    assert code == 2
    assert err == ("mmrl: own.yaml:1: learner 'mine.py:Mine' cannot tell what it takes; it has no method 'planner' "
                   "(see mmrl.memory_plan)\n")  # fmt: skip


def test_an_unknown_gpu(mmrl: Callable[..., Any], config: Path) -> None:
    code, _, err = mmrl("plan", str(config), "--gpu", "h10")
    assert (code, err) == (2, "mmrl: --gpu: unknown GPU 'h10'; did you mean 'h100'?\n")
