import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrl_agents.layout import lay_out
from mmrl_agents.packs import Cost, Limits, Row, partition

CPU = torch.device("cpu")


def row(*ids: int) -> Row:
    return Row(ids, (), ids, ())


def test_a_tree_stands_in_one_line_depth_first() -> None:
    rows = [row(1, 2, 5), row(1, 2, 3, 4), row(1, 2, 3, 6, 7)]
    made = lay_out(rows, [(1, 2, 0)], CPU)
    assert made.ids.tolist() == [[1, 2, 3, 4, 6, 7, 5]]
    assert made.depth.tolist() == [[0, 1, 2, 3, 3, 4, 2]]
    assert made.pack.tolist() == [0, 0, 0]
    assert made.slot.tolist() == [[0, 1, 6, 0, 0], [0, 1, 2, 3, 0], [0, 1, 2, 4, 5]]
    assert made.sees is not None
    assert [[i for i, seen in enumerate(line) if seen] for line in made.sees[0].tolist()] == [
        [0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 2, 4, 5], [0, 1, 6]]  # fmt: skip


def test_chains_need_no_mask() -> None:
    made = lay_out([row(1, 2), row(1, 2, 3), row(1, 2, 3), row(4)], [(0, 1, 2), (3,)], CPU)
    assert made.sees is None
    assert made.ids.tolist() == [[1, 2, 3], [4, 0, 0]]


IDS = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=7), min_size=1, max_size=9)


@given(IDS, st.integers(1, 9), st.sampled_from([4.0, 40.0, float("inf")]))
def test_every_row_is_found_again_and_its_tokens_see_nothing_else(
    ids: list[list[int]], most: int, pairs: float
) -> None:
    rows = [row(*i) for i in ids]
    packs = partition(rows, Cost(pairs), Limits(most, 10**6))
    made = lay_out(rows, [p.rows for p in packs], CPU)
    width = max(p.tokens for p in packs)
    assert made.ids.shape == (len(packs), width)
    for n, one in enumerate(rows):
        pack, slots = int(made.pack[n]), made.slot[n, : len(one.ids)].tolist()
        assert n in packs[pack].rows
        assert made.ids[pack, slots].tolist() == list(one.ids)
        assert made.depth[pack, slots].tolist() == list(range(len(one.ids)))
        if made.sees is None:  # then plain causal attention must see the same
            assert slots == list(range(len(one.ids)))
            continue
        for place, slot in enumerate(slots):
            assert made.sees[pack, slot].nonzero()[:, 0].tolist() == sorted(slots[: place + 1])
    for n, pack in enumerate(packs):
        used = {s for i in pack.rows for s in made.slot[i, : len(rows[i].ids)].tolist()}
        assert used == set(range(pack.tokens))
        assert not made.ids[n, pack.tokens :].any()
        if made.sees is not None:
            padding = made.sees[n, pack.tokens :]
            assert padding.sum() == len(padding)  # itself alone: a softmax over nothing would not be a number
