from typing import Any

from mmrl import RewardSuite, Sample, Score, Trajectory, Turn


def score(*infos: dict[str, Any]) -> Score:
    turns = tuple(Turn((), "a", info=i) for i in infos)
    episode = Trajectory("t", "e", 0, "g", Sample.ask("q"), turns, True, False)
    return RewardSuite.from_config([{"name": "valid_action"}]).score([episode])[0].scores["valid_action"]


GOOD, BAD = {"valid_action": True}, {"valid_action": False}


def test_the_share_of_valid_actions() -> None:
    found = score(GOOD, BAD, GOOD, GOOD)
    assert (found.value, found.turns) == (0.75, (0.25, 0.0, 0.25, 0.25))
    assert score(BAD).value == 0.0


def test_turns_without_a_word_are_left_out() -> None:
    found = score({}, GOOD, BAD)
    assert (found.value, found.turns) == (0.5, (0.0, 0.5, 0.0))
    for infos in ((), ({}, {})):
        found = score(*infos)
        assert found.status == "not_applicable"
        assert found.info["reason"]
