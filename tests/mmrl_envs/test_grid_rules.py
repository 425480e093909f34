import pytest

from mmrl_envs.grid_rules import system_head


@pytest.mark.parametrize("view", [None, "partial", "full"])
def test_short_says_nothing_of_what_is_shown(view: object) -> None:
    assert system_head("short", view=view, told=True, history=3) == "Mission: {mission}\nActions: {actions}"  # type: ignore[arg-type]


def test_full_says_what_is_shown_and_no_more() -> None:
    words = system_head("full", view=None, told=True, history=1)
    assert "you are told what you see in front of you, with distances" in words
    assert "shown" not in words
    assert "turn to look around" in words
    partial = system_head("full", view="partial", told=False, history=1)
    assert "told" not in partial
    assert "pictures" not in partial
    assert "the red triangle at the bottom" in partial
    assert "turn to look around" in partial
    whole = system_head("full", view="full", told=True, history=4)
    assert "the whole grid" in whole
    assert "The last 4 pictures are shown, the oldest first." in whole
    assert "You are also told" in whole
    assert "turn to look around" not in whole


def test_every_head_takes_mission_and_actions() -> None:
    for view in (None, "partial", "full"):
        filled = system_head("full", view=view, told=True, history=2).format(mission="go", actions="a, b")  # type: ignore[arg-type]
        assert filled.endswith("Your mission: go\nActions: a, b\nAnswer with one action only.")
