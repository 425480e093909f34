"""What sampling is planned to take, against what the sampler's own tensors take."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from learner_tools import falcon, llama, mistral

from mmrl.errors import BadInput
from mmrl_agents.feed import Feed
from mmrl_agents.generate import Generator, Row
from mmrl_agents.kv_cache import room_for
from mmrl_agents.memory import traced
from mmrl_agents.reading import WAYS
from mmrl_agents.rehearsal import Fed, Sampling
from mmrl_agents.tally import Tally
from mmrl_agents.trace import room_of, trace_sampling

MANY, ANSWER, SEEN, TURNS = 16, 4, 16, 5
"""Episodes, tokens of an answer and of what follows it, and turns of an episode."""


def numbers(seed: int, n: int) -> tuple[int, ...]:
    return tuple(torch.randint(2, 60, (n,), generator=torch.Generator().manual_seed(seed)).tolist())


def wide() -> Any:
    return llama(dtype=torch.float32, hidden_size=64, num_hidden_layers=4, intermediate_size=128,
                 max_position_embeddings=4096)  # fmt: skip


def taken(play: Callable[[Generator], None], way: str = "packed") -> int:
    """Bytes beside the weights, at most."""
    model = wide()
    generator = Generator(model, (), 1.0)
    generator.sample([Row("first", (3, 4), (0,), 1)])  # the way to read is found
    generator._read = WAYS[way]
    generator.forget()
    with Tally([*model.parameters(), *model.buffers()]) as tally, torch.no_grad():
        play(generator)
    return tally.peak


def planned(sampling: Sampling, way: str = "packed") -> int:
    with torch.device("meta"):
        model = type(wide())(wide().config)
    found = trace_sampling(model, sampling, Feed(), way)
    return found.cache + found.work


def groups(generator: Generator) -> None:
    """One turn: 16 answers to 2 prompts."""
    generator.sample([Row(f"{i}", numbers(i // 8, 300), (i,), 4) for i in range(MANY)])


def apart(generator: Generator) -> None:
    """One turn: 16 prompts, as an evaluation has them."""
    generator.sample([Row(f"{i}", numbers(i, 300), (i,), 4) for i in range(MANY)])


def episodes(generator: Generator, end: Callable[[int, int], bool], batch: int = MANY, told: bool = True) -> None:
    """16 episodes of 2 tasks, so many at a time, until each ends, which the sampler is told, or has had its turns."""
    prompts = {i: numbers(i // 8, 120) for i in range(MANY)}
    for turn in range(TURNS):
        for first in range(0, MANY, batch):
            live = [i for i in range(first, first + batch) if i in prompts]
            said = generator.sample([Row(f"{i}", prompts[i], (i, turn), ANSWER) for i in live])
            for i, answer in zip(live, said, strict=True):
                prompts[i] = (*prompts[i], *answer.ids, *numbers(i, SEEN))
                if end(i, turn):
                    del prompts[i]
                    generator.over.extend([f"{i}"] if told else [])


ENDS = tuple((120 + n * (ANSWER + SEEN), 120 + n * (ANSWER + SEEN) + ANSWER) for n in range(TURNS))
FIRST, LAST = ENDS[0][0], Fed(MANY, SEEN + 1, ENDS[-1][0] - SEEN - 1)
CASES: dict[str, tuple[Sampling, Callable[[Generator], None]]] = {
    "groups of one turn": (Sampling(MANY, ((300, 304),), Fed(2, 300), prompts=2), groups),
    "tasks of one turn": (Sampling(MANY, ((300, 304),), Fed(MANY, 300)), apart),
    "episodes": (Sampling(MANY, ENDS, Fed(2, FIRST), LAST), lambda g: episodes(g, lambda i, turn: False)),
    "two batches": (Sampling(8, ENDS, Fed(1, FIRST), dataclasses.replace(LAST, rows=8), batches=2),
                    lambda g: episodes(g, lambda i, turn: False, 8)),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_what_sampling_takes_is_planned_within_15_percent(name: str, way: str) -> None:
    sampling, play = CASES[name]
    assert planned(sampling, way) == pytest.approx(taken(play, way), rel=0.15)


@pytest.mark.parametrize("make", [falcon, mistral])
def test_a_model_that_cannot_be_read_packed_is_planned_as_it_is_read(make: Callable[[], Any]) -> None:
    with torch.device("meta"):
        model = make()
    sampling = CASES["tasks of one turn"][0]
    with pytest.raises(BadInput, match="does not run without its weights"):
        trace_sampling(model, sampling, Feed(), "packed")
    assert traced(model, sampling, Feed(), ["packed", "padded"]) == trace_sampling(model, sampling, Feed(), "padded")


def test_episodes_that_end_take_no_more() -> None:
    told, untold = (taken(lambda g, told=told: episodes(g, lambda i, turn: turn >= 4 - i // 4, told=told))
                    for told in (True, False))  # fmt: skip
    most = planned(CASES["episodes"][0])
    assert told < most < untold


def test_rows_have_room_for_what_they_hold_and_a_quarter_more_whenever_it_was_laid() -> None:
    assert room_of([(10, 20)]) == 64
    assert room_of([(100, 125)]) == room_for(100) == 125
    assert room_of([(100, 126)]) == room_for(126)
    assert room_of([(100, 110), (300, 310)]) == room_for(300)
