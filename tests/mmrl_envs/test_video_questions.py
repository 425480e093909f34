from collections import Counter

import numpy as np
import pytest
from blind import excess

from mmrl_envs.grid_room import Room
from mmrl_envs.video import VideoTask
from mmrl_envs.video_questions import FEWEST_ACTIONS, LEVELS, QUESTIONS, set_stage

CASES = [(kind, difficulty) for kind in QUESTIONS for difficulty in LEVELS]


@pytest.mark.parametrize(("kind", "difficulty"), CASES)
def test_answering_blindly_scores_at_chance(kind: str, difficulty: int) -> None:
    rng = np.random.default_rng(difficulty)
    questions = [QUESTIONS[kind](rng, LEVELS[difficulty]).question for _ in range(4000)]
    counts = Counter(q.answer for q in questions)
    assert {q.answers for q in questions} == {questions[0].answers}
    assert set(counts) == set(questions[0].answers)
    even = len(questions) / len(counts)
    assert sum((n - even) ** 2 / even for n in counts.values()) < 4 * len(counts) + 6  # chi-squared
    assert excess(questions) < 3.5


@pytest.mark.parametrize("view", ["full", "partial"])
@pytest.mark.parametrize(("kind", "difficulty"), CASES)
def test_the_question_that_is_drawn_is_the_one_that_is_asked(kind: str, difficulty: int, view: str) -> None:
    env = VideoTask(difficulty=difficulty, kinds=[kind], view=view, frames=FEWEST_ACTIONS + 1)  # type: ignore[arg-type]
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rng.integers(1)  # the kind
        question = QUESTIONS[kind](rng, LEVELS[difficulty]).question
        _, info = env.reset(seed=seed)
        assert (info["sample"].meta["question"], info["sample"].reference) == (question.text, question.answer)


@pytest.mark.parametrize(("kind", "difficulty"), CASES)
def test_a_stage_has_what_the_story_needs(kind: str, difficulty: int) -> None:
    level, rng = LEVELS[difficulty], np.random.default_rng(0)
    room = Room(level.size)
    for _ in range(30):
        story = QUESTIONS[kind](rng, level)
        stage = set_stage(rng, room, level, story)
        things = {(i, j): thing for i in range(level.size) for j in range(level.size)
                  if (thing := room.grid.get(i, j)) is not None and thing.type != "wall"}  # fmt: skip
        assert [(things[c].type, things[c].color) for c in stage.doors] == [(d.kind, d.color) for d in story.doors]
        assert 0 < stage.doors[0][0] < level.size - 1
        assert (stage.place is None) is (story.item is None)
        if stage.place is not None and story.item is not None:
            assert (things[stage.place].type, things[stage.place].color) == (story.item.kind, story.item.color)
        for column, row in stage.doors:
            beside = {(column + 1, row), (column - 1, row), (column, row + 1), (column, row - 1)}
            assert not beside & {cell for cell, thing in things.items() if thing.type != "door"}
        objects = sum(thing.type != "door" for thing in things.values()) - (story.item is not None)
        assert level.fewest <= objects <= level.most
        assert room.grid.get(*room.agent_pos) is None


def test_levels_grow() -> None:
    assert [LEVELS[d].size for d in LEVELS] == [7, 8, 9]
    assert set(LEVELS[3].kinds) == set(QUESTIONS)
    assert LEVELS[1].most < LEVELS[2].most < LEVELS[3].most
