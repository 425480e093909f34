import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl import BadInput
from mmrl_plugins._text import last_number, only_number
from mmrl_plugins.relaxed_accuracy import RelaxedAccuracy


def value(response: str, reference: Any, **kwargs: Any) -> float:
    score = RelaxedAccuracy(**kwargs).compute(response, reference)
    assert score.valid
    return score.value


@pytest.mark.parametrize(("response", "reference", "expected"), [
    ("105", "100", 1.0), ("95", "100", 1.0),  # 5 of 100 is 5%
    ("105.1", "100", 0.0), ("94.9", "100", 0.0),
    ("100", "105", 1.0),  # 5 of 105 is 4.8%
    ("100", "95", 0.0),  # 5 of 95 is 5.3%: it is relative to the reference
    ("2.1", "2", 1.0),  # 5%, though 2.1 - 2 is a little more than 0.1 in floating point
    ("0.95", "1", 1.0), ("2.11", "2", 0.0), ("-95", "-100", 1.0), ("95", "-100", 0.0), ("-0.1", "0.1", 0.0),
    ("0", "0", 1.0), ("0.0", "0", 1.0), ("0.001", "0", 0.0),
    ("1950", "2000", 1.0), ("1890", "2000", 0.0),  # years are numbers: 2.5% and 5.5%
    ("1,234", "1234", 1.0), ("$5", "5", 1.0), ("1e3", "1000", 1.0), ("3/4", "0.75", 1.0), (" 42 \n", 42, 1.0),
    ("42.", "42", 1.0), ("−3", "-3", 1.0),
    ("50%", "50%", 1.0), ("52%", "50%", 1.0), ("53%", "50%", 0.0), ("0.5", "50%", 1.0), ("50%", "50", 0.0),
    ("United  States", "united states", 1.0), ("STRASSE", "straße", 1.0), ("USA", "United States", 0.0),
    ("Yes", "yes", 1.0), ("", "", 1.0), ("", "5", 0.0),
    ("about 100", "100", 0.0), ("100 kg", "100", 0.0), ("100 101", "100", 0.0),  # a number and nothing else
    ("42", "forty-two", 0.0), ("1,2,3", "1,2,3", 1.0), ("1,2,3", "123", 0.0),
    ("nan", "nan", 1.0), ("inf", "5", 0.0), ("1e999", "5", 0.0),
    ("10", ["5", "10.2"], 1.0), ("blue", ["red", "Blue"], 1.0), ("5", [{"answer": "5.1"}], 1.0),
])  # fmt: skip
def test_values(response: str, reference: Any, expected: float) -> None:
    assert value(response, reference) == expected


def test_the_mean_over_questions_by_hand() -> None:
    # 3% off, 4.99% off, 6% off, the right word, the wrong word: 3 of 5
    answers = [("103", "100"), ("0.9501", "1"), ("10.6", "10"), ("Asia", "asia"), ("Asia", "Africa")]
    assert sum(value(said, right) for said, right in answers) / 5 == 0.6


def test_tolerance() -> None:
    assert value("100.5", "100", tolerance=0.0) == 0.0
    assert value("1e2", "100", tolerance=0.0) == 1.0
    assert value("120", "100", tolerance=0.2) == 1.0
    for tolerance in (-0.1, 1.0, math.inf, math.nan, True, "5%"):
        with pytest.raises(BadInput, match="tolerance is a number in"):
            RelaxedAccuracy(tolerance=tolerance)


def test_percent_signs_can_be_ignored() -> None:
    assert value("50%", "50", percent="ignored") == 1.0
    assert value("51", "50 %", percent="ignored") == 1.0
    assert value("50%", "0.5", percent="ignored") == 0.0
    with pytest.raises(BadInput, match="percent is one of hundredth, ignored, not 'kept'"):
        value("5", "5", percent="kept")


def test_tag() -> None:
    assert value("so <answer>103</answer>", "100", tag="answer") == 1.0
    assert value("<answer>100</answer><answer>90</answer>", "100", tag="answer") == 0.0
    with pytest.raises(BadInput, match="without brackets"):
        RelaxedAccuracy(tag="<answer>")


def test_info_and_references() -> None:
    assert RelaxedAccuracy().compute("1,234", "x").info == {"number": 1234.0}
    assert RelaxedAccuracy().compute("Asia", "x").info == {"answer": "Asia"}
    for reference in (None, [], [None]):
        assert RelaxedAccuracy().compute("a", reference).status == "not_applicable"
    with pytest.raises(TypeError, match="has the key 'answer'"):
        RelaxedAccuracy().compute("a", {"label": "a"})


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_near_itself_however_large(number: float) -> None:
    assert only_number(f" {number!r} ") == number
    assert value(repr(number), repr(number)) == value(repr(number), number) == 1.0


@given(st.one_of(st.text(max_size=30), st.text("0123456789.,/%eE+-$ x", max_size=20)))
def test_a_text_that_is_a_number_ends_in_it(text: str) -> None:
    number = only_number(text)
    assert number is None or number == last_number(text)
    assert value(text, text) == 1.0


def test_long_hostile_text_is_no_trouble() -> None:
    for piece in ("1", "1,", "1,111,", "1.", "1/", "-", "$", "1e", " ", "%"):
        assert value(piece * 50_000 + "x", "5") == 0.0
