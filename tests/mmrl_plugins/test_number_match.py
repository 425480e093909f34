import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmrl import BadInput
from mmrl_plugins._text import last_number
from mmrl_plugins.number_match import NumberMatch


@pytest.mark.parametrize(("text", "expected"), [
    ("The answer is 42.", 42.0), ("1,234.5", 1234.5), ("1,234,567", 1234567.0), ("-3", -3.0), ("−3", -3.0),
    ("x=-3", -3.0), ("5-3", 3.0), ("(5)-3", 3.0), ("+7", 7.0), ("1e-3", 0.001), ("1.5E+2", 150.0), (".5", 0.5),
    ("3/4", 0.75), ("-3/4", -0.75), ("1,000/8", 125.0), ("50%", 0.5), ("50 %", 0.5), ("12.5%", 0.125), ("$5", 5.0),
    ("-$1,200.50", -1200.5), ("€3", 3.0), ("3 + 4 = 7", 7.0), ("<answer>7</answer>", 7.0), ("7, I think", 7.0),
    ("5kg", 5.0), ("12 km^2", 12.0), ("x2", None), ("", None), ("none", None), ("-", None), (".", None),
    ("1,2,3", None), ("42 or 1,2,3", None), ("1.2.3", None), ("1/0", None), ("1/2/3", None), ("12,34", None),
    ("1234,567", None), ("1e999", None), ("1" * 400, None), ("2e5e7", None), ("007", 7.0), ("٣", None),
    ("7 or 8", 8.0), ("1 2 3 4 5 6", 6.0), ("2.5.", 2.5), ("2..", 2.0), ("1/4.", 0.25),
])  # fmt: skip
def test_last_number(text: str, expected: float | None) -> None:
    assert last_number(text) == expected


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
@example(-0.0)
@example(1e22)
@example(5e-324)
def test_every_float_is_read_as_python_writes_it(number: float) -> None:
    for text in (repr(number), f"It is {number!r}.", f"1 2 3\n{number!r}\nso"):
        assert last_number(text) == number


@settings(deadline=None)
@given(st.integers(-(10**15), 10**15))
def test_every_integer_is_read_with_thousands_separators(number: int) -> None:
    assert last_number(f"about {number:,}!") == number
    assert last_number(f"{number}".replace("-", "−")) == number


@settings(deadline=None)
@given(st.integers(-1000, 1000), st.integers(1, 1000))
def test_every_fraction_is_read(above: int, below: int) -> None:
    assert last_number(f"{above}/{below}") == above / below


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789.,/%eE+-−$ x\n٣", max_size=60))
def test_any_text_gives_a_finite_number_or_none(text: str) -> None:
    number = last_number(text)
    assert number is None or math.isfinite(number)


PIECES = ["1", "1,", "1,111,", "1.", "1/", "1e1", "-", "$", "1%", "1 ", ".1", ",", "1e-", "x1"]


@pytest.mark.parametrize("piece", PIECES)
def test_long_hostile_text_is_no_trouble(piece: str) -> None:
    # A backtracking expression would not come back from these within the lifetime of the machine.
    for tail in ("", "x", "!", ",", "e"):
        last_number(piece * 50_000 + tail)


def value(response: str, reference: Any, **kwargs: Any) -> float:
    score = NumberMatch(**kwargs).compute(response, reference)
    assert score.valid
    return score.value


def test_match() -> None:
    assert value("so it is 1,234.50", 1234.5) == 1.0
    assert value("50%", 0.5) == 1.0
    assert value("50%", 50) == 0.0
    assert value("50%", "50%") == 1.0
    assert value("1/3", 1 / 3) == 1.0
    assert value("0.333", 1 / 3) == 0.0
    assert value("12345678", 12345679) == 0.0
    assert value("18", "so 9 + 9\n#### 18") == 1.0
    assert value("8", [7, 8]) == 1.0
    assert value("no idea", 7) == 0.0


def test_listing_many_numbers_gains_nothing() -> None:
    assert value("7 8 9", 7) == 0.0
    assert value("7, 8, 9", 8) == 0.0
    assert value("1,2,3,7", 7) == 0.0
    assert value("7/8/9", 7) == 0.0


def test_tolerances() -> None:
    assert value("101", 100, rel_tol=0.01) == 1.0
    assert value("102", 100, rel_tol=0.01) == 0.0
    assert value("1000000000", 1, rel_tol=0.99) == 0.0
    assert value("3.4", 3, abs_tol=0.5) == 1.0
    assert value("0", 0) == 1.0
    for kwargs in ({"rel_tol": 1.0}, {"rel_tol": -0.1}, {"abs_tol": -1.0}, {"abs_tol": math.inf}):
        with pytest.raises(BadInput):
            NumberMatch(**kwargs)


def test_without_a_numeric_reference_it_does_not_apply() -> None:
    for reference in (None, [], "blue", {"a": 1}, True, math.nan, ["red", None]):
        assert NumberMatch().compute("3", reference).status == "not_applicable"
