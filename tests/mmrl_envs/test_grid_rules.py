import pytest

from mmrl_envs.grid_rules import system_head


@pytest.mark.parametrize("view", [None, "partial", "full"])
def test_short_says_nothing_of_what_is_shown(view: object) -> None:
    head = system_head("short", view=view, told=True, history=3, reasoning=False)  # type: ignore[arg-type]
    assert head == "Mission: {mission}\nActions: {actions}"


def test_full_says_what_is_shown_and_no_more() -> None:
    words = system_head("full", view=None, told=True, history=1, reasoning=False)
    assert "you are told what you see in front of you, with distances" in words
    assert "shown" not in words
    assert "turn to look around" in words
    partial = system_head("full", view="partial", told=False, history=1, reasoning=False)
    assert "told" not in partial
    assert "pictures" not in partial
    assert "the red triangle at the bottom" in partial
    assert "turn to look around" in partial
    whole = system_head("full", view="full", told=True, history=4, reasoning=False)
    assert "the whole grid" in whole
    assert "The last 4 pictures are shown, the oldest first." in whole
    assert "You are also told" in whole
    assert "turn to look around" not in whole


def test_what_an_answer_is_comes_last() -> None:
    said = "\nAnswer with what you are after, a colon and one action."
    short = system_head("short", view=None, told=True, history=1, reasoning=True)
    assert short == "Mission: {mission}\nActions: {actions}\nthe aim: the action"
    full = system_head("full", view=None, told=True, history=1, reasoning=True)
    assert full.endswith("Actions: {actions}" + said)
    assert "one action only" not in full


def test_every_head_takes_mission_and_actions() -> None:
    for view in (None, "partial", "full"):
        head = system_head("full", view=view, told=True, history=2, reasoning=False)  # type: ignore[arg-type]
        filled = head.format(mission="go", actions="a, b")
        assert filled.endswith("Your mission: go\nActions: a, b\nAnswer with one action only.")
