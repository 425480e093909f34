import re
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl import BadInput
from mmrl_plugins.f1 import TokenF1, squad_words


def value(response: str, reference: Any, **kwargs: Any) -> float:
    return TokenF1(**kwargs).compute(response, reference).value


@pytest.mark.parametrize(("response", "reference", "expected"), [
    ("The red ball.", "a red ball", 1.0), ("red", "the red ball", 2 / 3), ("blue", "red", 0.0), ("", "", 1.0),
    ("the", "a", 1.0), ("", "red", 0.0), ("red", "", 0.0), ("red red", "red", 2 / 3), ("U.S.", "us", 1.0),
    ("red ball", ["blue", "ball", "red ball now"], 0.8), ("4", 4, 1.0), ("你好世界", "你好", 2 / 3),
    ("Łódź", "łódź", 1.0), ("a b c d e f", "b", 1 / 3), ("red", [None, "red"], 1.0),
])  # fmt: skip
def test_values(response: str, reference: Any, expected: float) -> None:
    assert value(response, reference) == pytest.approx(expected, abs=1e-12)


def test_the_best_reference_is_told() -> None:
    assert TokenF1().compute("red ball", ["blue", "red"]).info == {"best": "red"}


def test_tag() -> None:
    assert value("blue <answer>red</answer>", "red", tag="answer") == 1.0
    assert value("<answer>red</answer><answer>red</answer>", "red", tag="answer") == 0.0
    with pytest.raises(BadInput):
        TokenF1(tag="<answer>")


def test_no_reference_is_not_applicable() -> None:
    for reference in ([], [None]):
        assert TokenF1().compute("a", reference).status == "not_applicable"
    with pytest.raises(TypeError, match="not dict"):
        TokenF1().compute("a", {})


@given(st.text(st.sampled_from(string.ascii_letters + string.digits + string.punctuation + " \n"), max_size=60))
def test_ascii_words_are_squad_s(text: str) -> None:
    plain = "".join(c for c in text.lower() if c not in string.punctuation)
    assert squad_words(text) == re.sub(r"\b(a|an|the)\b", " ", plain).split()


@given(st.text(max_size=30), st.text(max_size=30))
def test_symmetric_and_within_range(a: str, b: str) -> None:
    assert 0.0 <= value(a, b) == value(b, a) <= 1.0
    assert value(a, a) == 1.0
