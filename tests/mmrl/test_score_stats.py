import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl.score_stats import (
    Reals,
    Summary,
    moves,
    no_spread,
    pearson,
    ranks,
    spearman,
    spearman_within,
    summary,
)

NAN = math.nan


def column(*values: float) -> Reals:
    return np.array(values, float)


def groups(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def test_summary_leaves_out_what_is_missing() -> None:
    # mean (1 + 2 + 6) / 3 = 3; variance (4 + 1 + 9) / 3
    assert summary(column(1, NAN, 2, 6)) == Summary(3, 3.0, pytest.approx(math.sqrt(14 / 3)))
    assert summary(column(NAN)) == Summary(0, None, None)
    assert summary(column()) == Summary(0, None, None)
    assert summary(column(2)) == Summary(1, 2.0, 0.0)


def test_pearson_by_hand() -> None:
    # deviations (-1, 0, 1) and (-4/3, -1/3, 5/3): 3 / sqrt(2 * 42/9)
    assert pearson(column(1, 2, 3), column(1, 2, 4)) == pytest.approx(3 / math.sqrt(2 * 42 / 9))
    assert pearson(column(1, 2, 3), column(6, 4, 2)) == -1.0
    assert pearson(column(0, 1, 0, 1), column(0, 0, 1, 1)) == 0.0
    assert pearson(column(1, 5, 2, NAN, 3), column(1, NAN, 2, 9, 4)) == pearson(column(1, 2, 3), column(1, 2, 4))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (column(), column()),
        (column(1), column(2)),
        (column(1, 1, 1), column(1, 2, 3)),
        (column(1, 2, 3), column(0.3, 0.1 + 0.2, 0.3)),
        (column(1, NAN), column(NAN, 1)),
    ],
)
def test_pearson_is_undefined_without_spread(x: Reals, y: Reals) -> None:
    assert pearson(x, y) is None
    assert spearman(x, y) is None


def test_pearson_of_huge_values() -> None:
    assert pearson(column(1e200, 2e200, 3e200), column(1, 2, 3)) == pytest.approx(1.0)


FEW = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=12)


@given(FEW)
def test_pearson_agrees_with_the_standard_library(pairs: list[tuple[int, int]]) -> None:
    x, y = ([float(p[i]) for p in pairs] for i in (0, 1))
    found = pearson(column(*x), column(*y))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(statistics.correlation(x, y), abs=1e-12)


def test_ranks_by_hand() -> None:
    assert ranks(column(10, 20, 20, 5), groups(0, 0, 0, 0)).tolist() == [3.0, 1.5, 1.5, 4.0]
    found = ranks(column(1, 9, 2, NAN, 8, 2), groups(7, 3, 7, 7, 3, 7))
    assert found[[0, 1, 2, 4, 5]].tolist() == [3.0, 1.0, 1.5, 2.0, 1.5]
    assert math.isnan(found[3])
    assert ranks(column(0.3, 0.1 + 0.2), groups(0, 0)).tolist() == [1.5, 1.5]
    assert ranks(column(), groups()).tolist() == []


def slow_rank(values: Sequence[float], value: float) -> float:
    return 1 + sum(v > value for v in values) + (values.count(value) - 1) / 2


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=20))
def test_ranks_agree_with_counting(pairs: list[tuple[int, int]]) -> None:
    found = ranks(column(*(v for v, _ in pairs)), groups(*(g for _, g in pairs)))
    assert found.tolist() == [slow_rank([w for w, h in pairs if h == g], v) for v, g in pairs]


def test_spearman_by_hand() -> None:
    # Without ties 1 - 6 sum d^2 / (n (n^2 - 1)); ranks 4 3 2 1 and 3 4 2 1: d^2 sums to 2
    assert spearman(column(1, 2, 30, 400), column(2, 1, 3, 4)) == pytest.approx(1 - 6 * 2 / (4 * 15))
    assert spearman(column(1, 2, 3), column(1, 10, 100)) == 1.0


def test_spearman_within_groups_is_the_mean_of_those_that_have_one() -> None:
    g = groups(0, 0, 0, 5, 5, 5, 2, 2, 1)
    old = column(1, 2, 3, 1, 2, 3, 1, 1, 4)
    new = column(1, 2, 3, 30, 10, 20, 1, 2, 4)
    # group 0: 1; group 5: ranks 3 2 1 and 1 3 2, d^2 = 4 + 1 + 1: 1 - 6 * 6 / 24 = -0.5; 2 is flat, 1 is alone
    assert spearman_within(old, new, g) == (pytest.approx(0.25), 2)
    assert spearman_within(old[6:], new[6:], g[6:]) == (None, 0)
    assert spearman_within(column(), column(), groups()) == (None, 0)


def test_no_spread_counts_groups_of_two_and_more() -> None:
    g = groups(0, 0, 1, 1, 2, 3, 3)
    assert no_spread(column(1, 1, 1, 2, 5, 3, NAN), g) == (0.5, 2)
    assert no_spread(column(0.3, 0.1 + 0.2), groups(4, 4)) == (1.0, 1)
    assert no_spread(column(1, 2), groups(0, 1)) == (None, 0)
    assert no_spread(column(NAN), groups(0)) == (None, 0)


def test_moves_are_ordered_by_rank_then_by_value() -> None:
    g = groups(0, 0, 0, 1, 1, 1, 2, 2)
    old = column(3, 2, 1, 3, 2, NAN, 1, 2)
    new = column(1, 2, 3, 2, 8, 9, 1, 2)
    found = moves(old, new, g)
    # group 0 turns round (two places each for its ends, both by 2); group 1 swaps one place, by 1 and by 6
    assert found.order.tolist() == [0, 2, 4, 3]
    assert found.old[:5].tolist() == [1.0, 2.0, 3.0, 1.0, 2.0]
    assert found.new[:5].tolist() == [3.0, 2.0, 1.0, 2.0, 1.0]
    assert np.isnan(found.old[5])
    assert np.isnan(found.new[5])
