from typing import Any

import pytest

from mmrl import BadInput
from mmrl_plugins.exact_match import ExactMatch


def value(response: str, reference: Any, **kwargs: Any) -> float:
    score = ExactMatch(**kwargs).compute(response, reference)
    assert score.valid
    return score.value


@pytest.mark.parametrize(("response", "reference", "expected"), [
    (" The  Red\nball ", "the red ball", 1.0), ("STRASSE", "straße", 1.0), ("red", "blue", 0.0), ("", "", 1.0),
    ("", "a", 0.0), ("4", 4, 1.0), ("4.0", 4, 0.0), ("Blue", ["red", "blue"], 1.0), ("red blue", ["red", "blue"], 0.0),
    ("你好", "你好", 1.0), ("a", [None, "a"], 1.0),
])  # fmt: skip
def test_values(response: str, reference: Any, expected: float) -> None:
    assert value(response, reference) == expected


def test_switches_are_independent() -> None:
    assert value("Red", "red", casefold=False) == 0.0
    assert value(" red", "red", strip=False) == 0.0
    assert value(" \n red", " red", strip=False) == 1.0
    assert value("a  b", "a b", collapse=False) == 0.0
    assert value(" a  b\n", "a  b", collapse=False) == 1.0


@pytest.mark.parametrize(("response", "expected"), [
    ("so <answer> Red </answer>.", 1.0), ("red", 0.0), ("<answer>red", 0.0),
    ("<answer>red</answer><answer>blue</answer>", 0.0), ("<answer>blue</answer><answer>red</answer>", 0.0),
    ("</answer>red<answer>", 0.0), ("<answer>red blue</answer>", 0.0), ("<answer><answer>red</answer>", 0.0),
])  # fmt: skip
def test_tag(response: str, expected: float) -> None:
    assert value(response, "red", tag="answer") == expected


def test_a_missing_tag_is_said() -> None:
    assert "0 times <answer>" in ExactMatch(tag="answer").compute("red", "red").info["problem"]


def test_no_reference_is_not_applicable_and_a_wrong_one_is_an_error() -> None:
    for reference in (None, [], [None]):
        assert ExactMatch().compute("a", reference).status == "not_applicable"
    with pytest.raises(TypeError, match="not dict"):
        ExactMatch().compute("a", {"answer": "a"})
    with pytest.raises(BadInput, match="without brackets"):
        ExactMatch(tag="<answer>")
