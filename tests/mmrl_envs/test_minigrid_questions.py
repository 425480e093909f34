import re
from collections import Counter

import numpy as np
import pytest
from blind import excess
from read_tiles import Picture, Thing, read

import mmrl
from mmrl import BadInput, Image
from mmrl_envs.grid_furnish import LEVELS
from mmrl_envs.minigrid_questions import QUESTIONS, MiniGridQuestions, way

VIEWS = ("partial", "full")
CASES = [(kind, difficulty, view) for kind in QUESTIONS for difficulty in LEVELS for view in VIEWS]
STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up


def fitting(picture: Picture, words: str) -> list[tuple[tuple[int, int], Thing]]:
    """The things in a picture that a phrase such as "red key" or "boxes" names."""
    *colors, noun = words.split()
    noun = {"boxes": "box", "keys": "key", "balls": "ball"}.get(noun, noun)
    return [(cell, thing) for cell, thing in picture.things.items()
            if thing[0] == noun and all(color == thing[1] for color in colors)]  # fmt: skip


def front(picture: Picture) -> Thing | None:
    (i, j), (right, down) = picture.agent, STEPS[picture.direction]
    return picture.things.get((i + right, j + down))


def side(picture: Picture, cell: tuple[int, int]) -> str:
    """Where a cell lies, by turning the picture until the agent points up."""
    i, j = cell[0] - picture.agent[0], cell[1] - picture.agent[1]
    for _ in range((3 - picture.direction) % 4):
        i, j = -j, i
    return "right" if i > 0 else "left" if i < 0 else "ahead" if j < 0 else "behind"


def solve(text: str, picture: Picture) -> str:
    """The answer by the question's words and the picture alone."""
    if text == "What is in front of you?":
        thing = front(picture)
        return "nothing" if thing is None else thing[0]
    if text == "What do you carry?":
        return "nothing" if picture.carried is None else picture.carried[0]
    if text == "What colour is the thing that you carry?":
        assert picture.carried is not None
        return picture.carried[1]
    if text == "What colour is the thing in front of you?":
        thing = front(picture)
        assert thing is not None
        return thing[1]
    if match := re.fullmatch(r"Do you see a (.+)\?", text):
        return "yes" if fitting(picture, match[1]) else "no"
    if match := re.fullmatch(r"How many (.+) do you see\?", text):
        return str(len(fitting(picture, match[1])))
    match = re.fullmatch(r"(?:What colour|Which way|Is) (?:is )?the (.+?)(?: open, closed or locked)?\?", text)
    assert match, text
    ((cell, thing),) = fitting(picture, match[1])
    if text.startswith("What colour"):
        return thing[1]
    return side(picture, cell) if text.startswith("Which way") else thing[2]


@pytest.mark.parametrize(("kind", "difficulty", "view"), CASES)
def test_the_answer_can_be_read_off_the_picture(kind: str, difficulty: int, view: str) -> None:
    env = MiniGridQuestions(difficulty=difficulty, kinds=[kind], view=view)  # type: ignore[arg-type]
    answers: set[str] = set()
    for seed in range(60):
        (image, _), info = env.reset(seed=seed)
        sample = info["sample"]
        assert isinstance(image, Image)
        picture = read(image.pixels, view)
        assert solve(sample.meta["question"], picture) == sample.reference
        assert sample.reference in sample.meta["answers"]
        assert all(thing[1] in (*LEVELS[difficulty].colors, "grey") for thing in picture.things.values())
        answers.add(sample.reference)
    assert answers == set(sample.meta["answers"])


@pytest.mark.parametrize(("kind", "difficulty", "view"), CASES)
def test_answering_blindly_scores_at_chance(kind: str, difficulty: int, view: str) -> None:
    rng, level = np.random.default_rng(difficulty), LEVELS[difficulty]
    questions = [QUESTIONS[kind](rng, level, view).question for _ in range(4000)]  # type: ignore[arg-type]
    counts = Counter(q.answer for q in questions)
    assert {q.answers for q in questions} == {questions[0].answers}
    assert set(counts) == set(questions[0].answers)
    even = len(questions) / len(counts)
    assert sum((n - even) ** 2 / even for n in counts.values()) < 4 * len(counts) + 6  # chi-squared
    assert excess(questions) < 3.5


@pytest.mark.parametrize("view", VIEWS)
def test_the_question_that_is_drawn_is_the_one_that_is_asked(view: str) -> None:
    # Rooms are drawn until the answer is right; were the question drawn anew as well, rare answers would be rarer.
    env = MiniGridQuestions(difficulty=3, view=view)  # type: ignore[arg-type]
    rng = np.random.default_rng(11)
    env.reset(seed=11)
    kind = LEVELS[3].kinds[int(rng.integers(len(LEVELS[3].kinds)))]
    question = QUESTIONS[kind](rng, LEVELS[3], view).question  # type: ignore[arg-type]
    _, info = env.reset(seed=11)
    assert (info["sample"].meta["question"], info["sample"].reference) == (question.text, question.answer)


def test_views_and_tiles_have_their_sizes() -> None:
    sizes = [mmrl.make("vqa/minigrid", **kwargs).reset(seed=0)[0][0].size for kwargs in (  # type: ignore[union-attr]
        {}, {"tile_size": 16}, {"view": "full"}, {"view": "full", "difficulty": 3},
    )]  # fmt: skip
    assert sizes == [(56, 56), (112, 112), (56, 56), (72, 72)]


def test_the_simulator_is_in_the_state_that_is_shown() -> None:
    env = MiniGridQuestions(view="full", kinds=["carried"])
    (image, _), info = env.reset(seed=1)
    assert isinstance(image, Image)
    held = env.simulator.carrying
    assert info["sample"].reference == ("nothing" if held is None else held.type)
    assert read(image.pixels, "full").agent == tuple(env.simulator.agent_pos)


@pytest.mark.parametrize(
    ("place", "word"),
    [((0, 1), "ahead"), ((0, 5), "ahead"), ((0, -2), "behind"), ((1, 5), "right"), ((-1, 5), "left"),
     ((3, -2), "right"), ((-1, 0), "left")],
)  # fmt: skip
def test_way(place: tuple[int, int], word: str) -> None:
    assert way(*place) == word


@pytest.mark.parametrize("kwargs", [{"view": "side"}, {"tile_size": 2}, {"kinds": ["size"]}, {"prompt": ""}])
def test_bad_arguments_are_named(kwargs: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=f"vqa/minigrid's {next(iter(kwargs))}"):
        mmrl.make("vqa/minigrid", **kwargs)
