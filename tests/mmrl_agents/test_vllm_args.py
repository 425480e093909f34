import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mmrl.errors import BadInput
from mmrl_agents.generate import CACHE_BYTES
from mmrl_agents.models import ModelFiles
from mmrl_agents.vllm_args import Adapter, Engines, Needs, arguments, check_given, refused, takes_adapter

NAMES = (
    "model", "dtype", "max_model_len", "max_num_seqs", "enable_chunked_prefill", "enable_lora", "max_lora_rank",
    "gpu_memory_utilization",
)  # fmt: skip
CPU, GPU = (Engines(NAMES, (1, 8, 16, 32), cpu) for cpu in (True, False))
FILES = ModelFiles("mine", "/models/mine")
PLAIN, DORA = Adapter(12), Adapter(12, "DoRA")


def where(*key: str) -> str:
    return ".".join(["run.yaml:7", *key])


@pytest.mark.parametrize(
    ("adapter", "given", "engines", "takes"),
    [
        (PLAIN, {}, GPU, True),
        (PLAIN, {}, CPU, False),
        (PLAIN, {"enable_lora": True}, CPU, True),
        (PLAIN, {"enable_lora": False}, GPU, False),
        (DORA, {}, GPU, False),
        (Adapter(64), {}, GPU, False),
        (None, {}, GPU, False),
    ],
)
def test_what_goes_over(adapter: Adapter | None, given: dict[str, Any], engines: Engines, takes: bool) -> None:
    assert takes_adapter(Needs(FILES, "float32", 512, adapter), given, engines) is takes


def test_the_users_arguments_go_over_ours(tiny: Path) -> None:
    needs = Needs(ModelFiles("mine", str(tiny)), "float32", 512, PLAIN, episodes=10)
    ours = {"model": str(tiny), "dtype": "float32", "max_model_len": 512, "disable_log_stats": True,
            "logprobs_mode": "processed_logprobs", "use_tqdm_on_load": False,
            "worker_extension_cls": "mmrl_agents.vllm_worker.TakesWeights"}  # fmt: skip
    # 10 episodes of 512 tokens; 2 layers of 4 heads of 8 numbers of 4 bytes, for keys and for values
    cpu = {"enforce_eager": True, "enable_chunked_prefill": False, "block_size": 32}
    cache = {**cpu, "kv_cache_memory_bytes": 10 * 512 * 2 * 2 * 4 * 8 * 4}
    assert arguments(needs, {}, CPU) == {**ours, **cache}
    many = dataclasses.replace(needs, episodes=10**6)
    assert arguments(many, {}, CPU)["kv_cache_memory_bytes"] == CACHE_BYTES
    assert arguments(needs, {"dtype": "bfloat16"}, GPU) == {
        **ours, "dtype": "bfloat16", "gpu_memory_utilization": 0.3, "enable_sleep_mode": True, "enable_lora": True,
        "max_loras": 1, "max_lora_rank": 16,
    }  # fmt: skip
    shared = arguments(needs, {"gpu_memory_utilization": 0.5}, CPU)
    assert shared == {**ours, **cpu, "gpu_memory_utilization": 0.5}


@pytest.mark.parametrize(
    ("adapter", "given", "why"),
    [
        (None, {"max_num_seq": 2}, r"7.max_num_seq: unknown argument .* 'max_num_seq'; did you mean 'max_num_seqs'"),
        (None, {"model": "x"}, "7.model: 'model' is not for vllm_config: model_id says it"),
        (None, {"max_model_len": 256}, "7.max_model_len: max_model_len is 256, but .* may take 512 tokens"),
        (None, {"enable_chunked_prefill": True}, "7.enable_chunked_prefill: on a CPU vLLM 0.32 fails"),
        (None, {"max_model_len": "long"}, "max_model_len is long, but"),
        (None, {"enable_lora": True}, "7.enable_lora: enable_lora, but no adapter is trained"),
        (DORA, {"enable_lora": True}, "vLLM does not load DoRA; set enable_lora: false"),
        (PLAIN, {"enable_lora": True, "max_lora_rank": 8}, "rank is 12, above .* max_lora_rank of 8; set it to 16"),
        (Adapter(40), {"enable_lora": True}, "rank is 40, above .* of 32; set enable_lora: false"),
    ],
)  # fmt: skip
def test_what_is_refused(adapter: Adapter | None, given: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        check_given(Needs(FILES, "float32", 512, adapter), given, CPU, where)


def test_what_fits_is_not_refused() -> None:
    check_given(Needs(FILES, "float32", 512, PLAIN), {"max_model_len": 512, "enable_lora": True}, CPU, where)


def test_a_long_reason_is_cut() -> None:
    said = str(refused(ValueError("no such\n thing " + "x" * 400), "mine", "run.yaml:7"))
    assert said.startswith("run.yaml:7: vLLM cannot sample with 'mine' as asked: no such thing xxx")
    assert said.endswith("x ...")
    assert len(said) < 400
