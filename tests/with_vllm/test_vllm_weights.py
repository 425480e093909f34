"""A real vLLM engine on a real model: it gives the learner's log-probabilities, and goes on giving them."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from concurrent.futures import Future
from typing import Any

import pytest
import torch
from vllm_tools import LONG, engine_of, gaps, rows, shake, smol

from mmrl.training_args import LoraArgs
from mmrl_agents.following import by_folder, by_weights
from mmrl_agents.models import find_model, load_model
from mmrl_agents.run import add_adapter
from mmrl_agents.vllm_engine import Engine

pytestmark = pytest.mark.vllm
TEXTS = ("What is the capital of France?", f"{LONG} What do you see?", f"{LONG} Where to go?")


@pytest.fixture(scope="module")
def engine() -> Generator[Engine]:
    made = engine_of(smol(), max_num_batched_tokens=1024)
    yield made
    made.close()


@pytest.fixture
def model() -> Any:
    return load_model(find_model(smol()), device="cpu")


def test_log_probabilities_are_the_learners(engine: Engine, model: Any) -> None:
    asked = rows(TEXTS)
    said = engine.sample(asked)
    assert [len(s.ids) == 12 or s.ended for s in said] == [True] * 3
    assert max(gaps(model, asked, said)) < 1e-4
    # The temperature is in: without it the figures differ by more than rounding.
    assert max(gaps(model, asked, said, 1.0)) > 0.05


def test_an_answer_goes_by_its_seed_alone(engine: Engine) -> None:
    asked = rows(TEXTS)
    together = [s.ids for s in engine.sample(asked)]
    assert [engine.sample([row])[0].ids for row in reversed(asked)] == together[::-1]
    others = [s.ids for s in engine.sample(rows(TEXTS, seed=1))]
    assert all(a != b for a, b in zip(together, others, strict=True))


def test_what_is_asked_meanwhile_joins_what_is_under_way(engine: Engine) -> None:
    long, short = rows(["Tell me a long story of a fox."], limit=40)[0], rows(["Say yes."], limit=2)[0]
    alone = [engine.sample([row])[0].ids for row in (long, short)]
    ended: list[str] = []
    first, second = Future[Any](), Future[Any]()
    first.add_done_callback(lambda _: ended.append("long"))
    second.add_done_callback(lambda _: ended.append("short"))
    engine.start([long], [first])
    engine.start([short], [second])
    together = engine.read([long, short], [first.result(), second.result()])
    assert [s.ids for s in together] == alone
    assert len(alone[0]) > 20
    assert ended == ["short", "long"]


def test_an_answer_that_nobody_waits_for_is_dropped(engine: Engine, model: Any) -> None:
    long, short = rows(["Tell me a long story of a fox."], limit=500)[0], rows(["Say yes."], limit=2)[0]
    answer = Future[Any]()
    engine.start([long], [answer])
    assert answer.cancel()
    assert len(engine.sample([short])[0].ids) == 2
    by_weights(engine, model)  # which is refused while anything is under way


def test_what_the_engine_refuses_fails_alone(engine: Engine) -> None:
    short = rows(["Say yes."], limit=2)[0]
    refused, answered = Future[Any](), Future[Any]()
    engine.start([dataclasses.replace(short, prompt=short.prompt * 100), short], [refused, answered])
    with pytest.raises(Exception, match="maximum context length is 1024 tokens"):
        refused.result()
    assert len(engine.read([short], [answered.result()])[0].ids) == 2


def test_prompts_that_one_step_cannot_hold_are_read_in_several(engine: Engine) -> None:
    asked = rows([f"{n} {LONG} What do you see?" for n in range(8)], limit=2)
    assert sum(len(row.prompt) for row in asked) > 1024
    together = [s.ids for s in engine.sample(asked)]
    assert [engine.sample([row])[0].ids for row in asked[-2:]] == together[-2:]


def test_an_answer_that_ends_keeps_its_last_id(engine: Engine) -> None:
    (said,) = engine.sample(rows(["Say yes."], limit=100))
    assert said.ended
    assert said.ids[-1] == 2  # <|im_end|>
    assert len(said.ids) == len(said.logprobs) < 100


@pytest.mark.parametrize("way", [by_weights, by_folder])
def test_weights_follow_behind_a_prefix_that_was_kept(engine: Engine, model: Any, way: Any) -> None:
    asked = rows(TEXTS)
    engine.sample(asked)  # whose prompts are kept
    shake(model, "o_proj", 0.02)
    shake(model, "embed_tokens", 0.02)  # which the head shares
    stale = engine.sample(asked)
    assert max(gaps(model, asked, stale)) > 0.1
    way(engine, model)
    assert max(gaps(model, asked, engine.sample(asked))) < 1e-4
    way(engine, load_model(find_model(smol()), device="cpu"))  # and back
    assert max(gaps(model, asked, engine.sample(asked))) > 0.1


def test_an_adapter_is_merged_into_what_is_sent_and_stays_off_the_learner(engine: Engine) -> None:
    files = find_model(smol())
    model = add_adapter(load_model(files, device="cpu"), LoraArgs(r=8, alpha=16, dora=True), files)
    shake(model, "lora_B", 0.05)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    by_weights(engine, model)
    asked = rows(TEXTS)
    said = engine.sample(asked)
    assert max(gaps(model, asked, said)) < 1e-4
    with model.disable_adapter():
        assert max(gaps(model, asked, said)) > 0.1
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_the_engine_leaves_the_noise_of_others_alone(engine: Engine, model: Any) -> None:
    state = torch.get_rng_state()
    engine.sample(rows(TEXTS[:1]))
    by_weights(engine, model)
    assert torch.equal(torch.get_rng_state(), state)
