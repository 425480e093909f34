import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from local_server import Asked, LocalServer, Reply, completion, serving

import mmrl
from mmrl.env import Env
from mmrl.errors import BadInput, RunStopped
from mmrl.image import Image
from mmrl.policy import Completion, Request
from mmrl.sample import Message, Text
from mmrl.usage import Metered, Usage
from mmrl_agents import fleet, replica
from mmrl_agents.policies.openai import OpenAIPolicy

KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(fleet, "LONGEST_PAUSE_S", 0.002)


def requests(n: int = 1, content: Any = "What is 2+2?") -> list[Request]:
    env = mmrl.make("text/arithmetic")
    assert isinstance(env, Env)
    said = Message("user", (Text(content),) if isinstance(content, str) else content)
    shown = (Message("system", (Text("Be short."),)), said)
    return [Request(f"e{i}", 0, shown, None, 0, (0, i), env) for i in range(n)]


def ask(policy: OpenAIPolicy, asked: Sequence[Request]) -> list[Completion]:
    return asyncio.run(policy.generate(asked))


def policy_of(server: LocalServer, **given: Any) -> OpenAIPolicy:
    return OpenAIPolicy(server.url, "m", **given)


def test_a_conversation_goes_over_as_chat_messages_images_as_data_urls() -> None:
    picture = Image(np.zeros((2, 2, 3), np.uint8))
    with serving(lambda _: completion("four")) as server:
        policy = policy_of(server, temperature=0.5, max_new_tokens=7)
        (said,) = ask(policy, requests(1, (Text("How many?"), picture)))
    assert said == Completion("four")
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {
        "model": "m", "temperature": 0.5, "max_tokens": 7,
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": [{"type": "text", "text": "How many?"},
                                         {"type": "image_url", "image_url": {"url": picture.data_url()}}]},
        ],
    }  # fmt: skip
    assert "authorization" not in asked.headers


def test_answers_come_in_the_order_of_the_requests_and_tokens_are_counted() -> None:
    def answer(asked: Asked) -> Reply:
        return completion(str(asked.body["seed"]), finish_reason="length")

    with serving(answer) as server:
        policy = policy_of(server, seeded=True, concurrency=3, price_in=2.0, price_out=10.0)
        first, again = ask(policy, requests(8)), ask(policy, requests(8))
    assert first == again
    assert len({c.text for c in first}) == 8, "each turn has a seed of its own"
    assert {c.finish_reason for c in first} == {"length"}
    assert isinstance(policy, Metered)
    assert policy.usage == Usage(16, 1600, 320, (1600 * 2.0 + 320 * 10.0) / 1e6)
    assert str(policy.usage) == "16 requests, 1,600 prompt tokens, 320 completion tokens, cost 0.0064"
    assert server.connections <= 2 * 3


def test_no_more_requests_are_under_way_than_allowed() -> None:
    lock, now, most, full = threading.Lock(), 0, 0, threading.Event()

    def answer(asked: Asked) -> Reply:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
            if now == 3:
                full.set()
        full.wait(30)
        with lock:
            now -= 1
        return completion("x")

    with serving(answer) as server:
        ask(policy_of(server, concurrency=3), requests(9))
    assert most == 3


def test_a_server_that_answers_all_it_may_at_once_still_says_that_it_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "EVERY_S", 0.01)
    monkeypatch.setattr(replica, "MISSES", 1)
    well = threading.Event()

    def answer(asked: Asked) -> Reply:
        if asked.path == "/v1/health":
            well.set()
        else:
            well.wait(30)
        return completion("x")

    with serving(answer) as server:
        ask(policy_of(server, concurrency=2), requests(2))
    assert [a.path for a in server.asked].count("/v1/chat/completions") == 2, "nothing is asked for again"


def test_a_server_that_is_busy_or_broken_for_a_moment_is_asked_again() -> None:
    replies = [Reply({}, 429, {"retry-after": "0"}), Reply({}, 500), Reply(status=0), Reply({}, 503), completion("ok")]
    with serving(lambda asked: Reply({}, 404) if asked.path == "/v1/health" else replies.pop(0)) as server:
        policy = policy_of(server)
        assert ask(policy, requests())[0].text == "ok"
    assert policy.usage.requests == 1, "what failed is not counted"


def test_a_conversation_that_is_refused_ends_its_own_episode_alone() -> None:
    def answer(asked: Asked) -> Reply:
        return Reply({"error": "too long"}, 400) if "long" in str(asked.body["messages"]) else completion("ok")

    with serving(answer) as server:
        fine, refused = ask(policy_of(server), [*requests(), *requests(1, "a long story")])
    assert fine == Completion("ok")
    assert refused.error is not None
    assert refused.error.endswith('answered 400 Bad Request: {"error": "too long"}')


@pytest.mark.parametrize(("status", "mend"), [(401, "set api_key_env"), (403, "api_key_env is"), (404, "url is")])
def test_a_wrong_argument_ends_the_command_in_one_line(status: int, mend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMRL_A_KEY", KEY)
    with serving(lambda _: Reply({"error": f"not {KEY}"}, status)) as server, pytest.raises(BadInput) as raised:
        ask(policy_of(server, api_key_env="MMRL_A_KEY"), requests(4))
    assert mend in str(raised.value)
    assert KEY not in str(raised.value)
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_server_that_goes_is_waited_for_and_no_longer() -> None:
    with serving(lambda _: completion("x")) as server:
        policy = policy_of(server, wait_s=0.2)
        ask(policy, requests())
    with pytest.raises(RunStopped, match=r"no server for 0.2 s: .*ConnectError"):
        ask(policy, requests())


def test_a_server_that_never_was_there_is_not_waited_for() -> None:
    with serving(lambda _: completion("x")) as server:
        pass
    with pytest.raises(BadInput, match=r"policy openai: .*ConnectError.*; start the server, or mend url"):
        ask(policy_of(server, wait_s=1e6), requests())


def test_models_that_think_are_told_the_limit_by_its_other_name() -> None:
    def answer(asked: Asked) -> Reply:
        wrong = Reply({"error": {"message": "Unsupported parameter: use 'max_completion_tokens' instead."}}, 400)
        return wrong if "max_tokens" in asked.body else completion("x")

    with serving(answer) as server:
        policy = policy_of(server, max_new_tokens=9)
        for _ in range(2):
            ask(policy, requests())
    limits = [{k: v for k, v in a.body.items() if k.startswith("max")} for a in server.asked]
    assert limits == [{"max_tokens": 9}, {"max_completion_tokens": 9}, {"max_completion_tokens": 9}]


@pytest.mark.parametrize(("given", "message"), [
    ({"url": "http://h/v1?key=k"}, "url is an address such as http://localhost:8000, with nothing from a"),
    ({"url": "localhost"}, "url is an address"), ({"model": ""}, "model is the model's name"),
    ({"concurrency": 0}, "concurrency is a number above 0, not 0"), ({"wait_s": 0.0}, "wait_s is a number above 0"),
    ({"price_in": 1.0}, "price_out is the price of a million tokens"), ({"api_key_env": "MMRL_NO_KEY"}, "is not set"),
])  # fmt: skip
def test_bad_arguments_are_refused_at_once(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        OpenAIPolicy(**{"url": "http://localhost:1", "model": "m", **given})
