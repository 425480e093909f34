from __future__ import annotations

from pathlib import Path

import pytest
from learner_tools import run_config

from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl_agents.batch import segments_of
from mmrl_agents.models import find_model, load_processing
from mmrl_agents.probe import HELD_OUT, STEPS, Played, play
from mmrl_agents.tasks import plan


def played(loaded: LoadedConfig) -> Played:
    files = find_model(loaded.config.model_id)
    return play(loaded.config, files, load_processing(files), plan(loaded.config))


def test_episodes_of_a_step_with_answers_of_full_length(tmp_path: Path) -> None:
    loaded = run_config(tmp_path, environments=[{"id": "babyai/GoToLocal"}], eval={"episodes": 3, "max_turns": 2},
                        rollout={"max_turns": 5, "max_new_tokens": 7})  # fmt: skip
    found = played(loaded)
    assert [len(step) for step in found.steps] == [8] * STEPS
    assert len(found.held_out) == HELD_OUT
    assert len({step[0].seed for step in found.steps}) == STEPS
    for t in (t for step in found.steps for t in step):
        assert {len(u.token_ids) for u in t.turns} == {7}
        assert len(segments_of(t, 0)) == 1  # each prompt goes on from the last
        assert len(t.turns) == 5 or t.terminated
        assert all(u.info["valid_action"] for u in t.turns)
    assert max(len(t.turns) for t in found.held_out) == 2
    assert len({u.token_ids for step in found.steps for t in step for u in t.turns}) > 100
    assert played(loaded) == found


def test_a_full_context_ends_an_episode(tmp_path: Path) -> None:
    loaded = run_config(tmp_path, environments=[{"id": "babyai/GoToLocal"}],
                        rollout={"max_new_tokens": 7, "max_context": 1500})  # fmt: skip
    ends = [len(t.turns[-1].prompt_ids) + 7 for step in played(loaded).steps for t in step]
    assert 1000 < max(ends) <= 1500


def test_without_an_evaluation_none_is_played(tmp_path: Path) -> None:
    assert played(run_config(tmp_path)).held_out == ()


def test_an_environment_that_breaks_is_bad_input(tmp_path: Path) -> None:
    loaded = run_config(tmp_path, rollout={"max_context": 10, "max_new_tokens": 4})
    with pytest.raises(BadInput, match="none of a training step's episodes can be played"):
        played(loaded)
