import asyncio
from pathlib import Path
from typing import Any

import pytest
from local_server import Asked, Reply, serving

from mmrl.json_client import JsonClient, ServerError
from mmrl_agents.engine_api import Asking, EngineApi
from mmrl_agents.generate import Row, Sampled
from mmrl_agents.server_facts import ENGINE_APIS
from mmrl_agents.sglang_api import SGLANG
from mmrl_agents.vllm_api import VLLM

ASKING = Asking("model", "mmrl-a-3", 0.7, (2, 9), "mmrl-a-3")
ROW = Row("e", (5, 6, 7), (0,), 8)
VLLM_SAID = {"choices": [{"token_ids": [4, 2], "logprobs": {"token_logprobs": [-0.5, -1.25]}, "text": "x"}]}
SGLANG_SAID = {"output_ids": [4, 2], "meta_info": {"output_token_logprobs": [[-0.5, 4, None], [-1.25, 2, None]]}}


def sampled(api: EngineApi, said: Any, asking: Asking = ASKING) -> tuple[Sampled, Asked]:
    with serving(lambda _: Reply(said)) as server:
        out = asyncio.run(api.sample(JsonClient(server.url, {}), asking, ROW, 11))
    (asked,) = server.asked
    return out, asked


def test_vllm_is_asked_for_ids_with_everything_said_that_a_model_could_set_otherwise() -> None:
    out, asked = sampled(VLLM, VLLM_SAID)
    assert out == Sampled((4, 2), (-0.5, -1.25), True)
    assert asked.path == "/v1/completions"
    assert asked.body == {
        "model": "mmrl-a-3", "prompt": [5, 6, 7], "max_tokens": 8, "temperature": 0.7, "top_p": 1.0, "top_k": 0,
        "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "seed": 11,
        "logprobs": 0, "return_token_ids": True, "stop_token_ids": [2, 9], "ignore_eos": True, "cache_salt": "mmrl-a-3",
    }  # fmt: skip


def test_sglang_is_asked_by_its_own_path() -> None:
    out, asked = sampled(SGLANG, SGLANG_SAID)
    assert out == Sampled((4, 2), (-0.5, -1.25), True)
    assert asked.path == "/generate"
    assert asked.body == {
        "input_ids": [5, 6, 7], "return_logprob": True, "lora_path": "mmrl-a-3",
        "sampling_params": {
            "max_new_tokens": 8, "temperature": 0.7, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0,
            "presence_penalty": 0.0, "frequency_penalty": 0.0, "sampling_seed": 11, "stop_token_ids": [2, 9],
            "skip_special_tokens": False, "no_stop_trim": True,
        },
    }  # fmt: skip


def test_an_answer_that_was_cut_did_not_end_by_itself_and_greedy_answers_are_certain() -> None:
    said = {"choices": [{"token_ids": [4, 5], "logprobs": {"token_logprobs": [-0.5, -1.25]}}]}
    assert sampled(VLLM, said)[0] == Sampled((4, 5), (-0.5, -1.25), False)
    assert sampled(VLLM, said, Asking("m", None, 0.0, (2,), "s"))[0] == Sampled((4, 5), (0.0, 0.0), False)


@pytest.mark.parametrize("said", [
    {"choices": [{"text": "x", "logprobs": {"token_logprobs": [-0.5]}}]},  # an older vLLM, llama.cpp, a gateway
    {"choices": [{"token_ids": [4, 2], "logprobs": None}]}, {"choices": []}, {}, None,
    {"choices": [{"token_ids": [4, 2], "logprobs": {"token_logprobs": [-0.5]}}]},
    {"choices": [{"token_ids": [], "logprobs": {"token_logprobs": []}}]},
])  # fmt: skip
def test_what_lacks_an_id_or_a_log_probability_is_no_answer(said: Any) -> None:
    with pytest.raises(ServerError, match="answered without the ids and log-probabilities") as raised:
        sampled(VLLM, said)
    assert raised.value.status == 200


def test_weights_and_adapters_are_given_by_each_servers_own_paths(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply({"success": True})

    async def all_of(api: EngineApi, client: JsonClient) -> bool:
        await api.give_adapter(client, "n", tmp_path)
        await api.drop_adapter(client, "n")
        await api.give_weights(client, "n", tmp_path)
        return await api.takes_weights(client)

    told: dict[str, list[tuple[str, Any]]] = {}
    for name, api in ENGINE_APIS.items():
        with serving(answer) as server:
            assert asyncio.run(all_of(api, JsonClient(server.url, {})))
        told[name] = [(a.path, a.body) for a in server.asked]
    assert told == {
        "vllm": [
            ("/v1/load_lora_adapter", {"lora_name": "n", "lora_path": str(tmp_path), "load_inplace": True}),
            ("/v1/unload_lora_adapter", {"lora_name": "n"}),
            ("/collective_rpc", {"method": "take_weights", "kwargs": {"weights_path": str(tmp_path)}}),
            ("/collective_rpc", {"method": "check_health"}),
        ],
        "sglang": [
            ("/unload_lora_adapter", {"lora_name": "n"}),
            ("/load_lora_adapter", {"lora_name": "n", "lora_path": str(tmp_path)}),
            ("/unload_lora_adapter", {"lora_name": "n"}),
            ("/update_weights_from_disk", {"model_path": str(tmp_path), "flush_cache": True}),
        ],
    }


def test_a_vllm_server_without_mmrl_in_its_workers_reloads_weights_by_its_own_way(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        if asked.body["method"] == "take_weights":
            return Reply({"error": {"message": "failed with error 'Method 'take_weights' is not implemented.'"}}, 500)
        return Reply({"results": [None]})

    with serving(answer) as server:
        asyncio.run(VLLM.give_weights(JsonClient(server.url, {}), "n", tmp_path))
    assert [a.body["method"] for a in server.asked] == ["take_weights", "reload_weights"]
    with serving(lambda _: Reply({"error": "no memory"}, 500)) as server, pytest.raises(ServerError, match="memory"):
        asyncio.run(VLLM.give_weights(JsonClient(server.url, {}), "n", tmp_path))
    assert len(server.asked) == 1


def test_sglang_is_given_the_same_adapter_twice_though_it_refuses_a_name_that_it_has(tmp_path: Path) -> None:
    has = set[str]()

    def answer(asked: Asked) -> Reply:
        name = asked.body["lora_name"]
        done = (name in has) is (asked.path == "/unload_lora_adapter")
        if done:
            has.symmetric_difference_update({name})
        return Reply({"success": done}, 200 if done else 400)

    async def twice(client: JsonClient) -> None:
        for _ in range(2):
            await SGLANG.give_adapter(client, "n", tmp_path)

    with serving(answer) as server:
        asyncio.run(twice(JsonClient(server.url, {})))
    assert has == {"n"}


def test_a_failure_that_sglang_reports_with_200_is_one(tmp_path: Path) -> None:
    with serving(lambda _: Reply({"success": False, "message": "no such file"})) as server, pytest.raises(
        ServerError, match="no such file"
    ) as raised:
        asyncio.run(SGLANG.give_weights(JsonClient(server.url, {}), "n", tmp_path))
    assert raised.value.status == 400


def test_a_server_that_was_started_anew_is_told_by_its_birth() -> None:
    page = b"# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 1.79e+09\nup 1\n"
    with serving(lambda _: Reply(page)) as server:
        client = JsonClient(server.url, {})
        assert asyncio.run(VLLM.birth(client)) == "1.79e+09"
        assert asyncio.run(SGLANG.birth(client)) == ""
    with serving(lambda _: Reply(b"up 1\n")) as server:
        assert asyncio.run(VLLM.birth(JsonClient(server.url, {}))) == ""


def test_a_vllm_server_without_its_development_mode_takes_no_weights() -> None:
    with serving(lambda _: Reply({"detail": "Not Found"}, 404)) as server:
        client = JsonClient(server.url, {})
        assert not asyncio.run(VLLM.takes_weights(client))
        asyncio.run(VLLM.drop_adapter(client, "gone already"))
    assert [a.path for a in server.asked] == ["/collective_rpc", "/v1/unload_lora_adapter"]
