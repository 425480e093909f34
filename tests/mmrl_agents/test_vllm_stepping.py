"""The engine here is a stand-in that answers a prompt after so many steps; a real one: tests/with_vllm."""

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from mmrl_agents.vllm_stepping import Asked, Stepping, open_answers, outer_name


@dataclass
class Output:
    request_id: str
    prompt: str
    finished: bool = True


@dataclass
class StandIn:
    """``vllm.LLM`` and its engine in one: ``how`` is how many steps an answer takes.

    ``hook`` is called in each step.
    """

    running: dict[str, list[Any]] = field(default_factory=dict)
    aborted: list[str] = field(default_factory=list)
    asked: int = 0
    steps: int = 0
    hook: Any = None

    @property
    def llm_engine(self) -> "StandIn":
        return self

    def enqueue(self, prompts: list[str], how: int, lora_request: Any, use_tqdm: bool) -> list[str]:
        if how < 0:
            raise ValueError("too long")
        name = f"{self.asked}-0f3a9c21"
        self.asked += 1
        self.running[name] = [how, prompts[0]]
        return [name]

    def step(self) -> list[Output]:
        self.steps += 1
        torch.rand(1)  # as vLLM does on a CPU
        if self.hook is not None:
            self.hook()
        for entry in self.running.values():
            entry[0] -= 1
        done = [name for name, (left, _) in self.running.items() if left <= 0]
        return [Output(outer_name(name), self.running.pop(name)[1]) for name in done]

    def abort_request(self, names: list[str], internal: bool) -> None:
        assert internal
        for name in names:
            self.running.pop(name, None)
        self.aborted += names


@pytest.fixture
def llm() -> StandIn:
    return StandIn()


@pytest.fixture
def stepping(llm: StandIn) -> Iterator[Stepping]:
    made = Stepping(llm)
    yield made
    made.close()


def ask(stepping: Stepping, *prompts: tuple[str, int]) -> list[Future[Any]]:
    answers = [Future[Any]() for _ in prompts]
    stepping.start([Asked(prompt, how, None, a) for (prompt, how), a in zip(prompts, answers, strict=True)])
    return answers


def test_answers_come_to_their_own_futures(stepping: Stepping) -> None:
    answers = ask(stepping, ("a", 3), ("b", 1), ("c", 2))
    assert [a.result(30).prompt for a in answers] == ["a", "b", "c"]


def test_what_is_asked_meanwhile_joins(llm: StandIn, stepping: Stepping) -> None:
    begun, joined = threading.Event(), threading.Event()

    def hook() -> None:
        begun.set()
        joined.wait(30)

    llm.hook = hook
    (long,) = ask(stepping, ("long", 50))
    begun.wait(30)
    (short,) = ask(stepping, ("short", 1))
    order: list[str] = []
    for name, answer in (("long", long), ("short", short)):
        answer.add_done_callback(lambda _, name=name: order.append(name))
    joined.set()
    assert (short.result(30).prompt, long.result(30).prompt) == ("short", "long")
    assert order == ["short", "long"]
    assert llm.steps == 50


def test_a_cancelled_request_is_dropped(llm: StandIn, stepping: Stepping) -> None:
    long, other = ask(stepping, ("long", 10**9), ("other", 3))
    assert long.cancel()
    assert other.result(30).prompt == "other"
    ask(stepping, ("last", 1))[0].result(30)
    assert llm.running == {}


def test_what_is_cancelled_before_it_is_given_is_never_given(llm: StandIn, stepping: Stepping) -> None:
    answer = Future[Any]()
    answer.cancel()
    stepping.start([Asked("a", 1, None, answer)])
    ask(stepping, ("b", 1))[0].result(30)
    assert llm.asked == 1


def test_what_is_refused_fails_alone(stepping: Stepping) -> None:
    refused, answered = ask(stepping, ("a", -1), ("b", 2))
    with pytest.raises(ValueError, match="too long"):
        refused.result(30)
    assert answered.result(30).prompt == "b"


def test_an_engine_that_fails_fails_all_that_is_open_and_forgets_it(llm: StandIn, stepping: Stepping) -> None:
    def hook() -> None:
        raise RuntimeError("out of memory")

    llm.hook = hook
    for answer in ask(stepping, ("a", 5), ("b", 5)):
        with pytest.raises(RuntimeError, match="out of memory"):
            answer.result(30)
    llm.hook = None
    assert ask(stepping, ("c", 1))[0].result(30).prompt == "c"
    assert len(llm.aborted) == 2
    assert llm.running == {}


def test_closing_answers_nothing_more(llm: StandIn) -> None:
    stepping, begun = Stepping(llm), threading.Event()
    llm.hook = begun.set
    (answer,) = ask(stepping, ("a", 10**9))
    begun.wait(30)
    stepping.close()
    with pytest.raises(CancelledError):
        answer.result(0)
    assert llm.running == {}


def test_the_noise_of_others_is_as_it_was(stepping: Stepping) -> None:
    state = torch.get_rng_state()
    ask(stepping, ("a", 5))[0].result(30)
    ask(stepping, ("b", 1))[0].result(30)  # which begins when the first drive has ended
    stepping.close()
    assert torch.equal(torch.get_rng_state(), state)


def test_who_leaves_by_an_exception_waits_for_no_answer() -> None:
    with pytest.raises(KeyError), open_answers(2) as answers:
        raise KeyError
    assert [a.cancelled() for a in answers] == [True, True]
    with open_answers(1) as kept:
        pass
    assert not kept[0].cancelled()


def test_the_outer_name_is_what_stands_before_the_dash() -> None:
    assert outer_name("7-0f3a9c21") == "7"
