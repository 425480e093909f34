"""``accelerate launch -m mmrl train``: the run of two processes is the run of one, new or resumed, whole or cut."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from learner_tools import repeatable, run_config
from safetensors.torch import load_file
from two_processes import launch

from mmrl.cli.main import main
from mmrl.config_load import load_config
from mmrl.report import Quiet
from mmrl.store import RunStore, read_trajectories
from mmrl_agents.train import Grpo

SECTIONS: dict[str, Any] = {
    "environments": [{"id": "text/arithmetic"}] * 2,
    "training_args": {"max_steps": 3, "advantage": "batch_std", "kl_coef": 0.05, "kl_in": "reward",
                      "learning_rate": 1e-4},
    "rollout": {"max_new_tokens": 6, "dynamic_sampling": 1},
    "curriculum": {"floor": 0.5},
    "replay": {"size": 4},
    "eval": {"episodes": 3, "every": 2, "final_episodes": 3},
}  # fmt: skip


def same_run(one: Path, two: Path) -> None:
    """The same episodes, and metrics and weights that differ by rounding alone."""
    told = [read_trajectories(root) for root in (one, two)]
    assert [t.id for t in told[0]] == [t.id for t in told[1]]
    assert [t.messages for t in told[0]] == [t.messages for t in told[1]]
    lines = [repeatable(RunStore(root).metrics()) for root in (one, two)]
    assert len(lines[0]) == len(lines[1])
    for expected, said in zip(*lines, strict=True):
        assert said == pytest.approx(expected, rel=1e-3, abs=1e-5)
    for name in ("final", "best"):
        weights = [load_file(root / name / "model.safetensors") for root in (one, two)]
        assert weights[0].keys() == weights[1].keys()
        assert all(float((weights[0][k] - weights[1][k]).abs().max()) <= 1e-6 for k in weights[0])
    assert [p.name for p in sorted((one / "eval").iterdir())] == [p.name for p in sorted((two / "eval").iterdir())]


def test_a_run_of_two_processes_is_that_of_one_and_goes_on_with_any_number(tmp_path: Path) -> None:
    one = run_config(tmp_path, "one", **SECTIONS)
    Grpo().train(one, False, Quiet())
    two = run_config(tmp_path, "two", **SECTIONS).output_dir
    said = launch(tmp_path, "two", "--multi_gpu")
    assert said.count("step 3/3") == 1
    assert said.count("run:  ") == 1
    same_run(one.output_dir, two)

    RunStore(two).rewind(1)  # as if it had been killed then
    shutil.rmtree(two / "final")
    said = launch(tmp_path, "two", "--use_fsdp", "--fsdp_version", "2", words=("--resume",))
    assert said.count("resuming after step 1") == 1
    same_run(one.output_dir, two)

    RunStore(two).rewind(2)
    shutil.rmtree(two / "final")
    Grpo().train(load_config(tmp_path / "two.yaml"), True, Quiet())
    same_run(one.output_dir, two)


@pytest.mark.parametrize(("rank", "times"), [("0", 1), ("1", 0)])
def test_a_mistake_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                                rank: str, times: int) -> None:
    run_config(tmp_path, "odd", training_args={"per_device_train_batch_size": 1, "gradient_accumulation_steps": 3,
                                               "num_generations": 3})  # fmt: skip
    for name, value in {"WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank}.items():
        monkeypatch.setenv(name, value)
    assert main(["train", str(tmp_path / "odd.yaml")]) == 2  # before the processes meet
    said = capsys.readouterr()
    assert (said.out + said.err).count("trajectories of a step do not divide over 2 processes") == times
