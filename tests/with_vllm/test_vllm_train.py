"""Training that samples with vLLM in process, from the config on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from learner_tools import Listening, run_config
from vllm_tools import SMALL

from mmrl.errors import BadInput
from mmrl.store import RunStore, read_trajectories
from mmrl_agents.train import Grpo

pytestmark = pytest.mark.vllm
BABYAI: dict[str, Any] = {
    "model_id": "mmrl/tiny",
    "environments": [{"id": "babyai/balrog-goto"}],
    "rollout": {"max_new_tokens": 8, "max_turns": 6, "max_context": 1024},
}


@pytest.mark.parametrize(("lora", "clock"), [(None, True), ({"r": 4}, False)])
def test_two_steps_on_babyai(tmp_path: Path, lora: Any, clock: bool) -> None:
    args = {"max_steps": 2, "use_vllm_sampler": True, "vllm_config": SMALL, "learning_rate": 1e-3, "lora": lora,
            "lr_scheduler_type": "constant"}  # fmt: skip
    task = {**BABYAI, "rollout": {**BABYAI["rollout"], "deterministic": clock}}
    loaded, reporter, trainer = run_config(tmp_path, **task, training_args=args), Listening(), Grpo()
    trainer.check(loaded)
    root = trainer.train(loaded, False, reporter)
    first, second = RunStore(root).metrics()
    assert first["grad_norm"] > 0
    for m in (first, second):
        assert m["mismatch_kl"] == pytest.approx(0.0, abs=1e-6)
    turns = [t.turns for t in read_trajectories(root / "rollouts" / "step-000002.parquet")]
    assert len(turns) == 8
    assert all(turn.token_ids for talk in turns for turn in talk)
    assert [line for line in reporter.said if line.startswith("sampling with vLLM")] != []


def test_a_model_that_vllm_refuses_is_said_before_training(tmp_path: Path) -> None:
    args = {"use_vllm_sampler": True, "vllm_config": {"max_model_len": 1024, "dtype": "int3"}}
    loaded = run_config(tmp_path, **BABYAI, training_args=args)
    with pytest.raises(BadInput, match=r"run.yaml:\d+: vLLM cannot sample with 'mmrl/tiny' as asked: dtype: Input"):
        Grpo().check(loaded)
