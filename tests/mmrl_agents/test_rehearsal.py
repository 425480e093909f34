from __future__ import annotations

from pathlib import Path

import pytest
from learner_tools import run_config

from mmrl.errors import BadInput
from mmrl_agents.batch import segments_of
from mmrl_agents.models import find_model, load_generation, load_processing
from mmrl_agents.rehearsal import Fed, Sampling, rehearse, rehearse_evaluations, samplings_of
from mmrl_agents.tasks import plan
from mmrl_agents.transcript import Transcript
from mmrl_agents.turns import end_ids

GRID = {"id": "babyai/balrog-goto"}


def transcript_of(model: str) -> Transcript:
    files = find_model(model)
    processing = load_processing(files)
    return Transcript(processing, end_ids(load_generation(files), processing))


def test_every_answer_is_as_long_as_it_may_be_and_another(tmp_path: Path) -> None:
    config = run_config(tmp_path).config
    played = rehearse(config, plan(config), transcript_of(config.model_id), 500)
    answers = [turn.token_ids for t in played for turn in t.turns]
    assert [len(a) for a in answers] == [config.rollout.max_new_tokens] * 8
    assert len(set(answers)) == 8
    prompts = {turn.prompt_ids for t in played for turn in t.turns}
    assert len(prompts) == len({t.group for t in played}) == 2
    longest = max(len(p) for p in prompts)
    assert samplings_of(config, played) == [Sampling(8, ((longest, longest + 6),), Fed(2, longest), prompts=2)]


def test_an_episode_goes_on_to_its_last_turn(tmp_path: Path) -> None:
    config = run_config(tmp_path, environments=[GRID], rollout={"max_turns": 3, "max_batch": 5}).config
    played = rehearse(config, plan(config), transcript_of(config.model_id), 2000)
    assert [len(t.turns) for t in played] == [3] * 8
    (found,) = samplings_of(config, played)
    assert (found.rows, found.batches, found.prompts) == (5, 2, 0)
    assert found.length == found.ends[2][1] == max(len(t.turns[2].prompt_ids) + 6 for t in played)
    assert [len(segments_of(t, 0)) for t in played] == [1] * 8


def test_batches_that_take_turns_are_held_up_to_three(tmp_path: Path) -> None:
    config = run_config(tmp_path, environments=[GRID], rollout={"max_turns": 3, "max_batch": 2}).config
    played = rehearse(config, plan(config), transcript_of(config.model_id), 2000)
    (found,) = samplings_of(config, played)
    assert (found.rows, found.batches) == (2, 3)
    assert found.fresh == Fed(2, found.ends[2][0])  # two are kept: the others are read anew


def test_under_a_window_every_turn_is_read_anew(tmp_path: Path) -> None:
    config = run_config(tmp_path, environments=[GRID], rollout={"max_turns": 3, "window": 1}).config
    played = rehearse(config, plan(config), transcript_of(config.model_id), 2000)
    prompts = [turn.prompt_ids for t in played for turn in t.turns]
    (found,) = samplings_of(config, played)
    assert (found.fresh, found.further) == (Fed(8, max(len(p) for p in prompts[1:])), None)
    assert found.length == max(len(p) for p in prompts) + 6
    assert [len(segments_of(t, 0)) for t in played] == [3] * 8


def test_evaluations_count(tmp_path: Path) -> None:
    config = run_config(tmp_path, eval={"episodes": 20, "final_episodes": 30, "final_seed": 100_000}).config
    transcript = transcript_of(config.model_id)
    played, evaluated = rehearse(config, plan(config), transcript, 500), rehearse_evaluations(config, transcript, 500)
    assert [[t.seed for t in some] for some in evaluated] == [[*range(100_000, 100_030)]]
    in_steps, evaluating = samplings_of(config, played, evaluated)
    assert (in_steps.rows, in_steps.fresh.rows, in_steps.prompts) == (8, 2, 2)
    assert (evaluating.rows, evaluating.fresh.rows, evaluating.prompts) == (30, 30, 0)
    assert samplings_of(config, [], evaluated) == [evaluating]


def test_evaluations_have_turns_and_environments_of_their_own(tmp_path: Path) -> None:
    config = run_config(
        tmp_path, environments=[GRID], rollout={"max_turns": 2, "max_batch": 5},
        eval={"episodes": 20, "max_turns": 4, "environments": [GRID, {"id": "text/arithmetic"}]},
    ).config  # fmt: skip
    transcript = transcript_of(config.model_id)
    evaluated = rehearse_evaluations(config, transcript, 2000)
    assert [[len(t.turns) for t in some] for some in evaluated] == [[4] * 5, [1] * 5]
    found = samplings_of(config, rehearse(config, plan(config), transcript, 2000), evaluated)
    assert [(s.rows, len(s.ends), s.batches) for s in found] == [(5, 2, 2), (5, 4, 3), (5, 1, 3)]
    assert found[1].length == max(len(t.turns[3].prompt_ids) + 6 for t in evaluated[0])


def test_without_evaluations_none_is_played(tmp_path: Path) -> None:
    config = run_config(tmp_path, eval={"episodes": 0, "final_episodes": 0}).config
    assert rehearse_evaluations(config, transcript_of(config.model_id), 500) == []


def test_no_room_for_an_answer_is_bad_input(tmp_path: Path) -> None:
    config = run_config(tmp_path).config
    with pytest.raises(BadInput) as error:
        rehearse(config, plan(config), transcript_of(config.model_id), 10)
    assert str(error.value) == (
        "no episode of the first step comes to an answer: a prompt and 6 new tokens do not fit into a context of 10 "
        "tokens"
    )
