import re
from collections import Counter

import numpy as np
import pytest
from blind import excess

from mmrl_envs.picture_question import Question
from mmrl_envs.shapes_questions import LEVELS, QUESTIONS, Description, Drawn
from mmrl_envs.shapes_scene import COLORS, SHAPES, SIZES, Kind, Scene, Thing

CASES = [(kind, difficulty) for kind in QUESTIONS for difficulty in LEVELS]
_NOUNS = {**{shape: shape for shape in SHAPES}, **{f"{shape}s": shape for shape in SHAPES}, "crosses": "cross"}


def drawn(kind: str, difficulty: int, count: int) -> list[Drawn]:
    rng = np.random.default_rng(difficulty)
    return [QUESTIONS[kind](rng, LEVELS[difficulty]) for _ in range(count)]


def fitting(scene: Scene, words: str) -> list[Thing]:
    """The things that a phrase such as "small red circle" or "blue objects" names."""
    found = list(scene.things)
    for word in words.split():
        if word in SIZES:
            found = [t for t in found if t.kind.size == word]
        elif word in COLORS:
            found = [t for t in found if t.kind.color == word]
        elif word in _NOUNS:
            found = [t for t in found if t.kind.shape == _NOUNS[word]]
        else:
            assert word in ("object", "objects"), word
    return found


def the(scene: Scene, words: str) -> Thing:
    (only,) = fitting(scene, words)
    return only


def solve(text: str, scene: Scene) -> str:
    """The answer by the question's words alone, without the code that made the scene."""
    if match := re.fullmatch(r"How many (.+) are there\?", text):
        return str(len(fitting(scene, match[1])))
    if match := re.fullmatch(r"Is there a (.+)\?", text):
        return "yes" if fitting(scene, match[1]) else "no"
    if match := re.fullmatch(r"What colour is the (.+)\?", text):
        return the(scene, match[1]).kind.color
    if match := re.fullmatch(r"What shape is the (.+)\?", text):
        return the(scene, match[1]).kind.shape
    if match := re.fullmatch(r"What size is the (.+)\?", text):
        return the(scene, match[1]).kind.size
    if match := re.fullmatch(r"Are there more (.+) than (.+)\?", text):
        return "yes" if len(fitting(scene, match[1])) > len(fitting(scene, match[2])) else "no"
    match = re.fullmatch(r"Is the (.+) (left of|right of|above|below) the (.+)\?", text)
    assert match, text
    (column, row), (other_column, other_row) = the(scene, match[1]).cell, the(scene, match[3]).cell
    holds = {"left of": column < other_column, "right of": column > other_column,
             "above": row < other_row, "below": row > other_row}  # fmt: skip
    axis = match[2] in ("above", "below")
    assert (column, row)[axis] != (other_column, other_row)[axis]
    return "yes" if holds[match[2]] else "no"


@pytest.mark.parametrize(("kind", "difficulty"), CASES)
def test_the_answer_is_right_and_one_of_the_answers(kind: str, difficulty: int) -> None:
    level = LEVELS[difficulty]
    for question, scene in drawn(kind, difficulty, 200):
        assert solve(question.text, scene) == question.answer
        assert question.answer in question.answers
        assert level.fewest <= len(scene.things) <= level.most
        assert {t.kind.shape for t in scene.things} <= set(level.shapes)
        assert {t.kind.color for t in scene.things} <= set(level.colors)
        assert all(abs(shift) <= level.jitter for t in scene.things for shift in t.shift)
        assert len({t.cell for t in scene.things}) == len(scene.things)


@pytest.mark.parametrize(("kind", "difficulty"), CASES)
def test_answering_blindly_scores_at_chance(kind: str, difficulty: int) -> None:
    questions = [question for question, _ in drawn(kind, difficulty, 3000)]
    assert len({q.answers for q in questions}) == 1
    counts = Counter(q.answer for q in questions)
    assert set(counts) == set(questions[0].answers)
    even = len(questions) / len(counts)
    assert sum((n - even) ** 2 / even for n in counts.values()) < 4 * len(counts) + 6  # chi-squared
    assert excess(questions) < 3.5


def test_a_question_that_gives_its_answer_away_is_caught() -> None:
    rng = np.random.default_rng(0)

    def leak(how: float) -> list[Question]:
        out = []
        for _ in range(3000):
            answer = ("yes", "no")[int(rng.integers(2))]
            color = "red" if answer == "yes" and rng.random() < how else ("red", "blue")[int(rng.integers(2))]
            out.append(Question(f"Is there a {color} circle?", answer, ("yes", "no")))
        return out

    assert excess(leak(0.0)) < 3.5
    assert excess(leak(0.3)) > 3.5


@pytest.mark.parametrize("difficulty", LEVELS)
def test_the_number_of_objects_does_not_tell_the_answer(difficulty: int) -> None:
    for kind in ("count", "existence", "relation"):
        sizes: dict[str, list[int]] = {}
        for question, scene in drawn(kind, difficulty, 1500):
            sizes.setdefault(question.answer, []).append(len(scene.things))
        means = [float(np.mean(counts)) for counts in sizes.values()]
        assert max(means) - min(means) < 0.6


def test_levels_grow() -> None:
    for difficulty in (2, 3):
        easier, harder = LEVELS[difficulty - 1], LEVELS[difficulty]
        assert set(easier.kinds) < set(harder.kinds)
        assert set(easier.colors) | set(easier.shapes) <= set(harder.colors) | set(harder.shapes)
        assert easier.most < harder.most
    assert set(LEVELS[3].kinds) == set(QUESTIONS)


def test_ties_are_noes() -> None:
    ties = 0
    for question, scene in drawn("comparison", 3, 300):
        match = re.fullmatch(r"Are there more (.+) than (.+)\?", question.text)
        assert match
        if len(fitting(scene, match[1])) == len(fitting(scene, match[2])):
            ties += 1
            assert question.answer == "no"
    assert 15 < ties < 60


def test_fillers_come_near() -> None:
    near = 0
    for question, scene in drawn("existence", 1, 400):
        match = re.fullmatch(r"Is there a (\w+) (\w+)\?", question.text)
        assert match
        kinds = [t.kind for t in scene.things if question.answer == "no"]
        near += any((k.color == match[1]) != (k.shape == match[2]) for k in kinds)
    assert near > 120  # of some two hundred


def test_descriptions() -> None:
    kind = Kind("cross", "red", "small")
    assert Description().fits(kind)
    assert Description("cross", "red", "small").fits(kind)
    assert not Description("star").fits(kind)
    assert not Description("cross", "red", "large").fits(kind)
    assert Description("cross", "red").words(many=True) == "red crosses"
    assert Description(size="small").words() == "small object"
