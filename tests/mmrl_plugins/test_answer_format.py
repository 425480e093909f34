from typing import Any

import pytest

from mmrl import BadInput, Sample, Score, Trajectory, Turn
from mmrl_plugins.answer_format import AnswerFormat

TAGS = AnswerFormat(tags=["think", "answer"])
GOOD = "<think>\nso\n</think> then <answer>4</answer>"


def episode(*responses: str) -> Trajectory:
    turns = tuple(Turn((), r) for r in responses)
    return Trajectory("t", "e", 0, "g", Sample.ask("q"), turns, True, False)


@pytest.mark.parametrize(("response", "problem"), [
    (GOOD, ""),
    ("", "0 times <think> and 0 times </think>, must be once; 0 times <answer> and 0 times </answer>, must be once"),
    ("<think>a</think><answer>4", "0 times </answer>, must be once"),
    (GOOD + "<answer>5</answer>", "2 times <answer> and 2 times </answer>, must be once"),
    ("<think>a<answer>4</answer></think>", "the tags are not in the order <think> </think> <answer> </answer>"),
    ("<answer>4</answer><think>a</think>", "the tags are not in the order <think> </think> <answer> </answer>"),
    ("<think>a</think></answer>4<answer>", "</answer> stands before <answer>"),
    ("<THINK>a</THINK><answer>4</answer>", "0 times <think> and 0 times </think>, must be once"),
])  # fmt: skip
def test_tags(response: str, problem: str) -> None:
    assert TAGS.problem(response) == problem


def test_every_turn_counts() -> None:
    score = TAGS.compute(episode(GOOD, "4", GOOD, GOOD))
    assert (score.value, score.turns) == (0.75, (0.25, 0.0, 0.25, 0.25))
    assert list(score.info["problems"]) == ["turn 1"]
    assert TAGS.compute(episode(GOOD)) == Score(1.0, turns=(1.0,))
    assert TAGS.compute(episode()).status == "not_applicable"


def test_pattern_matches_the_whole_answer_newlines_included() -> None:
    plugin = AnswerFormat(pattern=r"Thought: .*Action: \w+")
    score = plugin.compute(episode("Thought: a\nb\nAction: go", "Action: go"))
    assert (score.value, score.turns) == (0.5, (0.5, 0.0))


@pytest.mark.parametrize("kwargs", [
    {}, {"tags": ["a"], "pattern": "a"}, {"pattern": "(a"}, {"pattern": 3}, {"tags": []}, {"tags": "think"},
    {"tags": ["a", "a"]}, {"tags": ["<a>"]}, {"tags": [1]},
])  # fmt: skip
def test_bad_arguments(kwargs: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        AnswerFormat(**kwargs)
