import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl_envs.vqa_grade import Question, complaint, grade, is_right, listing, named, right_letter

CHOICES = ("Paris", "the Hague", "A", "10")
TEN = Question("?", ("red",) * 5 + ("dark red",) * 3 + ("pink", "Red."))


@pytest.mark.parametrize(("answer", "letter"), [
    ("B", "B"), (" b. ", "B"), ("(c)", "C"), ("**D**", "D"), ("[a]", "A"), ("B:", "B"),
    ("Paris", "A"), ("paris.", "A"), ("Hague", "B"), ("ten", "D"), ("A. Paris", "A"), ("(b) The Hague", "B"),
    ("A", "A"),  # a letter goes before the text of a choice
    ("B. Paris", None), ("A. Hague", None), ("A 10", "D"), ("E", None),
    ("E. Paris", None), ("Paris or the Hague", None), ("", None), ("9", None),
    ("The answer is B", None),
])  # fmt: skip
def test_the_choice_that_an_answer_names(answer: str, letter: str | None) -> None:
    assert named(answer, CHOICES) == letter
    question = Question("?", ("B",), CHOICES)
    assert grade(question, answer) == float(letter == "B")
    assert bool(complaint(question, answer)) == (letter is None)


@pytest.mark.parametrize(("answer", "letter"), [
    ("b", "B"), ("Paris", "A"), (0, "A"), (3, "D"), ("2", "C"), ("10", "D"), (4, None), (-1, None), ("Rome", None),
])  # fmt: skip
def test_the_choice_that_a_row_means(answer: str | int, letter: str | None) -> None:
    assert right_letter(answer, CHOICES) == letter


def test_choices_that_normalise_alike_are_named_by_letter_or_letter_for_letter() -> None:
    assert named("the cat", ("a cat", "cat")) is None
    assert named("cat", ("a cat", "cat")) == "B"
    assert named("A", ("a cat", "cat")) == "A"


def test_one_answer_several_annotators_and_alternatives() -> None:
    one = Question("?", ("two",))
    assert [grade(one, answer) for answer in ("2", " Two. ", "three", "")] == [1.0, 1.0, 0.0, 0.0]
    assert [is_right(one, score) for score in (1.0, 0.9)] == [True, False]
    # "red" was said by 6 of 10, "dark red" by 3, "pink" by 1.
    assert [round(grade(TEN, a), 9) for a in ("red", "dark red", "pink", "blue")] == [1.0, 0.9, 0.3, 0.0]
    assert [is_right(TEN, grade(TEN, a)) for a in ("red", "dark red", "pink")] == [True, True, False]
    two = Question("?", ("sofa", "couch"))
    assert [grade(two, a, "alternatives") for a in ("Couch", "sofa", "chair")] == [1.0, 1.0, 0.0]
    assert not is_right(two, 0.6, "alternatives")


def test_a_structure_is_compared_as_json() -> None:
    box = Question("?", ("[1, 2, 3, 4]",), structure=[1, 2, 3, 4])
    assert [grade(box, a) for a in ("[1,2,3,4]", " [1, 2, 3, 4.0]\n", "[1, 2, 3, 5]", "1 2 3 4", "[" * 99_999)] == [
        1.0, 1.0, 0.0, 0.0, 0.0]  # fmt: skip
    assert grade(box, box.best) == 1.0


def test_reference_and_expert() -> None:
    assert (Question("?", ("red",)).reference, TEN.reference) == ("red", list(TEN.answers))
    assert Question("?", ("x",), structure={"a": 1}).reference == {"a": 1}
    assert TEN.best == "red"
    assert Question("?", ("B",), CHOICES).best == "B"


def test_what_is_said_of_an_answer_that_is_none() -> None:
    assert complaint(Question("?", ("B",), CHOICES), "Rome") == (
        "Invalid answer: 'Rome'. Answer with a letter from A to D, or with the text of a choice."
    )
    assert complaint(Question("?", ("red",)), " \n") == "Invalid answer: nothing was said."
    assert complaint(Question("?", ("red",)), "blue") == ""


@given(st.lists(st.text(min_size=1), min_size=2, max_size=26, unique=True), st.data())
def test_every_letter_of_the_listing_names_its_choice(choices: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(choices) - 1))
    letter = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[index]
    assert named(letter, choices) == right_letter(index, choices) == letter
    assert f"{letter}. {choices[index]}" in listing(choices)


@given(st.text())
def test_any_answer_has_a_score(answer: str) -> None:
    kinds = Question("?", ("red",)), TEN, Question("?", ("B",), CHOICES), Question("?", ("[]",), structure=[])
    for question in kinds:
        assert 0.0 <= grade(question, answer) <= 1.0
