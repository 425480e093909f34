from typing import Any

import pytest
import torch
from learner_tools import llama

from mmrl_agents.feed import Feed
from mmrl_agents.kv_cache import RaggedCache, SlabLayer, merge, room_for
from mmrl_agents.reading import packed


@torch.no_grad()
def held(*rows: list[int]) -> RaggedCache:
    """A cache that has read these rows, named a, b and so on."""
    cache = RaggedCache.empty(list("abc"[: len(rows)]), 2)
    packed(cache, llama().eval(), rows, Feed(), ())
    return cache


def keys(cache: RaggedCache, row: int) -> torch.Tensor:
    """What the first layer holds of a row."""
    found = cache.layers[0].keys
    assert found is not None
    return found[row, :, : len(cache.ids[row])]


def test_room_is_a_quarter_more_and_64_at_least() -> None:
    assert [room_for(n) for n in (1, 51, 52, 100)] == [64, 64, 65, 125]


def test_a_row_that_is_cut_holds_what_it_began_with() -> None:
    cache = held([3, 4, 5], [6, 7])
    before = keys(cache, 0)[:, :2].clone()
    cache.cut(0, 2)
    cache.cut(1, 2)
    assert (cache.ids, cache.places) == ([[3, 4], [6, 7]], [2, 2])
    assert torch.equal(keys(cache, 0), before)


def test_rows_that_share_a_prompt_keep_one_copy_until_they_are_gathered() -> None:
    prompts = held([3, 4, 5], list(range(2, 60)))
    shared = prompts.fan_out([1, 0, 1], list("xyz"))
    assert (shared.begins, shared.nbytes) == ([58, 3, 58], prompts.nbytes)
    assert shared.ids == [prompts.ids[1], prompts.ids[0], prompts.ids[1]]
    shared.gather()
    shared.gather()
    assert (shared.begins, shared.prompts, shared.names) == ([0, 0, 0], None, ["x", "y", "z"])
    assert shared.nbytes == prompts.nbytes * 3 // 2
    for row, root in enumerate((1, 0, 1)):
        assert torch.equal(keys(shared, row), keys(prompts, root))


def test_what_is_taken_or_joined_is_a_copy() -> None:
    one, other = held([3, 4, 5], [6, 7]), held(list(range(2, 60)))
    both = merge([one.select([1]), other.select([0])])
    assert (both.names, both.places) == (["b", "a"], [2, 58])
    first, second = keys(one, 1).clone(), keys(other, 0).clone()
    for cache in (one, other):
        for layer in cache.layers:
            assert layer.room_k is not None
            layer.room_k.fill_(torch.nan)
    assert torch.equal(keys(both, 0), first)
    assert torch.equal(keys(both, 1), second)
    assert all(layer.room_k is not None and torch.isfinite(layer.room_k).all() for layer in both.layers)


def test_what_is_used_for_the_last_time_goes_layer_by_layer() -> None:
    one, other = held([3, 4, 5], [6, 7]), held(list(range(2, 60)))
    kept = keys(one, 1).clone()
    sizes: list[int] = []
    load = SlabLayer.load

    def watched(layer: SlabLayer, *given: Any) -> None:
        load(layer, *given)
        sizes.append(one.nbytes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SlabLayer, "load", watched)
        taken = one.select([1], last=True)
    assert sizes == [sizes[0], sizes[0] // 2]
    assert (one.nbytes, torch.equal(keys(taken, 0), kept)) == (0, True)
    both = merge([taken, other])
    assert (taken.nbytes, other.nbytes) == (0, 0)
    assert torch.equal(keys(both, 0), kept)
