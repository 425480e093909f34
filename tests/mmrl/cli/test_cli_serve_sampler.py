"""``mmrl serve-sampler``; the server itself is started in tests/with_vllm."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from learner_tools import run_config


@pytest.fixture
def config(tmp_path: Path) -> Path:
    args = {"use_vllm_sampler": True, "vllm_config": {"server": "http://localhost:8123"}, "lora": {"r": 4}}
    return run_config(tmp_path, training_args=args).path


def test_the_command_is_shown_for_another_machine(mmrl: Callable[..., Any], config: Path) -> None:
    code, out, err = mmrl("serve-sampler", str(config), "rollout.max_context=300", "--port", "9000", "--cpu", "--print")
    assert (code, err) == (0, "")
    (line,) = out.splitlines()
    assert line.startswith("VLLM_NO_USAGE_STATS=1 VLLM_ALLOW_RUNTIME_LORA_UPDATING=True VLLM_CPU_KVCACHE_SPACE=4 ")
    assert "--port 9000 --dtype float32 --max-model-len 300" in line
    assert line.endswith("--max-lora-rank 8 --enforce-eager --no-enable-chunked-prefill --block-size 32 "
                         "--worker-extension-cls mmrl_agents.vllm_worker.TakesWeights")


def test_vllm_is_not_installed(mmrl: Callable[..., Any], config: Path, monkeypatch: pytest.MonkeyPatch,
                               tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(os, "execvpe", lambda *words: pytest.fail(f"started {words[1]}"))
    code, out, err = mmrl("serve-sampler", str(config))
    assert (code, out) == (2, "")
    assert "vLLM is not installed here" in err
    assert "mmrl[vllm]" in err


def test_a_learner_that_samples_nothing_serves_nothing(mmrl: Callable[..., Any], config: Path) -> None:
    code, _, err = mmrl("serve-sampler", str(config), "train_type=SFT", "--print")
    assert code == 2
    assert "learner 'SFT' samples with no server" in err
