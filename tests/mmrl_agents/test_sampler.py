from pathlib import Path

import pytest
from learner_tools import run_config

from mmrl.errors import BadInput
from mmrl.training_args import TrainingArgs
from mmrl_agents.sampler import SAMPLERS, check_sampler, sampler_name


def test_the_configuration_picks_the_sampler() -> None:
    assert sampler_name(TrainingArgs()) == "hf"
    assert sampler_name(TrainingArgs(use_vllm_sampler=True, vllm_config={"max_num_seqs": 4})) == "vllm"
    assert sampler_name(TrainingArgs(use_vllm_sampler=True, vllm_config={"server": "http://x"})) == "vllm_server"
    assert {"hf", "vllm"} <= SAMPLERS.keys()


def test_arguments_of_an_engine_that_is_not_asked_for_are_refused(tmp_path: Path) -> None:
    check_sampler(run_config(tmp_path))
    loaded = run_config(tmp_path, training_args={"vllm_config": {"max_num_seqs": 4}})
    with pytest.raises(BadInput, match=r"run.yaml:\d+: vllm_config is read with .*use_vllm_sampler: true alone"):
        check_sampler(loaded)


@pytest.mark.parametrize(
    ("changes", "environment", "why"),
    [
        ({}, {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "RANK": "0"}, "vLLM in process samples for one process, and 2 run"),
        ({"load_in_4bit": True, "lora": {"r": 2}}, {}, "vLLM would sample with weights that are not the 4-bit ones"),
    ],
)  # fmt: skip
def test_what_vllm_in_process_cannot_do_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                        changes: dict[str, object], environment: dict[str, str],
                                                        why: str) -> None:  # fmt: skip
    loaded = run_config(tmp_path, training_args={"use_vllm_sampler": True, **changes})
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=why):
        check_sampler(loaded)
