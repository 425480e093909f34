import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl_plugins._levenshtein import edit_distance


@pytest.mark.parametrize(("one", "other", "expected"), [
    ("", "", 0), ("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("abc", "abd", 1), ("abc", "ab", 1),
    ("abc", "xabc", 1), ("kitten", "sitting", 3), ("saturday", "sunday", 3), ("flaw", "lawn", 2), ("ab", "ba", 2),
    ("abc", "xyz", 3), ("łódź", "lodz", 3), ("你好", "你们好", 1),
])  # fmt: skip
def test_known_distances(one: str, other: str, expected: int) -> None:
    assert edit_distance(one, other) == expected


def by_table(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        above, row = row, [i]
        for j, b in enumerate(other, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b)))
    return row[-1]


TEXT = st.one_of(st.text("abc", max_size=20), st.text("ab", min_size=60, max_size=140), st.text(max_size=20))


@given(TEXT, TEXT)
def test_the_table_says_the_same(one: str, other: str) -> None:
    assert edit_distance(one, other) == by_table(one, other) == edit_distance(other, one)
