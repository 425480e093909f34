from typing import TypeVar

import pytest
import torch
from learner_tools import llama, ragged

from mmrl_agents.batch import collate, segments_of
from mmrl_agents.logprobs import Scorer
from mmrl_agents.packs import Limits
from mmrl_agents.processes import ALONE, Processes
from mmrl_agents.shards import WHOLE
from mmrl_agents.shares import added, idle, passes_of
from mmrl_agents.sharing import Sharing

T = TypeVar("T")
SEGMENTS = [s for i, t in enumerate(ragged(7)) for s in segments_of(t, i)]


class Alike(Processes):
    """One of several that all say the same."""

    def exchange(self, value: T) -> list[T]:
        return [value] * self.count


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_segment_is_dealt_to_one_process_and_few_have_none(count: int) -> None:
    scorer, sharing = Scorer(llama(), 1.0), Sharing()
    dealt = [
        [s for chunk, _ in passes_of(SEGMENTS, sharing, scorer, Limits(100, 10**6), Alike(rank, count), WHOLE)
         for s in chunk]
        for rank in range(count)
    ]  # fmt: skip
    assert sorted(s.ids for part in dealt for s in part) == sorted(s.ids for s in SEGMENTS)
    assert sum(1 for part in dealt if part) == {1: 1, 2: 2, 3: 3, 5: 4}[count]


def test_shares_are_runs_of_almost_equal_length() -> None:
    assert [list(Processes(rank, 3).share(range(8))) for rank in range(3)] == [[0, 1], [2, 3, 4], [5, 6, 7]]
    assert [list(Processes(rank, 3).share(range(2))) for rank in range(3)] == [[], [0], [1]]


def test_an_idle_segment_asks_nothing_and_has_gradients_of_0() -> None:
    model, segment = llama(), idle(SEGMENTS[0])
    b = collate([segment], torch.zeros(1), torch.ones(1))
    assert not b.mask.any()
    logp, _ = Scorer(model, 1.0).tokens(b.ids, b.mask)
    (0 * logp.sum()).backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(g is not None and not g.any() for g in gradients)


def test_tables_of_one_process_stay_as_they_are() -> None:
    tables = ([[1.0, -0.0]], [[2.0]], [[3.0]])
    assert added(ALONE, tables) == tables
