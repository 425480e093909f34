import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from learner_tools import run_config
from local_server import Asked, Reply, serving

from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl_agents.replica import check_health
from mmrl_agents.server_args import ServerArgs, base_url, server_args


def loaded(folder: Path, vllm_config: dict[str, Any]) -> LoadedConfig:
    return run_config(folder, training_args={"use_vllm_sampler": True, "vllm_config": vllm_config})


def test_one_address_or_several_with_or_without_v1(tmp_path: Path) -> None:
    assert server_args(loaded(tmp_path, {"server": "http://a:1/v1/"})) == ServerArgs(server=["http://a:1"])
    made = server_args(loaded(tmp_path, {"server": ["http://a:1", "https://b/v1", "http://c/x/"], "wait_s": 5}))
    assert (made.server, made.wait_s) == (["http://a:1", "https://b", "http://c/x"], 5.0)
    assert base_url("url", "http://v1:8000/v1/v1beta") == "http://v1:8000/v1/v1beta"


@pytest.mark.parametrize(("given", "key", "message"), [
    ({"server": "localhost:8000"}, "server", "server is an address such as http://localhost:8000"),
    ({"server": "http://a?key=k"}, "server", "server is an address such as http://localhost:8000, with nothing from a"),
    ({"server": "http://a/v1#k"}, "server", "server is an address such as http://localhost:8000, with nothing from a"),
    ({"server": []}, "server", "'vllm_config.server': list should have at least 1 item"),
    ({"server": ["http://a", "http://a/v1"]}, "server", "an address is given twice"),
    ({"server": "http://a", "wait": 3}, "wait", "unknown key of vllm_config beside server 'wait'; did you"),
    ({"server": "http://a", "max_num_seqs": 3}, "max_num_seqs", "an engine's own arguments go into vllm_config.engine"),
    ({"server": "http://a", "wait_s": 0}, "wait_s", "'vllm_config.wait_s': input should be greater than 0"),
    ({"server": "http://a", "api_key_env": "MMRL_NO_KEY"}, "api_key_env",
     "vllm_config.api_key_env: the environment variable MMRL_NO_KEY is not set"),
])  # fmt: skip
def test_a_wrong_key_is_named_with_its_line(tmp_path: Path, given: dict[str, Any], key: str, message: str) -> None:
    config = loaded(tmp_path, given)
    with pytest.raises(BadInput) as raised:
        server_args(config)
    assert str(raised.value).startswith(config.where("training_args", "vllm_config", key) + ": ")
    assert message in str(raised.value)


def test_a_key_comes_from_the_environment_and_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMRL_A_KEY", "sk-0123456789")
    made = server_args(loaded(tmp_path, {"server": "http://a", "api_key_env": "MMRL_A_KEY"}))
    assert made.headers() == {"authorization": "Bearer sk-0123456789"}
    assert "sk-0123456789" not in repr(made)


def test_a_server_that_answers_all_it_may_at_once_still_says_that_it_is_well() -> None:
    all_there, well = threading.Barrier(3), threading.Event()

    def answer(asked: Asked) -> Reply:
        if asked.path == "/health":
            well.set()
        else:
            all_there.wait(30)
            well.wait(30)
        return Reply({})

    async def ask(made: ServerArgs) -> None:
        (client,) = made.clients()
        async with client.open(), asyncio.TaskGroup() as group:
            for _ in range(made.concurrency):
                group.create_task(client.post({}))
            await asyncio.to_thread(all_there.wait, 30)
            await check_health(client)

    with serving(answer) as server:
        asyncio.run(ask(ServerArgs(server=[server.url], concurrency=2)))
