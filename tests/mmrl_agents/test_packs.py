import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl_agents.packs import PLAIN, Cost, Limits, Pack, Row, common, partition, passes

NO_LIMITS = Limits(1000, 10**6)
FREE = Cost(float("inf"))
"""Attention costs nothing: whatever begins alike is packed together."""


def row(*ids: int) -> Row:
    return Row(ids, (), ids, ())


def of(*packs: Pack) -> list[tuple[int, ...]]:
    return [p.rows for p in packs]


def test_common_is_the_length_of_the_common_beginning() -> None:
    assert [common(a, b) for a, b in (((1, 2, 3), (1, 2, 4)), ((1, 2), (1, 2, 3)), ((1,), (2,)), ((), (1,)))] == [
        2, 2, 0, 0]  # fmt: skip


def test_a_group_is_one_pack_and_counts_its_prompt_once() -> None:
    packs = partition([row(1, 2, 3, 9), row(1, 2, 3, 7, 8), row(1, 2, 3, 7, 6)], FREE, NO_LIMITS)
    assert packs == [Pack((2, 1, 0), tokens=7, new=3, branches=True)]


def test_equal_rows_and_rows_that_go_on_are_chains() -> None:
    packs = partition([row(1, 2, 3), row(1, 2), row(1, 2), row(4)], FREE, NO_LIMITS)
    assert packs == [Pack((1, 2, 0), tokens=3, new=2, branches=False), Pack((3,), 1, 1, False)]


def test_the_plain_way_packs_chains_alone() -> None:
    rows = [row(1, 2, 3), row(1, 2, 4), row(1, 2), row(1, 2, 4), row(5, 6)]
    assert of(*partition(rows, PLAIN, NO_LIMITS)) == [(2, 0), (1, 3), (4,)]


def test_attention_between_answers_is_weighed_against_the_prompt() -> None:
    """Prompt 10, answers of 5: alone 15 + 225 / (2 pairs) each, two together 20 + 400 / pairs."""
    rows = [row(*range(10), 100 + i, 2, 3, 4, 5) for i in range(2)]
    assert len(partition(rows, Cost(17.0), NO_LIMITS)) == 2  # 43.2 against 43.5
    assert len(partition(rows, Cost(18.0), NO_LIMITS)) == 1  # 42.5 against 42.2


def test_a_tree_is_cut_where_that_is_cheaper() -> None:
    """Prompt 8, answers of 12: together 56 + 3136 / pairs, in twos 64 + 2048 / pairs, alone 80 + 800 / pairs."""
    rows = [row(*range(8), 100 + i, *range(11)) for i in range(4)]
    assert [len(p.rows) for p in partition(rows, Cost(140.0), NO_LIMITS)] == [4]
    assert [len(p.rows) for p in partition(rows, Cost(100.0), NO_LIMITS)] == [2, 2]
    assert [len(p.rows) for p in partition(rows, Cost(70.0), NO_LIMITS)] == [1, 1, 1, 1]


def test_packs_are_within_the_limits() -> None:
    rows = [row(*range(10), 100 + i) for i in range(6)]
    assert [p.new for p in partition(rows, FREE, Limits(4, 10**6))] in ([4, 2], [2, 4], [3, 3])
    assert all(p.tokens <= 12 for p in partition(rows, FREE, Limits(100, 12)))
    assert all(p.tokens <= 13 for p in partition(rows, Cost(float("inf"), widest=13), NO_LIMITS))
    assert of(*partition(rows[:1], FREE, Limits(1, 3))) == [(0,)]  # one row always goes
    assert of(*partition([rows[0]] * 3, FREE, Limits(1, 3))) == [(0, 1, 2)]  # and its equals with it


IDS = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=6), min_size=1, max_size=7)
COSTS = st.sampled_from([PLAIN, FREE, Cost(2.0), Cost(10.0), Cost(10.0, widest=6)])


@given(IDS, COSTS, st.integers(1, 4), st.integers(1, 12))
def test_every_row_is_in_one_pack_which_counts_what_it_computes(ids: list[list[int]], cost: Cost, most: int,
                                                               tokens: int) -> None:
    rows, limits = [row(*i) for i in ids], Limits(most, tokens)
    packs = partition(rows, cost, limits)
    assert sorted(i for p in packs for i in p.rows) == list(range(len(rows)))
    for pack in packs:
        held = [rows[i].ids for i in pack.rows]
        assert held == sorted(held)
        prefixes = {r[:n] for r in held for n in range(1, len(r) + 1)}
        assert pack.tokens == len(prefixes)
        assert pack.branches == (len(max(held, key=len)) < len(prefixes))
        assert pack.new == len(set(held))
        assert pack.new <= most
        assert not pack.branches or pack.tokens <= min(tokens, cost.widest)


@given(IDS, COSTS)
def test_no_other_cut_of_the_sorted_rows_costs_less(ids: list[list[int]], cost: Cost) -> None:
    rows = [row(*i) for i in ids]
    ordered = sorted(rows, key=lambda r: r.symbols)

    def price(part: list[Row]) -> float:
        prefixes = {r.ids[:n] for r in part for n in range(1, len(r.ids) + 1)}
        branches = len(prefixes) > max(len(r.ids) for r in part)
        unlike = len({r.ids[0] for r in part}) > 1
        pack = Pack((), len(prefixes), 0, branches)
        return float("inf") if unlike or (branches and pack.tokens > cost.widest) else cost.of(pack)

    cuts = (c for n in range(len(rows)) for c in itertools.combinations(range(1, len(rows)), n))
    cheapest = min(
        sum(price(ordered[a:b]) for a, b in itertools.pairwise([0, *cut, len(rows)])) for cut in cuts
    )
    assert sum(map(cost.of, partition(rows, cost, NO_LIMITS))) == pytest.approx(cheapest)


@given(IDS, COSTS, st.data())
def test_the_order_of_the_rows_does_not_change_the_packs(ids: list[list[int]], cost: Cost, data: st.DataObject) -> None:
    both = [[row(*i) for i in order] for order in (ids, data.draw(st.permutations(ids)))]
    one, other = ([[rows[i].ids for i in p.rows] for p in partition(rows, cost, NO_LIMITS)] for rows in both)
    assert one == other


def test_passes_go_by_rows_and_tokens_longest_first() -> None:
    packs = [Pack((i,), n, 1, False) for i, n in enumerate((2, 9, 4, 4))]
    assert [of(*p) for p in passes(packs, Limits(2, 100))] == [[(1,), (2,)], [(3,), (0,)]]
    assert [of(*p) for p in passes(packs, Limits(8, 8))] == [[(1,)], [(2,), (3,)], [(0,)]]


def test_packs_that_branch_go_apart() -> None:
    packs = [Pack((0,), 9, 1, False), Pack((1, 2), 5, 2, True), Pack((3,), 4, 1, False)]
    assert [of(*p) for p in passes(packs, NO_LIMITS)] == [[(1, 2)], [(0,), (3,)]]


@given(IDS, COSTS, st.integers(1, 4), st.integers(1, 30))
def test_passes_hold_every_pack_once_within_the_limits(ids: list[list[int]], cost: Cost, most: int,
                                                       tokens: int) -> None:
    rows, limits = [row(*i) for i in ids], Limits(most, tokens)
    packs = partition(rows, cost, limits)
    found = list(passes(packs, limits))
    assert sorted(of(*(p for held in found for p in held))) == sorted(of(*packs))
    for held in found:
        assert sum(p.new for p in held) <= most
        assert len(held) == 1 or len(held) * max(p.tokens for p in held) <= tokens
        assert len({p.branches for p in held}) == 1
