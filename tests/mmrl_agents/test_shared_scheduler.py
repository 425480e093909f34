import dataclasses
import pickle
from typing import Any, TypeVar

import pytest
from learner_tools import trajectory, turn

from mmrl.episode import EpisodeSpec
from mmrl.errors import BadInput
from mmrl.load import load_policy
from mmrl.run_sync import run_sync
from mmrl_agents.processes import Processes
from mmrl_agents.shared_scheduler import SharedScheduler, told

T = TypeVar("T")
SPECS = [EpisodeSpec(f"{i}", "text/arithmetic", i, f"g{i // 2}", (0, i), {}) for i in range(5)]


class Pair(Processes):
    """The first of two; the second says what it was given beforehand."""

    def __init__(self, rank: int, other: bytes) -> None:
        super().__init__(rank, 2)
        self.other: Any = other
        self.said = list[Any]()

    def exchange(self, value: T) -> list[T]:
        self.said.append(value)
        return [self.other, value] if self.rank else [value, self.other]


def test_two_halves_are_the_episodes_of_one() -> None:
    whole = run_sync(SharedScheduler().run(SPECS, load_policy("random")))
    second = Pair(1, pickle.dumps([]))
    run_sync(SharedScheduler(processes=second).run(SPECS, load_policy("random")))
    done: list[str] = []
    first = Pair(0, second.said[0])
    scheduler = SharedScheduler(processes=first)
    found = run_sync(scheduler.run(SPECS, load_policy("random"), None, lambda t: done.append(t.id)))
    assert found == whole
    assert sorted(done) == [s.id for s in SPECS]
    assert [len(pickle.loads(half.said[0])) for half in (first, second)] == [2, 3]


def test_no_episode_is_nothing_to_run() -> None:
    assert run_sync(SharedScheduler().run([], load_policy("random"))) == []


def test_an_episode_that_cannot_be_told_names_its_environment() -> None:
    odd = dataclasses.replace(turn([2], [3]), info={"live": lambda: None})
    with pytest.raises(BadInput, match="env: the processes of a run tell each other their episodes"):
        told([trajectory("t", [odd])])
