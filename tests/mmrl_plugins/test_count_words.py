import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl_plugins._count_words import last_count


@pytest.mark.parametrize(("text", "expected"), [
    ("7", 7), ("seven", 7), ("Seven.", 7), ("There are 7 cubes.", 7), ("seven cubes", 7), ("1,234", 1234), ("007", 7),
    ("3.0", 3), ("zero", 0), ("0", 0), ("ten", 10), ("nineteen", 19), ("twenty", 20), ("twenty-one", 21),
    ("Twenty one dogs", 21), ("ninety\nnine", 99), ("a hundred", 100), ("one hundred and five", 105),
    ("two hundred thirty-four", 234), ("two-hundred", 200), ("ninety nine hundred", 9900),
    ("3 red and 2 blue, so 5", 5), ("three and two are 5", 5), ("3 + 2 = five", 5), ("one two three", 3), ("7 or 8", 8),
    ("no", 0), ("There are no keys.", 0), ("none", 0), ("Nothing", 0), ("No, there are 3", 3), ("3, no doubt", 3),
    ("eight", 8), ("eighty", 80), ("<answer>four</answer>", 4), ("\\boxed{4}", 4), ("4kg", 4), ("3rd", 3),
])  # fmt: skip
def test_a_count(text: str, expected: int) -> None:
    assert last_count(text) == (expected, "")


@pytest.mark.parametrize("text", [
    "3.5", "-2", "1/2", "50%", "1e999", "1,2,3", "two thousand", "5 thousand", "a dozen 3 dozen", "two and a half",
    "two thirds", "two point five", "12 hundred", "7 then -7",
])  # fmt: skip
def test_a_number_that_is_no_count(text: str) -> None:
    count, problem = last_count(text)
    assert count is None
    assert "is no count" in problem


@pytest.mark.parametrize("text", [
    "", "someone", "tenth", "often", "hundred", "many", "I have no idea", "no clue", "anyone", "x2", "zwei", "٣", "四",
])  # fmt: skip
def test_no_count(text: str) -> None:
    assert last_count(text) == (None, "the answer names no count")


@given(st.integers(0, 10**9))
def test_every_count_in_digits(number: int) -> None:
    assert last_count(f"1 {number:,}!") == last_count(str(number)) == (number, "")


@given(st.one_of(st.text(max_size=60), st.text("onetw hundred-y1.,", max_size=60)))
def test_any_text_gives_a_whole_count_or_says_why_not(text: str) -> None:
    count, problem = last_count(text)
    assert (count is None) == bool(problem)
    assert count is None or (count >= 0 and count.is_integer())


def test_long_hostile_text_is_no_trouble() -> None:
    for piece in ("one hundred and ", "twenty-", "a hundred ", "no ", "1,", "one", " ", "ninety ninety-"):
        last_count(piece * 50_000)
