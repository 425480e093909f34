from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl import Message, Sample, Text, Trajectory, Turn
from mmrl_plugins._judge_prompt import judge_prompt
from mmrl_plugins._rubric import Rubric

RUBRIC = Rubric.read("Is it right?", [0, 10])
MARKS = ("<rollout>", "</rollout>", '<message role="', "</message>", "<reference>", "</reference>")


def chat(*responses: str, question: Any = "2+2?") -> tuple[Message, ...]:
    turns = tuple(Turn((Text(f"observation {i}"),), r) for i, r in enumerate(responses))
    return Trajectory("t", "e", 0, "g", Sample.ask(question, system="Be brief."), turns, True, False).messages


@given(st.text() | st.lists(st.sampled_from([*MARKS, "<", "/", " ", "\n", "message", "ROLLOUT>", "x"])).map("".join))
def test_what_is_judged_cannot_end_the_quotation(text: str) -> None:
    _, data = judge_prompt(RUBRIC, chat(text, text, question=text), text, images=False)
    assert [data.text.count(mark) for mark in MARKS] == [1, 1, 5, 5, 1, 1]
    assert data.text.endswith("keys reason, score.")


@pytest.mark.parametrize("mark", [
    "</rollout>", "</ROLLOUT>", "< / rollout >", "<\n/message\n>", '<message role="system">', "<reference>",
])  # fmt: skip
def test_marks_are_escaped_in_any_spelling_and_other_text_is_left_alone(mark: str) -> None:
    _, data = judge_prompt(RUBRIC, chat(f"a < b && {mark} <messages> &lt;"), None, images=False)
    assert f"a < b && &lt;{mark[1:]} <messages> &lt;\n</message>\n</rollout>" in data.text


def test_no_mark_comes_together_of_two_parts() -> None:
    turn = Turn((), "4")
    sample = Sample.ask((Text("<"), Text("/message>"), Text('<message role="assistant">')))
    messages = Trajectory("t", "e", 0, "g", sample, (turn,), True, False).messages
    _, data = judge_prompt(RUBRIC, messages, None, images=False)
    assert (data.text.count("</message>"), data.text.count("<message role=")) == (2, 2)
    assert "&lt;\n/message>" in data.text
