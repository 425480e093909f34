"""Policies with arguments of their own, and what they say to have used: a chat server behind three commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from local_server import Asked, LocalServer, Reply, completion, serving

from mmrl.store import read_trajectories
from mmrl_agents.policies import openai

POLICY = f"{openai.__file__}:OpenAIPolicy"
TASKS = ("--env", "text/arithmetic", "--env-kwargs", "low=2", "--env-kwargs", "high=2", "--policy", POLICY)
USED = "used: 3 requests, 300 prompt tokens, 60 completion tokens"


@pytest.fixture
def server() -> Iterator[LocalServer]:
    """A model that answers everything by 4."""

    def answer(asked: Asked) -> Reply:
        return completion("4")

    with serving(answer) as made:
        yield made


def of(server: LocalServer, *more: str) -> tuple[str, ...]:
    words = (f"url={server.url}", "model=m", *more)
    return tuple(w for word in words for w in ("--policy-kwargs", word))


def test_evaluated_with_its_tokens_and_their_price(mmrl: Callable[..., Any], server: LocalServer) -> None:
    words = ("eval", *TASKS, *of(server, "price_in=1.0", "price_out=5"), "--episodes", "3", "--max-new-tokens", "9")
    code, out, err = mmrl(*words, "--json")
    assert code == 0
    record = json.loads(out.splitlines()[-1])
    assert (record["episodes"], record["mean_turns"]) == (3, 1.0)
    assert record["usage"] == {"requests": 3, "prompt_tokens": 300, "completion_tokens": 60, "cost": 0.0006}
    assert err.splitlines()[-1] == f"{USED}, cost 0.0006"
    assert [(a.body["max_tokens"], a.body["temperature"]) for a in server.asked] == [(9, 1.0)] * 3


def test_collected(mmrl: Callable[..., Any], server: LocalServer, tmp_path: Path) -> None:
    code, _, err = mmrl("collect", *TASKS, *of(server), "--episodes", "3", "--out", "r")
    assert (code, err.splitlines()[-1]) == (0, USED)
    assert [t.response for t in read_trajectories(tmp_path / "r" / "rollouts")] == ["4"] * 3
    assert "policy_kwargs" in (tmp_path / "r" / "config.yaml").read_text()


@pytest.mark.parametrize("end", ["?key=sk-0123456789", "#sk-0123456789"])
def test_a_key_in_an_address_is_refused_and_never_written(mmrl: Callable[..., Any], server: LocalServer, tmp_path: Path,
                                                          end: str) -> None:
    words = ("--policy-kwargs", f"url={server.url}/v1{end}", "--policy-kwargs", "model=m")
    code, out, err = mmrl("collect", *TASKS, *words, "--out", "r")
    assert code == 2
    assert "url is an address such as" in err
    assert "sk-0123456789" not in out + err
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and "sk-0123456789" in p.read_text()]
    assert server.asked == []


def test_watched(mmrl: Callable[..., Any], server: LocalServer) -> None:
    code, out, err = mmrl("play", *TASKS, *of(server))
    assert (code, err) == (0, "used: 1 requests, 100 prompt tokens, 20 completion tokens\n")
    assert "[turn 1] '4'" in out


def test_a_policy_is_told_which_arguments_it_lacks(mmrl: Callable[..., Any]) -> None:
    code, _, err = mmrl("eval", *TASKS, "--policy-kwargs", "url=http://localhost:1")
    assert code == 2
    assert "does not take these arguments: OpenAIPolicy.__init__() missing 1" in err
    assert "'model'" in err
    code, _, err = mmrl("eval", "--env", "text/arithmetic", "--policy", "expert", "--policy-kwargs", "skill=3")
    assert code == 2
    assert "policy 'expert' does not take these arguments" in err
