import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl_plugins._statement import read_number, read_statement


@pytest.mark.parametrize(("written", "expected"), [
    ("330", [{330.0}]), ("8,849", [{8849.0, 8.849}]), ("8.849", [{8849.0, 8.849}]), ("3.75", [{3.75}]),
    ("3,7", [{3.7}]), ("0.125", [{0.125}]), ("1,234,567", [{1234567.0}]), ("1.234.567", [{1234567.0}]),
    ("1,234.5", [{1234.5}]), ("1.234,5", [{1234.5}]), ("1'234", [{1234.0}]), ("1\u202f234", [{1234.0}]),
    ("12.5.2001", [{12.0}, {5.0}, {2001.0}]), ("-40", [{-40.0}]), ("minus 40", [{-40.0}]), ("٣٣٠", [{330.0}]),
])  # fmt: skip
def test_read_number(written: str, expected: list[set[float]]) -> None:
    assert list(read_number(written)) == expected


@pytest.mark.parametrize(("text", "expected"), [
    ("It is 3.7 million or 2 hundred.", [3.7e6, 200.0]), ("3,7 Millionen", [3.7e6]), ("人口370万", [3.7e6]),
    ("eight legs, drei Beine, dos ojos", [8.0, 3.0, 2.0]), ("at -40 degrees, 5-3", [-40.0, 5.0, 3.0]),
    ("CO2 and H2O", []), ("the 19th century", [19.0]), ("３３０米", [330.0]), ("one of them", []),
])  # fmt: skip
def test_numbers(text: str, expected: list[float]) -> None:
    assert [max(n) for n in read_statement(text).numbers] == expected


@pytest.mark.parametrize(("text", "expected"), [
    ("The Eiffel Tower stands in Paris.", [("Eiffel", "Tower"), ("Paris",)]),
    ("France's capital is Paris.", [("France",), ("Paris",)]), ("J. S. Bach wrote it.", [("J", "S", "Bach")]),
    ("Was Guido van Rossum born in Haarlem?", [("Guido",), ("Rossum",), ("Haarlem",)]),
    ("巴黎是法国的首都", []), ("Москва - столица России", [("Москва",), ("России",)]), ("It is not so.", []),
])  # fmt: skip
def test_names(text: str, expected: list[tuple[str, ...]]) -> None:
    assert list(read_statement(text).names) == expected


def test_words_without_the_small_ones() -> None:
    assert read_statement("The human heart has about four chambers.").words == ("human", "heart", "chambers")
    assert read_statement("水在100度沸腾").words == ("水", "度", "沸", "腾")
    assert read_statement("La capitale de la France est grande.").words == ("capitale", "grande")


@pytest.mark.parametrize(("text", "negated"), [
    ("Penguins cannot fly.", True), ("It doesn't matter.", True), ("It isn’t red.", True), ("It is red.", False),
    ("Wale sind keine Fische.", True), ("Il ne pleut pas.", True), ("企鹅不会飞", True), ("企鹅会飞", False),
    ("Not only birds fly.", True), ("They not only fly, they sing.", False),
])  # fmt: skip
def test_negation(text: str, negated: bool) -> None:
    assert read_statement(text).negated is negated


def test_marks_of_numbers() -> None:
    assert read_statement("about 300,000 km").rounded
    assert read_statement("~300 km").rounded
    assert not read_statement("300 km").rounded
    assert read_statement("more than 300 km").bounded
    assert not read_statement("300 km").bounded


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    found = read_statement(text)
    assert all(found.names) if found.names else True
    assert all(number for number in found.numbers)
