import asyncio
import json
import math
from typing import Any

import numpy as np
import pytest
from local_server import Asked, LocalServer, Reply, plain_scorer, serving

from mmrl import BadInput, Image, Message, RewardSuite, Sample, Score, Text, Trajectory, Turn, Video
from mmrl.json_client import ServerError
from mmrl.plugin import by_compute, is_async
from mmrl_plugins.http import REQUEST_SCHEMA, RESPONSE_SCHEMA, Http, Request, rollout

RED = Image(np.full((2, 2, 3), 7, np.uint8))


def episode(*responses: str, id: str = "t", reference: Any = "4", question: Any = "2+2?", **info: Any) -> Trajectory:
    turns = tuple(Turn((Text("see"),), r, reward=0.5, info=info) for r in responses)
    sample = Sample("s", (Message("user", question if isinstance(question, tuple) else (Text(question),)),), reference)
    return Trajectory(id, "test/env", 7, "g", sample, turns, True, False)


def always(*scores: Any) -> Any:
    return lambda _: Reply({"scores": list(scores)})


def one(server: LocalServer, trajectory: Trajectory, **kwargs: Any) -> Score:
    return asyncio.run(Http(url=server.url, **kwargs).compute(trajectory))


def test_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER_TOKEN", "Bearer 0123456789")
    info = {"success": np.True_, "cells": np.arange(3), "odd": math.nan}
    with serving(always({"reward": 1})) as server:
        one(server, episode("a", "b", **info), headers_env={"Authorization": "SCORER_TOKEN"})
    (asked,) = server.asked
    turn = {"reward": 0.5, "info": {"success": True, "cells": [0, 1, 2], "odd": "nan"}}
    assert asked.body == {"version": 1, "rollouts": [{
        "id": "t", "env_id": "test/env", "seed": 7, "reference": "4", "success": True,
        "messages": [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "a"},
                     {"role": "user", "content": "see"}, {"role": "assistant", "content": "b"}],
        "turns": [{"response": "a", **turn}, {"response": "b", **turn}],
    }]}  # fmt: skip
    assert asked.headers["authorization"] == "Bearer 0123456789"
    assert asked.headers["content-type"] == "application/json"
    Request.model_validate_json(json.dumps(asked.body), strict=True)


def test_success_is_null_where_the_environment_does_not_say() -> None:
    assert [rollout(t, False).success for t in (episode("a"), episode("a", success=False))] == [None, False]


def test_images_by_hash_or_as_data_urls() -> None:
    video = Video([RED, RED])
    asked = episode("a", question=(Text("see"), RED, video))
    hashed, sent = rollout(asked, images=False).messages[0], rollout(asked, images=True).messages[0]
    text = {"type": "text", "text": "see"}
    assert hashed == {"role": "user", "content": [text, {"type": "image", "sha256": RED.sha256},
                                                  {"type": "video", "sha256": video.sha256, "frames": 2}]}  # fmt: skip
    assert sent == {"role": "user", "content": [text, {"type": "image_url", "image_url": {"url": RED.data_url()}},
                                                {"type": "video_url", "video_url": {"url": video.data_url()}}]}
    with serving(always({"reward": 0})) as server:
        one(server, asked, images=True)
    assert server.asked[0].body["rollouts"][0]["messages"][0] == sent


@pytest.mark.parametrize(("answer", "score"), [
    ({"reward": 0.25}, Score(0.25)),
    ({"reward": 1}, Score(1.0)),
    ({"reward": 0, "info": {"a": [1]}}, Score(0.0, info={"a": [1]})),
    ({"reward": 0.75, "turns": [0.5, 0.25]}, Score(0.75, turns=(0.5, 0.25))),
    ({"reward": 0.5, "turns": None}, Score(0.5)),
    ({"reward": None}, Score(0.0, False, {"reason": "the service says that it does not apply"}, "not_applicable")),
    ({"reward": None, "info": {"reason": "a", "cls": 1}}, Score(0, False, {"reason": "a", "cls": 1}, "not_applicable")),
])  # fmt: skip
def test_what_is_expected_back(answer: Any, score: Score) -> None:
    for batch in (False, True):
        with serving(always(answer)) as server:
            assert Http(url=server.url, batch=batch).score([episode("a", "b")]) == [score]


@pytest.mark.parametrize(("answer", "said"), [
    ({}, "scores: Field required"),
    ([], ": Input should be a valid dictionary"),
    ({"scores": {}}, "scores: Input should be a valid list"),
    ({"scores": []}, "answered 0 scores for 1 rollouts"),
    ({"scores": [{"reward": 1}] * 2}, "answered 2 scores for 1 rollouts"),
    ({"scores": [0.5]}, "scores.0: Input should be a valid dictionary"),
    ({"scores": [{}]}, "scores.0.reward: Field required"),
    ({"scores": [{"reward": "0.5"}]}, "scores.0.reward: Input should be a valid number"),
    ({"scores": [{"reward": True}]}, "scores.0.reward: Input should be a valid number"),
    ({"scores": [{"rewards": 1}]}, "scores.0.reward: Field required"),
    ({"scores": [{"reward": 1, "why": "so"}]}, "scores.0.why: Extra inputs are not permitted"),
    ({"scores": [{"reward": 1, "info": "so"}]}, "scores.0.info: Input should be a valid dictionary"),
    ({"scores": [{"reward": 1, "turns": [1, None]}]}, "scores.0.turns.1: Input should be a valid number"),
    ({"scores": [{"reward": 1, "turns": [1, 0]}]}, "answered scores.0.turns of 2 for 1 turns"),
    ({"scores": [{"reward": 1}], "version": 2}, "version: Extra inputs are not permitted"),
    (b'{"scores": [{"reward": NaN}]}', "no JSON"),
    (b'{"scores": [{"reward": 1e999}]}', "scores.0.reward: Input should be a finite number"),
])  # fmt: skip
def test_any_other_answer_is_an_error_that_names_it(answer: Any, said: str) -> None:
    with serving(lambda _: Reply(answer)) as server, pytest.raises(ServerError) as raised:
        one(server, episode("a"))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed_to_another_host_nor_to_the_same(status: int) -> None:
    with serving(always({"reward": 1})) as other:
        for place in (f"{other.url}/score", "/again"):
            with serving(lambda _, place=place: Reply(None, status, {"location": place})) as server:
                with pytest.raises(ServerError, match=rf"answered {status} .*, to {place}; redirects are not followed"):
                    one(server, episode("a"))
                assert len(server.asked) == 1
        assert other.asked == []


def test_a_batch_is_one_request_and_single_rollouts_are_requests_of_their_own() -> None:
    nothing, wordy = episode(id="b"), episode("x", id="c", reference=None)
    episodes = [episode("4 2", id="a"), nothing, wordy, episode("1", "22", id="d")]
    expected = [(2 / 3, "ok"), (0.0, "not_applicable"), (0.0, "not_applicable"), (1.0, "ok")]
    for batch, requests in ((True, [["a", "c", "d"]]), (False, [["a"], ["c"], ["d"]])):
        with serving(plain_scorer) as server:
            scores = Http(url=server.url, batch=batch).score(episodes)
        assert [(s.value, s.status) for s in scores] == expected
        assert [s.info.get("reason") for s in scores] == [None, "the episode has no turns", "no reference", None]
        assert sorted([r["id"] for r in a.body["rollouts"]] for a in server.asked) == requests


def test_the_core_asks_singles_by_compute_and_batches_by_score() -> None:
    single, batch = Http(url="http://h"), Http(url="http://h", batch=True)
    assert (by_compute(single), is_async(single), by_compute(batch)) == (True, True, False)


def test_nothing_to_score_asks_nothing() -> None:
    with serving(plain_scorer) as server:
        assert Http(url=server.url, batch=True).score([]) == []
        assert [s.status for s in Http(url=server.url, batch=True).score([episode()])] == ["not_applicable"]
    assert server.asked == []


@pytest.mark.parametrize("batch", [False, True])
def test_in_a_suite_only_the_rollout_that_the_service_stumbles_over_fails(batch: bool) -> None:
    def answer(asked: Asked) -> Reply:
        if any(r["turns"][-1]["response"] == "bad" for r in asked.body["rollouts"]):
            return Reply(b"Traceback ...", 500)
        return Reply({"scores": [{"reward": float(r["turns"][-1]["response"])} for r in asked.body["rollouts"]]})

    with serving(answer) as server:
        kwargs = {"url": f"{server.url}/score", "batch": batch, "range": [-1, 2]}
        suite = RewardSuite.from_config([{"name": "http", "kwargs": kwargs}])
        records = suite.score([episode(r, id=f"t{i}") for i, r in enumerate(("2", "bad", "-1", "3"))])
    scores = [r.scores["http"] for r in records]
    assert [(s.status, s.value) for s in scores] == [("ok", 2.0), ("failed", 0.0), ("ok", -1.0), ("failed", 0.0)]
    assert "/score answered 500 Internal Server Error: Traceback ..." in scores[1].info["error"]
    assert "outside the declared range [-1, 2]" in scores[3].info["error"]


def test_a_batch_can_be_scored_inside_a_running_loop() -> None:
    async def run() -> list[Score]:
        return Http(url=server.url, batch=True).score([episode("4")])

    with serving(plain_scorer) as server:
        assert [s.value for s in asyncio.run(run())] == [1.0]


def test_a_query_and_a_header_are_shown_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORER_TOKEN", "tok-0123456789")
    with serving(lambda a: Reply({"error": dict(a.headers)}, 403)) as server, pytest.raises(ServerError) as raised:
        asyncio.run(Http(f"{server.url}/s?key=abc", headers_env={"X-Key": "SCORER_TOKEN"}).compute(episode("a")))
    assert server.asked[0].path == "/s?key=abc"
    assert server.asked[0].headers["x-key"] == "tok-0123456789"
    assert "tok-" not in str(raised.value)
    assert "abc" not in str(raised.value)


def test_a_reward_that_json_cannot_hold_is_sent_as_null() -> None:
    turn = Turn((), "a", reward=math.nan)  # another trainer's rollout, which no environment has rewarded
    trajectory = Trajectory("t", "e", 0, "g", Sample.ask("q"), (turn,), True, False)
    with serving(plain_scorer) as server:
        one(server, trajectory)
    assert server.asked[0].body["rollouts"][0]["turns"][0]["reward"] is None


def test_the_schemas_say_what_is_checked() -> None:
    assert set(REQUEST_SCHEMA["$defs"]["Rollout"]["required"]) == {
        "id", "env_id", "seed", "messages", "reference", "success", "turns",
    }  # fmt: skip
    assert RESPONSE_SCHEMA["required"] == ["scores"]
    assert RESPONSE_SCHEMA["$defs"]["RolloutScore"]["required"] == ["reward"]
    assert RESPONSE_SCHEMA["$defs"]["RolloutScore"]["additionalProperties"] is False
    json.dumps([REQUEST_SCHEMA, RESPONSE_SCHEMA])


@pytest.mark.parametrize(("kwargs", "said"), [
    ({"url": "localhost:8000/score"}, "url is an address"), ({"url": "file:///etc/passwd"}, "url is an address"),
    ({"url": "http://"}, "url is an address"),
    ({"url": "http://a b"}, "url is an address"),
    ({"url": None}, "url is an address"),
    ({"url": "http://h:99999"}, "url is an address"), ({"url": "http://me:pw@h"}, "no user name and no password"),
    ({"headers_env": ["A"]}, "headers_env is {header: environment variable}"),
    ({"headers_env": {"A b": "X"}}, "'A b' is no name of a header"),
    ({"headers_env": {"A": "NOT_SET_ANYWHERE"}}, "headers_env.A: the environment variable NOT_SET_ANYWHERE is not set"),
    ({"headers_env": {"A": 3}}, "headers_env.A is the name of an environment variable"),
    ({"batch": "yes"}, "batch is true or false"),
    ({"images": None}, "images is true or false"),
    ({"range": [1, 0]}, "range is two numbers"),
    ({"range": "01"}, "range is two numbers"),
])  # fmt: skip
def test_bad_arguments(kwargs: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as raised:
        Http(**{"url": "http://h", **kwargs})
    assert said in str(raised.value)
