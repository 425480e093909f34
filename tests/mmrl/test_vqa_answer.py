import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.vqa_answer import ARTICLES, CONTRACTIONS, NUMBER_WORDS, PUNCTUATION, normalise_answer, vqa_score

RULES = [
    ("lower case", "YES", "yes"),
    ("lower case", "Coca Cola", "coca cola"),
    ("lower case, before contractions", "DONT", "don't"),
    ("line breaks become blanks", "red\nball", "red ball"),
    ("line breaks become blanks, so a mark beside one is deleted", "red-\nball", "red ball"),
    ("tabs become blanks", "red\tball", "red ball"),
    ("strip", "  red  ", "red"),
    ("strip, before marks are looked at", "red- ", "red"),
    ("several blanks become one", "red   ball", "red ball"),
    ("a mark between letters becomes a blank", "red/blue", "red blue"),
    ("a mark between letters becomes a blank", "t-shirt", "t shirt"),
    ("a mark between letters becomes a blank", "up_down", "up down"),
    ("a mark at the end becomes a blank and is stripped", "red!", "red"),
    ("a mark at the end becomes a blank and is stripped", "really?", "really"),
    ("a mark beside a blank is deleted", "red, blue", "red blue"),
    ("a mark beside a blank is deleted", "black - white", "black white"),
    ("a mark beside a blank is deleted everywhere", "t-shirt - red", "tshirt red"),
    ("a mark beside a blank is deleted, and only that mark", "t-shirt; a/b c", "t shirt b c"),
    ("brackets are marks", "(red) [ball] {x}", "red ball x"),
    ("quotation marks are marks", 'it says "stop"', "it says stop"),
    ("a backslash is a mark", "a\\b", "b"),
    ("plus, equals, more and less are marks", "b+c=d<e>f", "b c d e f"),
    ("at and backtick are marks", "me@here`s", "me here s"),
    ("a comma in a number is deleted", "1,000", "1000"),
    ("a comma in a number is deleted", "1,234,567", "1234567"),
    ("a comma in a number: then every mark is deleted", "1,000-2,000", "10002000"),
    ("a comma between words is none in a number", "red,blue", "red blue"),
    ("a comma between a digit and a letter is none in a number", "2,b", "2 b"),
    ("a full stop at the end is deleted", "red.", "red"),
    ("a full stop in an abbreviation is deleted", "U.S.A.", "usa"),
    ("a full stop before a digit stays", "3.5", "3.5"),
    ("a full stop before a digit stays", ".5", ".5"),
    ("a full stop between a letter and a digit stays", "v2.0", "v2.0"),
    ("a full stop after a number is deleted", "3.", "3"),
    ("all full stops go, however many", "." * 40 + "red", "red"),
    ("apostrophes, colons, percent and dollar signs stay", "it's 10:30 50% $5", "it's 10:30 50% $5"),
    ("a number word becomes a digit", "two", "2"),
    ("a number word becomes a digit, in any case", "Ten dogs", "10 dogs"),
    ("zero", "zero", "0"),
    ("none is 0", "none", "0"),
    ("a number word after punctuation", "two.", "2"),
    ("a number word within a word stays", "someone often", "someone often"),
    ("eleven stays", "eleven", "eleven"),
    ("articles are dropped", "a dog", "dog"),
    ("articles are dropped", "an apple on the table", "apple on table"),
    ("articles are dropped, in any case", "The Dog", "dog"),
    ("an article within a word stays", "theatre an", "theatre"),
    ("an article alone leaves nothing", "the", ""),
    ("a forgotten apostrophe is put back", "dont", "don't"),
    ("a forgotten apostrophe is put back", "its whats that oclock", "its what's that o'clock"),
    ("one of two apostrophes is put back", "couldnt've couldn'tve", "couldn't've couldn't've"),
    ("one of three apostrophes is put back", "ow's'at y'alld've", "'ow's'at y'all'd've"),
    ("a right contraction stays", "isn't", "isn't"),
    ("somebody'd loses its apostrophe", "somebody'd", "somebodyd"),
    ("well, ill, were, id are words and no contractions", "well ill were id", "well ill were id"),
    ("nothing stays nothing", "", ""),
    ("other languages stay", "Das Haus ist ROT.", "das haus ist rot"),
    ("other languages stay", "赤い、家", "赤い、家"),
]


@pytest.mark.parametrize(("rule", "text", "expected"), RULES, ids=[f"{r}: {t[:20]!r}" for r, t, _ in RULES])
def test_rule(rule: str, text: str, expected: str) -> None:
    assert normalise_answer(text) == expected, rule


def test_tables() -> None:
    assert len(CONTRACTIONS) == 114
    assert {wrong.replace("'", "") for wrong in CONTRACTIONS} == {r.replace("'", "") for r in CONTRACTIONS.values()}
    assert len(NUMBER_WORDS) == 12
    assert len(set(PUNCTUATION)) == 21


@pytest.mark.parametrize(("equal", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0), (10, 1.0)])
def test_ten_annotators(equal: int, expected: float) -> None:
    assert vqa_score("red", ["red"] * equal + ["blue"] * (10 - equal)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("annotators", "expected"), [
    (["red", "blue"], 1 / 6), (["red", "red"], 1 / 3), (["red"] * 3, 2 / 3), (["red"] * 4, 1.0),
    (["red", "red", "blue"], 4 / 9), (["red", "blue", "green"], 2 / 9),
])  # fmt: skip
def test_few_annotators_cannot_give_all(annotators: list[str], expected: float) -> None:
    # m of n: (m (m-1)/3 + (n-m) m/3) / n while m <= 3 = m (n-1) / (3 n)
    assert vqa_score("red", annotators) == pytest.approx(expected, abs=1e-12)


def test_one_annotator_is_a_plain_reference() -> None:
    assert vqa_score("The red ball.", ["red ball"]) == 1.0
    assert vqa_score("red", ["red ball"]) == 0.0


def test_both_sides_are_normalised_even_if_all_annotators_agree() -> None:
    # The script compares a unanimous "Yes" with the answer as it is, so that "yes" would get 0.
    assert vqa_score("yes.", ["Yes"] * 10) == 1.0
    assert vqa_score("Two", ["2", "two", "two dogs", "a 2", "2"] * 2) == 1.0


def test_what_normalises_to_nothing_is_compared_as_it_was() -> None:
    assert vqa_score("A", ["a"]) == 1.0
    assert vqa_score("a.", ["a"] * 10) == 1.0
    assert [vqa_score(text, ["a"]) for text in ("", " ", ".", "the", "an")] == [0.0] * 5
    assert vqa_score("?", ["?"]) == 1.0
    assert vqa_score("!", ["?"]) == 0.0
    assert vqa_score(" ", [""]) == 1.0


def test_an_empty_answer_is_right_for_nobody() -> None:
    for reference in ("the", "a", "?", "...", "red", "-"):
        assert vqa_score("", [reference]) == 0.0


def test_annotators_are_a_list_of_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least one"):
        vqa_score("red", [])
    with pytest.raises(TypeError, match="not the text 'red'"):
        vqa_score("red", "red")


@settings(deadline=None)
@given(st.text(max_size=40), st.lists(st.text(max_size=10), min_size=1, max_size=12))
def test_any_text_scores_within_bounds_whatever_the_order(answer: str, annotators: list[str]) -> None:
    value = vqa_score(answer, annotators)
    assert 0.0 <= value <= 1.0
    assert value == vqa_score(answer, annotators[::-1])
    assert vqa_score(answer, [answer]) == 1.0


SOME = ["red", "3.5", "1,000", "U.S."]
WORDS = st.sampled_from([*CONTRACTIONS, *CONTRACTIONS.values(), *NUMBER_WORDS, *ARTICLES, *SOME])


@given(st.lists(st.one_of(WORDS, st.sampled_from([*PUNCTUATION, ".", "\n", "\t", " "])), max_size=8))
def test_what_a_normalised_answer_has_and_has_not(parts: list[str]) -> None:
    text = normalise_answer("".join(parts))
    assert text == text.lower() == " ".join(text.split())
    assert not set(text) & set(PUNCTUATION)
    assert not set(text.split()) & (ARTICLES | set(NUMBER_WORDS))


def test_long_hostile_text_is_no_trouble() -> None:
    for piece in ("1,", ". ", "-", "a ", "dont ", "\n", "'", "1.", "none"):
        normalise_answer(piece * 50_000)
