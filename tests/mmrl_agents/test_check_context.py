from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from learner_tools import run_config, trajectory, turn

from mmrl.config import EnvironmentConfig
from mmrl.errors import BadInput
from mmrl_agents.batch import Segment
from mmrl_agents.check_context import check_context, check_fits, check_room, first_prompts, full_window
from mmrl_agents.models import find_model, load_generation, load_processing, text_context
from mmrl_agents.transcript import Transcript
from mmrl_agents.turns import end_ids

GRID: dict[str, Any] = {"environments": [{"id": "babyai/GoToLocal"}]}
LOCAL = EnvironmentConfig(id="babyai/GoToLocal")


def said(folder: Path, check: Any, **sections: Any) -> tuple[str, str]:
    """The key that a check's error names the line of, and its words."""
    with pytest.raises(BadInput) as error:
        check(run_config(folder, **sections))
    place, _, words = str(error.value).partition(": ")
    line = (folder / "run.yaml").read_text().splitlines()[int(place.rpartition(":")[2]) - 1]
    return line.strip(" -").partition(":")[0], words


def test_more_than_the_model_holds(tmp_path: Path) -> None:
    assert said(tmp_path, check_context, rollout={"max_context": 4096}) == (
        "max_context",
        f"max_context is 4096, but '{tmp_path / 'model'}' holds at most 2048 tokens; leave it out, or lower it to that",
    )
    assert said(tmp_path, check_context, rollout={"max_new_tokens": 2048}) == (
        "max_new_tokens",
        "max_new_tokens is 2048, which leaves no room for a prompt in a context of 2048 tokens; lower it",
    )
    assert said(tmp_path, check_context, rollout={"max_new_tokens": 64, "max_context": 64})[0] == "max_new_tokens"
    check_context(run_config(tmp_path, rollout={"max_new_tokens": 63, "max_context": 64}))


def test_an_environment_without_room_for_an_answer(tmp_path: Path) -> None:
    key, words = said(tmp_path, check_room, rollout={"max_new_tokens": 50, "max_context": 60})
    assert key == "id"
    assert words == (
        "environment 'text/arithmetic': its first 8 tasks take 17 tokens or more, and "
        f"'{tmp_path / 'model'}' has room for 10 beside an answer of 50; lower rollout.max_new_tokens, raise "
        "rollout.max_context, or take another model"
    )
    check_room(run_config(tmp_path, rollout={"max_new_tokens": 50}))


def test_a_window_longer_than_the_context(tmp_path: Path) -> None:
    files = find_model(run_config(tmp_path).config.model_id)
    processing = load_processing(files)
    transcript = Transcript(processing, end_ids(load_generation(files), processing))
    two, three = (len(transcript.prompt(full_window(LOCAL, k) or ())) for k in (2, 3))
    assert 0 < two < three
    tight: dict[str, Any] = {"max_context": three + 7, "max_new_tokens": 8}
    key, words = said(tmp_path, check_room, **GRID, rollout={"window": 3, **tight})
    assert key == "window"
    assert words == (
        f"a window of 3 observations of 'babyai/GoToLocal' takes {three} tokens, and '{tmp_path / 'model'}' has room "
        f"for {three - 1} beside an answer of 8; lower it"
    )
    check_room(run_config(tmp_path, **GRID, rollout={"window": 2, **tight}))


def test_a_window_is_looked_at_when_it_is_full() -> None:
    window = full_window(LOCAL, 3)
    assert window is not None
    assert [m.role for m in window if m.role != "system"] == ["user", "assistant", "user", "assistant", "user"]
    assert full_window(LOCAL, 500) is None  # the episodes are over before
    assert len(full_window(LOCAL, 60) or ()) == 1 + 119  # the expert is done before, a policy that is lost goes on
    assert full_window(EnvironmentConfig(id="text/arithmetic"), 2) is None
    assert full_window(LOCAL, 1) == first_prompts(LOCAL)[0]


def test_a_window_that_only_a_lost_policy_fills(tmp_path: Path) -> None:
    key, words = said(tmp_path, check_room, **GRID, rollout={"window": 60})
    assert key == "window"
    assert words.startswith("a window of 60 observations of 'babyai/GoToLocal' takes ")
    assert words.endswith(f"tokens, and '{tmp_path / 'model'}' has room for 2042 beside an answer of 6; lower it")
    check_room(run_config(tmp_path, **GRID, rollout={"window": 60, "max_turns": 4}))
    evaluated = {"episodes": 1, "max_turns": 5}
    check_room(run_config(tmp_path, **GRID, rollout={"window": 60, "max_turns": 4}, eval=evaluated))
    key, _ = said(tmp_path, check_room, **GRID, rollout={"window": 60, "max_turns": 4}, eval={"episodes": 1})
    assert key == "window"  # an evaluation goes on for as long as the environment does
    tight = {"window": 60, "max_turns": 4, "max_context": 150}
    assert "a window of 60 observations of 'babyai/GoToLocal' takes 4 turns at most, and with them takes " in said(
        tmp_path, check_room, **GRID, rollout=tight)[1]  # fmt: skip


def test_an_episode_to_learn_from_that_is_longer_than_the_context(tmp_path: Path) -> None:
    long = trajectory("long", [turn([3], [4])], 1.0)
    loaded = run_config(tmp_path)
    own = text_context(find_model(loaded.config.model_id))
    ids = tuple(range(2)) * (own // 2)
    fits, does_not = (Segment(i, (True,) * len(i), (0.0,) * len(i), (0,) * len(i), 0) for i in (ids, (*ids, 0)))
    check_fits(loaded, [fits], [long])
    check_fits(loaded, [], [])
    with pytest.raises(BadInput) as error:
        check_fits(loaded, [fits, does_not], [long])
    assert str(error.value) == (
        f"{loaded.path}: episode 'long' takes {own + 1} tokens at once, and '{tmp_path / 'model'}' holds {own}; set "
        "rollout.window, or learn from shorter episodes"
    )
