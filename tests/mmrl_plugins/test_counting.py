from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl import BadInput
from mmrl_plugins.counting import Counting, nearness


def value(response: str, reference: Any, **kwargs: Any) -> float:
    score = Counting(**kwargs).compute(response, reference)
    assert score.valid
    return score.value


@pytest.mark.parametrize(("response", "reference", "expected"), [
    ("There are three.", 3, 1.0), ("3", "three", 1.0), ("3", 3.0, 1.0), ("3", 4, 0.0), ("none", 0, 1.0),
    ("none", 1, 0.0),
    ("1 2 3 4", 4, 1.0), ("1 2 3 4", 3, 0.0), ("many", 3, 0.0), ("3.5", 3, 0.0), ("3", [4, 3], 1.0),
    ("3", [{"answer": "2"}, {"answer": "3"}], 1.0), ("3", ["red", 3], 1.0),
])  # fmt: skip
def test_exact(response: str, reference: Any, expected: float) -> None:
    assert value(response, reference) == expected


@pytest.mark.parametrize(("response", "reference", "expected"), [
    ("4", 4, 1.0), ("3", 4, 0.75), ("5", 4, 0.75), ("2", 4, 0.5), ("8", 4, 0.0), ("100", 4, 0.0), ("0", 4, 0.0),
    ("0", 0, 1.0), ("1", 0, 0.0), ("2", 1, 0.0), ("9", 10, 0.9), ("9", [10, 12], 0.9), ("many", 4, 0.0),
])  # fmt: skip
def test_graded(response: str, reference: Any, expected: float) -> None:
    assert value(response, reference, graded=True) == pytest.approx(expected, abs=1e-12)


def test_info_and_references() -> None:
    assert Counting().compute("seven", 7).info == {"count": 7.0}
    assert Counting().compute("many", 7).info == {"problem": "the answer names no count"}
    for reference in (None, [], "red", -1, 2.5, ["red", None], "1/2"):
        assert Counting().compute("3", reference).status == "not_applicable"
    with pytest.raises(TypeError, match="has the key 'answer'"):
        Counting().compute("3", {"count": 3})


def test_arguments() -> None:
    assert value("2 or <answer>3</answer>, not 4", 3, tag="answer") == 1.0
    assert value("3", 3, tag="answer") == 0.0
    with pytest.raises(BadInput, match="without brackets"):
        Counting(tag="<answer>")
    with pytest.raises(BadInput, match="graded is true or false, not 'yes'"):
        value("3", 3, graded="yes")


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_nearness_is_1_for_the_same_only(count: int, reference: int) -> None:
    assert 0.0 <= nearness(count, reference) <= 1.0
    assert (nearness(count, reference) == 1.0) == (count == reference)


@given(st.text(max_size=40))
def test_any_text_is_within_range(text: str) -> None:
    assert 0.0 <= value(text, 4) <= value(text, 4, graded=True) <= 1.0
