from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl import BadInput
from mmrl_plugins.vqa_accuracy import VqaAccuracy


def value(response: str, reference: Any, **kwargs: Any) -> float:
    score = VqaAccuracy(**kwargs).compute(response, reference)
    assert score.valid
    return score.value


TEN = ["red"] * 2 + ["dark red"] + ["maroon"] * 7


@pytest.mark.parametrize(("response", "reference", "expected"), [
    ("red", "red", 1.0), ("The Red.", "red", 1.0), ("two", 2, 1.0), ("red ball", "red", 0.0), ("", "red", 0.0),
    ("maroon", TEN, 1.0), ("Red", TEN, 0.6), ("dark red", TEN, 0.3), ("blue", TEN, 0.0),
    ("red", [{"answer": text, "answer_id": i} for i, text in enumerate(TEN)], 0.6), ("red", {"answer": "red"}, 1.0),
    ("red", ["red"], 1.0), ("red", [None, "red"], 1.0), ("red", ["red", "blue"], 1 / 6), ("red", ["red"] * 3, 2 / 3),
])  # fmt: skip
def test_values(response: str, reference: Any, expected: float) -> None:
    assert value(response, reference) == pytest.approx(expected, abs=1e-12)


def test_lists_of_alternatives() -> None:
    assert value("red", ["blue", "Red"], lists="alternatives") == 1.0
    assert value("red", ["blue", "green"], lists="alternatives") == 0.0
    assert value("red", TEN, lists="alternatives") == 1.0
    with pytest.raises(BadInput, match="lists is one of annotators, alternatives, not 'people'"):
        value("red", "red", lists="people")


def test_tag() -> None:
    assert value("It is <answer>red</answer>.", "red", tag="answer") == 1.0
    assert value("<answer>red</answer><answer>blue</answer>", "red", tag="answer") == 0.0
    assert "0 times <answer>" in VqaAccuracy(tag="answer").compute("red", "red").info["problem"]
    with pytest.raises(BadInput, match="without brackets"):
        VqaAccuracy(tag="<answer>")


def test_info_and_references() -> None:
    assert VqaAccuracy().compute("The two dogs.", "2 dogs").info == {"answer": "2 dogs"}
    for reference in (None, [], [None]):
        assert VqaAccuracy().compute("a", reference).status == "not_applicable"
    with pytest.raises(TypeError, match="has the key 'answer', not nothing"):
        VqaAccuracy().compute("a", [{}])
    with pytest.raises(TypeError, match="text or a number, or a list of them, not list"):
        VqaAccuracy().compute("a", [["a"]])


@given(st.text(max_size=60), st.lists(st.text(max_size=20), min_size=1, max_size=11))
def test_any_text_is_within_range_and_alternatives_are_kinder(response: str, reference: list[str]) -> None:
    assert 0.0 <= value(response, reference) <= value(response, reference, lists="alternatives") <= 1.0
