from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl import BadInput
from mmrl_plugins.anls import Anls, similarity


def value(response: str, reference: Any, **kwargs: Any) -> float:
    score = Anls(**kwargs).compute(response, reference)
    assert score.valid
    return score.value


@pytest.mark.parametrize(("response", "reference", "expected"), [
    ("invoice 42", "invoice 42", 1.0),
    ("Invoice  42\n", "invoice 42", 1.0),  # case and the amount of white space do not count
    ("1930", "1980", 0.75),  # 1 of 4 characters
    ("colour", "color", 5 / 6),  # one letter more; the longer text has 6
    ("kitten", "sitting", 4 / 7),  # 3 edits, 7 characters: NL = 0.43
    ("sunday", "saturday", 5 / 8),  # 3 edits, 8 characters
    ("ab", "ax", 0.0),  # NL = 0.5 is not below 0.5
    ("abc", "abx", 2 / 3),  # NL = 1/3
    ("cat", "dog", 0.0),
    ("the answer is cat", "cat", 0.0),  # 14 edits, 17 characters
    ("", "cat", 0.0), ("cat", "", 0.0), ("", "", 1.0), (" ", "", 1.0),
    ("3", 3, 1.0), ("你好吗", "你好", 2 / 3),
    # the best of several: "colour" has NL = 1/6 from "color" and 0 from "colour"
    ("colour", ["color", "colour", "hue"], 1.0), ("colou", ["color", "hue"], 0.8), ("x", ["a", "b"], 0.0),
    ("cat", [{"answer": "car"}, {"answer": "cat"}], 1.0), ("cat", {"answer": "car"}, 2 / 3), ("a", [None, "a"], 1.0),
])  # fmt: skip
def test_values(response: str, reference: Any, expected: float) -> None:
    assert value(response, reference) == pytest.approx(expected, abs=1e-12)


def test_the_mean_over_questions_by_hand() -> None:
    # four questions: right (1), one of five letters wrong (0.8), NL = 2/4 (0), nothing said (0): ANLS = 1.8 / 4
    answers = [("total", "Total"), ("toral", "total"), ("tots", "toal"), ("", "total")]
    assert sum(value(said, right) for said, right in answers) / 4 == pytest.approx(0.45, abs=1e-12)


def test_threshold() -> None:
    assert value("ab", "ax", threshold=0.51) == 0.5
    assert value("abcd", "abcx", threshold=0.25) == 0.0
    assert value("abcde", "abcdx", threshold=0.25) == 0.8
    assert value("ab", "xy", threshold=1.0) == 0.0
    for threshold in (0.0, -0.5, 1.5, float("nan"), True, "big"):
        with pytest.raises(BadInput, match="threshold is a number above 0"):
            Anls(threshold=threshold)


def test_tag() -> None:
    assert value("so <answer>1980</answer>", "1980", tag="answer") == 1.0
    assert value("1980", "1980", tag="answer") == 0.0
    with pytest.raises(BadInput, match="without brackets"):
        Anls(tag="<answer>")


def test_info_and_references() -> None:
    assert Anls().compute("colou", ["hue", "color"]).info == {"best": "color"}
    for reference in (None, [], [None]):
        assert Anls().compute("a", reference).status == "not_applicable"
    with pytest.raises(TypeError, match="has the key 'answer', not text"):
        Anls().compute("a", [{"text": "a"}])


@given(st.text(max_size=20), st.text(max_size=20))
def test_symmetric_and_within_range(one: str, other: str) -> None:
    assert similarity(one, other) == similarity(other, one)
    assert similarity(one, other) == 0.0 or 0.5 < similarity(one, other) <= 1.0
    assert similarity(one, one) == 1.0


def test_long_hostile_text_is_no_trouble() -> None:
    assert value("a" * 1_000_000, "answer") == 0.0
    assert value("a" * 20_000 + "b", "a" * 20_000) == pytest.approx(20_000 / 20_001)
