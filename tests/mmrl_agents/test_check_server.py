from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from learner_tools import run_config
from local_server import Asked, Reply
from stand_in_vllm import StandIn

from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl_agents.check_server import check_servers
from mmrl_agents.models import find_model, read_config

LORA = {"lora": {"r": 8}}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StandIn]:
    """A server of the model that runs in ``tmp_path`` train."""
    run_config(tmp_path)
    model = str(tmp_path / "model")
    made = StandIn(model, "there", vocabulary=read_config(find_model(model)).vocab_size).start()
    yield made
    if made.server is not None:
        made.kill()


def loaded(server: StandIn, folder: Path, args: dict[str, Any] | None = None, rollout: dict[str, Any] | None = None,
           others: tuple[str, ...] = (), **vllm_config: Any) -> LoadedConfig:
    servers = {"server": [server.url, *others], **vllm_config}
    given = {"use_vllm_sampler": True, "vllm_config": servers, **LORA, **(args or {})}
    return run_config(folder, training_args=given, rollout={"temperature": 0.7, "max_context": 256, **(rollout or {})})


def refusal(config: LoadedConfig, *key: str) -> str:
    """What is wrong with a configuration, without the place that it is said to be at."""
    with pytest.raises(BadInput) as raised:
        check_servers(config)
    where = config.where("training_args", *(key or ("vllm_config", "server"))) + ": "
    assert str(raised.value).startswith(where)
    assert "\n" not in str(raised.value)
    return str(raised.value).removeprefix(where)


def test_a_server_that_fits_is_left_as_it_was_found(server: StandIn, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    check_servers(loaded(server, tmp_path))
    assert (server.adapters, len(server.ever)) == ({}, 1)
    assert sorted(tmp_path.rglob("*")) == sorted({*before, tmp_path / "run.yaml"})


def test_nobody_is_there(server: StandIn, tmp_path: Path) -> None:
    server.kill()
    said = refusal(loaded(server, tmp_path))
    assert said.startswith(f"server {server.url} cannot be asked: ConnectError")
    assert said.endswith("; start it (mmrl serve-sampler CONFIG), or mend the address")


@pytest.mark.parametrize(("status", "mend"), [(401, "it asks for a key: set"), (403, "it does not accept the key")])
def test_the_key_is_missing_or_wrong(server: StandIn, tmp_path: Path, status: int, mend: str) -> None:
    server.hook = lambda asked: Reply({"error": "no"}, status) if asked.path.startswith("/v1/") else None
    said = refusal(loaded(server, tmp_path))
    assert f"answered {status}" in said
    assert mend in said
    assert "vllm_config.api_key_env" in said


def test_with_the_key_it_is_let_in(server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMRL_A_KEY", "sk-0123456789")
    server.key = "sk-0123456789"
    check_servers(loaded(server, tmp_path, api_key_env="MMRL_A_KEY"))


def test_another_model_is_served(server: StandIn, tmp_path: Path) -> None:
    server.model, server.root = "other/thing", "other/thing"
    said = refusal(loaded(server, tmp_path))
    assert said.startswith(f"server {server.url} serves 'other/thing' from 'other/thing', and the run trains '")
    server.root = "/elsewhere/model"  # the same folder on another machine
    check_servers(loaded(server, tmp_path))


def test_two_servers_do_not_do_the_same(server: StandIn, tmp_path: Path) -> None:
    other = StandIn("other/thing").start()
    said = refusal(loaded(server, tmp_path, others=(other.url,)))
    other.kill()
    assert f"server {other.url} (vllm) 'other/thing'; they must do the same" in said


def test_its_context_is_too_small(server: StandIn, tmp_path: Path) -> None:
    server.context = 200
    assert refusal(loaded(server, tmp_path)) == (
        f"server {server.url} holds 200 tokens (max_model_len), and a prompt and its answer may take 256; start it "
        "with --max-model-len 256, or set rollout.max_context to 200"
    )
    check_servers(loaded(server, tmp_path, rollout={"max_context": 200}))


def test_adapters_are_off_or_too_small_or_out_of_sight(server: StandIn, tmp_path: Path) -> None:
    server.lora = 0
    said = refusal(loaded(server, tmp_path))
    assert "answered 404 Not Found" in said
    assert "--enable-lora --max-lora-rank 8 and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True" in said
    server.lora = 4
    said = refusal(loaded(server, tmp_path))
    assert "LoRA rank 8 is greater than max_lora_rank 4" in said
    assert "it does not load an adapter of rank 8" in said
    server.lora = 16

    def far_away(asked: Asked) -> Reply | None:
        if asked.path == "/v1/load_lora_adapter":
            asked.body["lora_path"] = "/not/here"
        return None

    server.hook = far_away
    said = refusal(loaded(server, tmp_path))
    assert "No adapter found for /not/here" in said
    assert "where it finds that folder under the same path" in said


def test_log_probabilities_without_the_temperature(server: StandIn, tmp_path: Path) -> None:
    server.processed = False
    assert refusal(loaded(server, tmp_path)) == (
        f"server {server.url} gives log-probabilities without the temperature, which is 0.7; start it with "
        "--logprobs-mode processed_logprobs"
    )
    check_servers(loaded(server, tmp_path, rollout={"temperature": 1.0}))


def test_a_server_that_gives_no_ids(server: StandIn, tmp_path: Path) -> None:
    server.hook = lambda asked: Reply({"choices": [{"text": "x"}]}) if asked.path == "/v1/completions" else None
    assert "answered without the ids and log-probabilities of what it sampled" in refusal(loaded(server, tmp_path))
    server.owner = "llamacpp"
    assert refusal(loaded(server, tmp_path)) == (
        f"server {server.url} is run by 'llamacpp', which gives no token ids with their log-probabilities or takes no "
        "weights; training needs one of vllm, sglang (mmrl eval --policy openai takes any)"
    )


def test_all_weights_need_a_server_that_takes_them(server: StandIn, tmp_path: Path) -> None:
    said = refusal(loaded(server, tmp_path, {"lora": None}))
    assert "takes no weights, and all of them are trained; start it with VLLM_SERVER_DEV_MODE=1" in said
    assert said.endswith("or train an adapter: training_args.lora")
    server.dev = True
    check_servers(loaded(server, tmp_path, {"lora": None}))
    check_servers(loaded(server, tmp_path, enable_lora=False))
    assert server.ever == []


def test_what_no_server_could_do_is_refused_before_one_is_asked(server: StandIn, tmp_path: Path) -> None:
    server.kill()
    said = refusal(loaded(server, tmp_path, {"lora": {"r": 8, "dora": True}}, enable_lora=True),
                   "vllm_config", "enable_lora")  # fmt: skip
    assert said.startswith("servers do not load DoRA; set it to false")
    said = refusal(loaded(server, tmp_path, {"lora": None}, enable_lora=True), "vllm_config", "enable_lora")
    assert said.startswith("enable_lora, but no adapter is trained")
    said = refusal(loaded(server, tmp_path, {"load_in_4bit": True}), "load_in_4bit")
    assert "not the 4-bit ones" in said
