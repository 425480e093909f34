from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl_plugins._windows import by_words, spans


@pytest.mark.parametrize(("length", "size", "overlap", "expected"), [
    (0, 4, 1, [(0, 0)]), (3, 4, 1, [(0, 3)]), (4, 4, 1, [(0, 4)]), (5, 4, 1, [(0, 4), (3, 5)]),
    (10, 4, 1, [(0, 4), (3, 7), (6, 10)]), (6, 2, 0, [(0, 2), (2, 4), (4, 6)]),
])  # fmt: skip
def test_spans(length: int, size: int, overlap: int, expected: list[tuple[int, int]]) -> None:
    assert spans(length, size, overlap) == expected


@given(st.integers(0, 300), st.integers(1, 40), st.data())
def test_spans_cover_everything_and_share_the_overlap(length: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    found = spans(length, size, overlap)
    assert found[0][0] == 0
    assert found[-1][1] == length
    assert all(b - a <= size for a, b in found)
    assert all(second[0] == first[1] - overlap for first, second in pairwise(found))


def test_words() -> None:
    assert by_words("  a  bb c\nd ", 10, 2) == ["  a  bb c\nd "]
    assert by_words("  a  bb c\nd ", 2, 1) == ["a  bb", "bb c", "c\nd"]
    assert by_words("", 2, 1) == [""]
