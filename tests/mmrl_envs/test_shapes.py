from collections import Counter

import numpy as np
import pytest
from blind import excess

import mmrl
from mmrl import BadInput, Image
from mmrl_envs.picture_question import Question
from mmrl_envs.shapes import Shapes
from mmrl_envs.shapes_questions import LEVELS, QUESTIONS
from mmrl_envs.shapes_scene import COLORS


def test_a_sample_has_a_picture_a_question_and_its_facts() -> None:
    observation, info = mmrl.make("vqa/shapes").reset(seed=5)
    sample = info["sample"]
    assert isinstance(observation[0], Image)
    assert observation[0].size == (112, 112)
    assert mmrl.text_of(observation) == sample.meta["question"]
    assert set(sample.meta) == {"kind", "difficulty", "question", "answers", "caption"}
    assert sample.reference in sample.meta["answers"]


def test_the_caption_and_the_answer_are_those_of_the_picture() -> None:
    env = Shapes(kinds=["colour"], image_size=56)
    for seed in range(50):
        (image, _), info = env.reset(seed=seed)
        assert isinstance(image, Image)
        there = {name for name, rgb in COLORS.items() if (image.pixels == np.array(rgb)).all(axis=2).any()}
        words = info["sample"].meta["caption"].replace(",", "").split()
        assert there == set(words) & set(COLORS)
        assert info["sample"].reference in there


@pytest.mark.parametrize("difficulty", LEVELS)
def test_kinds_come_equally_often_and_blind_answers_score_at_chance(difficulty: int) -> None:
    env = Shapes(difficulty=difficulty, image_size=56)
    metas = [env.reset(seed=seed)[1]["sample"] for seed in range(3000)]
    kinds = Counter(sample.meta["kind"] for sample in metas)
    assert set(kinds) == set(LEVELS[difficulty].kinds)
    assert min(kinds.values()) > 0.8 * len(metas) / len(kinds)
    asked = [Question(s.meta["question"], s.reference, tuple(s.meta["answers"])) for s in metas]
    assert excess(asked) < 3.5


def test_only_the_kinds_that_are_asked_for() -> None:
    env = Shapes(kinds=["relation", "comparison"], difficulty=1)
    assert {env.reset(seed=seed)[1]["sample"].meta["kind"] for seed in range(30)} == {"relation", "comparison"}


def test_the_size_changes_the_picture_and_nothing_else() -> None:
    small, large = Shapes(difficulty=3, image_size=56), Shapes(difficulty=3, image_size=224)
    for seed in range(5):
        (one, *words), info = small.reset(seed=seed)
        (two, *same), other = large.reset(seed=seed)
        assert isinstance(one, Image)
        assert isinstance(two, Image)
        assert (one.size, two.size) == ((56, 56), (224, 224))
        assert words == same
        assert info["sample"].meta == other["sample"].meta


@pytest.mark.parametrize("size", [55, 49, 113, 1799, -56, 0])
def test_bad_sizes_are_named(size: int) -> None:
    with pytest.raises(BadInput, match=f"vqa/shapes's image_size is a multiple of 7 from 56 to 1792, not {size}"):
        Shapes(image_size=size)


def test_every_kind_can_be_asked_at_every_difficulty() -> None:
    for difficulty in LEVELS:
        for kind in QUESTIONS:
            _, info = Shapes(difficulty=difficulty, kinds=[kind]).reset(seed=0)
            assert info["sample"].meta["kind"] == kind
