import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from learner_tools import run_config

from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.serving import Launch, Place, Serves
from mmrl_agents.ppo import Ppo
from mmrl_agents.serve import RANKS, vllm_python
from mmrl_agents.train import Grpo

THERE = Place(cpu=False, here=False)


def loaded(folder: Path, args: dict[str, Any] | None = None, **vllm_config: Any) -> LoadedConfig:
    given = {"server": "http://localhost:8123", **vllm_config}
    return run_config(folder, training_args={"use_vllm_sampler": True, "vllm_config": given, **(args or {})},
                      rollout={"max_context": 300})  # fmt: skip


def test_a_server_for_an_adapter(tmp_path: Path) -> None:
    model = str(tmp_path / "model")
    made = Grpo().server(loaded(tmp_path, {"lora": {"r": 9}, "bf16": True}), THERE)
    assert made == Launch(
        ("python", "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--served-model-name", model,
         "--host", "127.0.0.1", "--port", "8123", "--dtype", "bfloat16", "--max-model-len", "300",
         "--logprobs-mode", "processed_logprobs", "--generation-config", "vllm",
         "--enable-lora", "--max-loras", "1", "--max-lora-rank", "16"),
        {"VLLM_NO_USAGE_STATS": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"},
    )  # fmt: skip


def test_a_server_on_a_cpu_for_all_weights_with_arguments_of_the_users_own(tmp_path: Path) -> None:
    engine = {"max_num_seqs": 32, "enforce_eager": False, "hf_overrides": {"a": 1}, "enable_prefix_caching": True}
    made = Ppo().server(loaded(tmp_path, {"advantage": "gae"}, engine=engine), Place("0.0.0.0", 9000, True, False))
    words = " ".join(made.words)
    assert "--host 0.0.0.0 --port 9000" in words
    assert words.endswith("--generation-config vllm --no-enforce-eager --no-enable-chunked-prefill --block-size 32 "
                          "--worker-extension-cls mmrl_agents.vllm_worker.TakesWeights "
                          "--enable-prefix-caching --hf-overrides {\"a\": 1} --max-num-seqs 32")  # fmt: skip
    assert "lora" not in words
    assert made.environment == {"VLLM_NO_USAGE_STATS": "1", "VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "4"}


def test_a_server_of_a_model_that_sees_has_the_paths_for_images(tmp_path: Path) -> None:
    config = run_config(tmp_path, model_id="mmrl/tiny-vlm", training_args={
        "use_vllm_sampler": True, "vllm_config": {"server": "http://localhost:8123"}, "lora": {"r": 4}})  # fmt: skip
    words = Grpo().server(config, THERE).words
    assert words[-1] == "--enable-scale-out"
    assert "--enable-scale-out" not in Grpo().server(loaded(tmp_path), THERE).words


@pytest.mark.parametrize(("server", "port"), [
    ("http://gpu1", "80"), ("https://gpu1/x", "443"), ("http://[::1]:7/v1", "7"),
])  # fmt: skip
def test_it_listens_where_the_run_asks(tmp_path: Path, server: str, port: str) -> None:
    words = Grpo().server(loaded(tmp_path, server=server), THERE).words
    assert words[words.index("--port") + 1] == port


def test_the_line_for_a_shell_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMRL_A_KEY", "sk-0123456789")
    made = Grpo().server(loaded(tmp_path, {"lora": {}}, api_key_env="MMRL_A_KEY", engine={"hf_overrides": {"a": 1}}),
                         THERE)  # fmt: skip
    assert made.secrets == {"VLLM_API_KEY": "MMRL_A_KEY"}
    assert made.line.startswith("VLLM_NO_USAGE_STATS=1 VLLM_ALLOW_RUNTIME_LORA_UPDATING=True "
                                'VLLM_API_KEY="$MMRL_A_KEY" '
                                "python -m vllm.entrypoints.openai.api_server --model ")  # fmt: skip
    assert made.line.endswith("--hf-overrides '{\"a\": 1}'")
    assert "sk-0123456789" not in made.line


@pytest.mark.parametrize(("args", "vllm_config", "message"), [
    ({"lora": {"r": RANKS[-1] + 1}}, {}, "is 513, above the largest adapter of vLLM's servers, 512"),
    ({}, {"engine": {"logprobs_mode": "raw_logprobs"}}, "'logprobs_mode' is not for vllm_config.engine: the learner"),
    ({"load_in_4bit": True, "lora": {}}, {}, "not the 4-bit ones"),
])  # fmt: skip
def test_what_cannot_be_served_is_refused(tmp_path: Path, args: dict[str, Any], vllm_config: dict[str, Any],
                                          message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Grpo().server(loaded(tmp_path, args, **vllm_config), THERE)


def test_a_run_without_servers_is_told_how_to_have_one(tmp_path: Path) -> None:
    config = run_config(tmp_path)
    with pytest.raises(BadInput, match=r"run\.yaml.*: the run samples with no server; set training_args\.vllm_config"):
        Grpo().server(config, THERE)


def test_the_python_that_has_vllm_is_beside_or_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(BadInput, match=r"^here: vLLM is not installed here; .*mmrl\[vllm\].*make vllm.*--print$"):
        vllm_python("here")
    beside = tmp_path / ".venv-vllm" / "bin" / "python"
    beside.parent.mkdir(parents=True)
    beside.write_text("")
    assert vllm_python("here") == str(beside)
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("")
    importlib.invalidate_caches()
    assert vllm_python("here") == sys.executable


def test_learners_that_sample_serve() -> None:
    assert isinstance(Grpo(), Serves)
    assert isinstance(Ppo(), Serves)
