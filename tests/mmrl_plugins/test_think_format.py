from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl import BadInput, RewardSuite, Sample, Trajectory, Turn
from mmrl_plugins.think_format import ThinkFormat


@pytest.mark.parametrize(("response", "problem"), [
    ("<think>so</think>4", ""), ("\n <think>\nso\n</think>\n\n4", ""), ("<think></think>4", ""),
    ("4", "0 times <think> and 0 times </think>, must be once"), ("<think>so</think>", "the answer is empty"),
    ("<think>so</think> \n", "the answer is empty"), ("well <think>so</think>4", "text before <think>"),
    ("<think>a</think><think>b</think>4", "2 times <think> and 2 times </think>, must be once"),
    ("<think>so 4", "0 times </think>, must be once"), ("so</think>4", "0 times <think>, must be once"),
    ("</think>4<think>", "</think> stands before <think>"),
])  # fmt: skip
def test_bare_answers(response: str, problem: str) -> None:
    assert ThinkFormat().problem(response) == problem
    assert ThinkFormat().compute(Turn((), response)).value == float(not problem)


@pytest.mark.parametrize(("response", "problem"), [
    ("<think>so</think>\n<answer>4</answer>\n", ""), ("<think>so</think>4", "0 times <answer> and 0 times </answer>, "
     "must be once"), ("<think>so</think><answer> </answer>", "the answer is empty"),
    ("<think>so</think><answer>4</answer>!", "<answer>...</answer> is not all that follows the thought"),
    ("<think>so</think>So <answer>4</answer>", "<answer>...</answer> is not all that follows the thought"),
    ("<think><answer>4</answer></think>5", "<answer>...</answer> is not all that follows the thought"),
    ("<think><answer>4</answer></think><answer>4</answer>", "2 times <answer> and 2 times </answer>, must be once"),
])  # fmt: skip
def test_tagged_answers(response: str, problem: str) -> None:
    assert ThinkFormat(answer="answer").problem(response) == problem


def test_other_names_and_a_thought_that_the_template_opened() -> None:
    assert ThinkFormat(think="plan").problem("<plan>a</plan>b") == ""
    opened = ThinkFormat(opened=True)
    assert opened.problem("so</think>4") == ""
    assert opened.problem("<think>so</think>4") == "2 times <think>, must be once"


def test_every_turn_counts_alike() -> None:
    turns = (Turn((), "<think>a</think>b"), Turn((), "b"))
    (record,) = RewardSuite.from_config([{"name": "think_format"}]).score(
        [Trajectory("t", "e", 0, "g", Sample.ask("q"), turns, True, False)]
    )
    score = record.scores["think_format"]
    assert (score.value, score.turns, score.info["by_turn"]) == (0.5, (0.5, 0.0), [1.0, 0.0])


@given(st.text(alphabet="<>/thinkaswer \n", max_size=40), st.text(min_size=1, max_size=20))
def test_in_form_is_what_the_parts_say(thought: str, answer: str) -> None:
    clean = all(mark not in thought + answer for mark in ("<think>", "</think>")) and answer.strip()
    # A half-written tag may complete itself across the seam; then it is none of this property's business.
    response = f"<think>{thought}</think>{answer}"
    if clean and response.count("<think>") == response.count("</think>") == 1:
        assert ThinkFormat().problem(response) == ""


@pytest.mark.parametrize("kwargs", [
    {"think": "<think>"}, {"think": None}, {"answer": ""}, {"think": "a", "answer": "a"}, {"opened": "no"},
])  # fmt: skip
def test_bad_arguments(kwargs: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        ThinkFormat(**kwargs)
