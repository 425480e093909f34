import json
import math
from importlib import resources
from typing import Any

import pytest

from mmrl import BadInput, Message, Sample, Text, Trajectory, Turn
from mmrl.score import Score
from mmrl_plugins._embedding import cosine, embedder
from mmrl_plugins.relevance import Relevance

QUERY = "How do I boil an egg?"
NEAR, FAR = "Put the egg into boiling water for six minutes.", "The train to Lyon leaves at noon."


def episode(*answers: str, query: str = QUERY, reference: Any = None, seen: str = "") -> Trajectory:
    turns = tuple(Turn((Text(seen),), answer) for answer in answers)
    return Trajectory("t", "test", 0, "g", Sample.ask(query, reference), turns, True, False)


def score(trajectory: Trajectory, **kwargs: Any) -> Score:
    (found,) = Relevance(**kwargs).score([trajectory])
    return found


def cases(name: str) -> list[dict[str, Any]]:
    text = resources.files("mmrl_assets").joinpath("checks", name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def ranked_first(rows: list[dict[str, Any]]) -> int:
    episodes = [[episode(answer, query=row["query"]) for answer in (row["match"], *row["distractors"])] for row in rows]
    scores = iter(Relevance().score([e for each in episodes for e in each]))
    values = [[next(scores).value for _ in each] for each in episodes]
    return sum(each[0] > max(each[1:]) for each in values)


def test_the_match_comes_first_in_the_shipped_cases() -> None:
    rows = cases("relevance.jsonl")
    assert len(rows) == 20
    assert all(len(row["distractors"]) == 5 for row in rows)
    assert ranked_first(rows) >= 19  # 20 with all-MiniLM-L6-v2


def test_the_match_comes_first_among_the_answers_to_all_questions() -> None:
    rows = cases("relevance.jsonl")
    answers = [row["match"] for row in rows]
    others = [{**row, "distractors": [a for a in answers if a != row["match"]]} for row in rows]
    assert ranked_first(others) >= 18  # 19


def test_distractors_that_repeat_the_querys_words_are_harder() -> None:
    assert ranked_first(cases("relevance_hard.jsonl")) >= 30  # 31 of 40


def test_the_value_is_the_cosine() -> None:
    a, b = embedder("embedded", "auto").encode([QUERY, NEAR])
    found = score(episode(NEAR), scale="cosine")
    assert found.value == found.info["cosine"] == cosine(a, b)
    assert score(episode(NEAR)).value == (1.0 + cosine(a, b)) / 2.0
    assert score(episode(QUERY)).value == 1.0
    assert score(episode(NEAR)).value > 0.8 > 0.6 > score(episode(FAR)).value


def test_range_and_needs_follow_the_arguments() -> None:
    assert (Relevance().range, Relevance(scale="cosine").range) == ((0.0, 1.0), (-1.0, 1.0))
    assert (Relevance().requires, Relevance(against="reference").requires) == (frozenset(), frozenset({"reference"}))


def test_last_or_all_turns() -> None:
    last, everything = score(episode(FAR, NEAR)), score(episode(FAR, NEAR), turns="all")
    far = score(episode(FAR)).value
    assert last.value == score(episode(NEAR)).value
    assert last.turns is None
    assert everything.turns == (far / 2, last.value / 2)
    assert everything.value == math.fsum(everything.turns)


def test_the_nearest_reference_counts() -> None:
    references = ["Boil it for six minutes.", None, "Fry it in a pan.", NEAR]
    assert score(episode(NEAR, reference=references), against="reference").value == 1.0
    one = score(episode(NEAR, reference=references[0]), against="reference").value
    assert one == score(episode(references[0] or "", query=NEAR)).value
    assert score(episode("4", reference=4), against="reference").value == 1.0


def test_observations_are_those_before_the_answer() -> None:
    turns = (Turn((Text("a red ball"),), "a red ball"), Turn((), "what?"), Turn((Text("a blue key"),), "a blue key"))
    found = score(Trajectory("t", "test", 0, "g", Sample.ask("go"), turns, True, False), against="observation",
                  turns="all")
    assert (found.value, found.turns, found.info["cosines"]) == (1.0, (0.5, 0.0, 0.5), [1.0, None, 1.0])


def test_an_empty_answer_is_near_nothing() -> None:
    assert score(episode(""), scale="cosine").value == 0.0
    assert score(episode(" \n")).value == 0.5


@pytest.mark.parametrize(("trajectory", "kwargs", "reason"), [
    (episode(), {}, "the episode has no turns"), (episode("a", query=""), {}, "the sample asks nothing in words"),
    (episode("a"), {"against": "reference"}, "the sample has no reference in words"),
    (episode("a", reference=["", None]), {"against": "reference"}, "the sample has no reference in words"),
    (episode("a"), {"against": "observation"}, "no answer followed an observation in words"),
])  # fmt: skip
def test_nothing_to_compare_with_is_not_applicable(trajectory: Trajectory, kwargs: dict[str, Any], reason: str) -> None:
    found = score(trajectory, **kwargs)
    assert (found.status, found.info) == ("not_applicable", {"reason": reason})


def test_a_reference_without_words_fails_alone() -> None:
    plugin = Relevance(against="reference")
    good, bad = plugin.score([episode("a", reference="a"), episode("a", reference={"answer": "a"})])
    assert (good.status, bad.status) == ("ok", "failed")
    assert "not dict" in bad.info["error"]


def test_a_batch_gives_what_one_by_one_gives() -> None:
    episodes = [episode(f"answer number {i} " + "and more " * i, FAR) for i in range(30)]
    together = Relevance(turns="all").score(episodes)
    embedder("embedded", "auto").forget()
    assert [Relevance(turns="all").score([e])[0] for e in episodes] == together


def test_surrogates_and_long_texts_are_embedded() -> None:
    assert score(episode("\ud800 egg")).valid
    assert score(episode("egg " * 20_000)).valid


def test_the_query_is_the_samples_last_user_message() -> None:
    said = (("user", "Where is Lyon?"), ("assistant", "In France."), ("user", QUERY))
    sample = Sample("s", tuple(Message(role, (Text(text),)) for role, text in said))
    found = score(Trajectory("t", "test", 0, "g", sample, (Turn((), NEAR),), True, False))
    assert found == score(episode(NEAR))


@pytest.mark.parametrize(("kwargs", "message"), [
    ({"against": "answer"}, "against is one of query, reference, observation"), ({"scale": "log"}, "scale"),
    ({"turns": "first"}, "turns"), ({"device": "gpu"}, "device"), ({"model": ""}, "model is"),
    ({"model": 5}, "model is"),
])  # fmt: skip
def test_bad_arguments_are_named(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Relevance(**kwargs)


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(BadInput, match="'nobody/nothing' cannot be loaded"):
        score(episode("a"), model="nobody/nothing")
