from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl import BadInput, Sample, Score, Trajectory, Turn
from mmrl_plugins._choice import chosen, letter_of
from mmrl_plugins.multiple_choice import MultipleChoice

CHOICES = ["Paris", "London", "a black cat", "cat", "Vitamin A"]


def score(response: str, reference: Any, choices: Any = None, **kwargs: Any) -> Score:
    meta = {} if choices is None else {"choices": choices}
    sample = Sample.ask("q", reference, **meta)
    episode = Trajectory("t", "e", 0, "g", sample, (Turn((), response),), True, False)
    return MultipleChoice(**kwargs).compute(response, reference, episode)


def named(text: str, *choices: str) -> str:
    return "".join(sorted(chosen(text, "ABCDE", choices)))


@pytest.mark.parametrize("text", [
    "B", "b", "(B)", "(b)", "[B]", "**B**", "B.", "B)", " B \n", "'B'", "$\\boxed{\\text{B}}$", "\\boxed{B}",
    "B. London", "B.London", "B) because A is wrong", "The answer is B.", "the answer is (b)", "Answer: B",
    "Answer: **B**", "The answer is B. A is wrong.", "Answer:\nB", "**Answer:** B", "The correct option is (B)",
    "I choose B", "I'm sure: B", "It's B.", "B is correct",
    "The answer is B because A is wrong and C too.", "Option A is wrong. The answer is B.", "B, not A",
    "Let me think: A is bad.\n\nB", "It's not A but B", "Not A, not C, so B.", "I think B", "答案是B",
    "答案：B。", "<b>B</b>",
    "The answer to the question is B", "A dog is shown, so B", "The answer is B (London).",
])  # fmt: skip
def test_a_letter_is_found(text: str) -> None:
    assert named(text) == "B"
    assert named(text, *CHOICES) == "B"


@pytest.mark.parametrize(("text", "letters"), [
    ("A, B", "AB"), ("A or B", "AB"), ("A/B", "AB"), ("A B C D E", "ABCDE"), ("Answer: A B", "AB"),
    ("The answer is A or B", "AB"), ("Answer: A, B, and C", "ABC"), ("Both A and B", "AB"), ("A\nB\nC", "ABC"),
    ("The answer is A. The answer is B.", "AB"), ("A) cat B) dog C) bird", "ABC"), ("A. cat\nB. dog", "AB"),
    ("\\boxed{A} \\boxed{B}", "AB"), ("答案是A和B", "AB"), ("(A) or (B)", "AB"), ("Answer: A and option B", "AB"),
])  # fmt: skip
def test_several_letters_are_several(text: str, letters: str) -> None:
    assert named(text) == letters
    assert all(score(text, letter).value == 0.0 for letter in "ABCDE")


@pytest.mark.parametrize("text", [
    "A... no, wait: B. The answer is B", "A... no, wait: B.", "The answer is A. No, wait. The answer is B.",
    "The answer is A... no, wait: B. The answer is B", "The answer is A. Actually, the answer is B.",
    "Answer: A. Wait, actually: B.", "The answer is A.\nHmm, let me recount.\nThe answer is B.", "A? No, B",
    "The answer is A. That's wrong. The answer is B.", "A\n\nwait, no\n\nB", "I was about to say A, actually: B.",
    "The answer is A. No, the answer is C. No, the answer is B.", "The answer is A. My mistake, I choose B.",
    "The answer is C.\nFinal answer: B", "So C.\n**Final answer:** B", "The answer is A. My final choice is (B)",
    "Final answer: A. Wait, no. Final answer: B", "The answer is A. Wait, A is wrong. The answer is B.",
])  # fmt: skip
def test_a_letter_that_is_taken_back_does_not_count(text: str) -> None:
    assert named(text) == "B"
    assert [score(text, letter, CHOICES).value for letter in "ABC"] == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(("text", "letters"), [
    ("The answer is A. The answer is B.", "AB"), ("The answer is A. There is no doubt. The answer is B.", "AB"),
    ("Final answer: A. Final answer: B.", "AB"), ("Final answer: A or B", "AB"),
    ("The answer is A. Actually, the answer is A or B.", "AB"), ("Wait. The answer is A. The answer is B.", "AB"),
    ("Answer: A. Hmm. Answer: B. Answer: C.", "BC"), ("A is wrong, no, B is right", "AB"),
    ("A or, actually, B or C", "ABC"), ("Answer: A, actually B or C", "A"), ("The answer is A. Wait, no.", "A"),
])  # fmt: skip
def test_a_correction_counts_only_between_two_statements(text: str, letters: str) -> None:
    assert named(text) == letters


@pytest.mark.parametrize("text", [
    "", "\x00", "AB", "ABCDE", "F", "A dog", "The answer is not B", "B-52", "no idea", "🙂",
])  # fmt: skip
def test_none_is_none(text: str) -> None:
    assert named(text) == ""


@pytest.mark.parametrize(("text", "letters"), [
    ("Paris", "A"), ("paris.", "A"), ("It is Paris!", "A"), ("Paris or London", "AB"), ("not Paris, London", "B"),
    ("it is a black cat", "C"), ("the cat", "D"), ("Vitamin A", "E"), ("It must be vitamin  A", "E"), ("Parisian", ""),
    ("B. Paris", "AB"), ("The answer is B: Paris", "AB"), ("A: Paris", "A"), ("A. Paris is the capital", "A"),
])  # fmt: skip
def test_texts_of_choices(text: str, letters: str) -> None:
    assert named(text, *CHOICES) == letters


def test_texts_without_spaces_between_words() -> None:
    assert named("答案是巴黎", "伦敦", "巴黎") == "B"


@pytest.mark.parametrize(("reference", "choices"), [
    ("B", None), ("(b)", None), ("B", CHOICES), (1, CHOICES), ("london", CHOICES), (["E", "B"], None),
    ({"answer": "London", "choices": CHOICES}, None), ({"answer": 1}, CHOICES),
])  # fmt: skip
def test_references(reference: Any, choices: Any) -> None:
    assert score("The answer is B.", reference, choices).value == 1.0
    assert score("The answer is C.", reference, choices).value == 0.0


@pytest.mark.parametrize(("reference", "choices"), [
    ("", None), (1, None), (7, CHOICES), ("Rome", CHOICES), ("Rome", None), ([], None), (True, CHOICES), (1.0, CHOICES),
    ("F", CHOICES), ({}, CHOICES),
])  # fmt: skip
def test_a_reference_that_names_no_choice(reference: Any, choices: Any) -> None:
    assert score("B", reference, choices).status == "not_applicable"


def test_letters_beyond_those_that_exist_do_not_count() -> None:
    assert score("F", "F").value == 1.0
    assert score("Vitamin K: A", "A").value == 1.0
    assert score("C", "A", ["x", "y"]).info == {"problem": "names no choice"}


def test_arguments() -> None:
    assert score("yes", "yes", choices=None, **{"tag": None}).status == "not_applicable"
    yes_no = MultipleChoice(choices=["yes", "no"])
    episode = Trajectory("t", "e", 0, "g", Sample.ask("q", "no"), (), True, False)
    assert [yes_no.compute(text, "no", episode).value for text in ("No.", "B", "yes", "yes and no")] == [1, 1, 0, 0]
    assert score("A or so <answer>B</answer>", "B", tag="answer").value == 1.0
    assert score("B", "B", tag="answer").value == 0.0
    for kwargs in ({"choices": "AB"}, {"choices": ["a"]}, {"choices": ["a", "a"]}, {"tag": "<a>"}):
        with pytest.raises(BadInput):
            MultipleChoice(**kwargs)
    with pytest.raises(ValueError, match="choices is a list"):
        score("B", "B", "AB")


@given(st.text(max_size=80), st.lists(st.text(max_size=10), max_size=4))
def test_any_text_names_known_letters_only(text: str, choices: list[str]) -> None:
    assert chosen(text, "ABCDE", choices) <= set("ABCDE")
    assert letter_of(text) is None or len(letter_of(text) or "") == 1


def test_huge_texts_are_done() -> None:
    for text in ("(B) " * 50_000, "A " * 50_000, "cat " * 50_000, "((((" * 50_000, "answer is " * 20_000, "\n" * 10**5,
                 "wait, no: A. " * 20_000, "Answer: A. " * 20_000, "final answer " * 20_000):
        chosen(text, "ABCDE", CHOICES)
