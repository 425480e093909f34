"""Many questions about one scene of shapes, so that a picture of 49 tokens teaches more than one answer.

Comes in: a number.  Goes out: a conversation whose first question is one of vqa/shapes' own, and whose others are of
the same kinds and words, each answer as frequent as any other of its kind as far as the scenes allow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from mmrl.sample import Image, Sample, Text
from mmrl.trajectory import Trajectory, Turn
from mmrl_envs.shapes_questions import LEVELS, QUESTIONS, Description, Level, how_many, is_there, which
from mmrl_envs.shapes_scene import Scene, paint

QUESTIONS_EACH = 8
Asked = tuple[str, str]
"""A question and its answer."""


def answerable(scene: Scene, level: Level) -> Mapping[str, Sequence[Asked]]:
    """Every question of the easy kinds that has an answer in the scene, by kind."""
    kinds = [thing.kind for thing in scene.things]

    def fitting(description: Description) -> int:
        return sum(description.fits(kind) for kind in kinds)

    pairs = [Description(shape, color) for shape in level.shapes for color in level.colors]
    shapes = [Description(shape=shape) for shape in level.shapes]
    colors = [Description(color=color) for color in level.colors]
    counted = [d for d in (*pairs, *shapes, *colors) if fitting(d) <= level.counted]
    return {
        "existence": [(is_there(d), "yes" if fitting(d) else "no") for d in pairs],
        "count": [(how_many(d), str(fitting(d))) for d in counted],
        "colour": [(which("colour", d), next(k.color for k in kinds if d.fits(k)))
                   for d in shapes if fitting(d) == 1],
        "shape": [(which("shape", d), next(k.shape for k in kinds if d.fits(k)))
                  for d in colors if fitting(d) == 1],
    }  # fmt: skip


def talk(number: int, given: Counter[tuple[str, str]], image_size: int) -> Trajectory:
    """A conversation about one scene; ``given`` counts the answers by kind, those of this one too."""
    rng, level = np.random.default_rng(number), LEVELS[1]
    kind = level.kinds[number % len(level.kinds)]
    question, scene = QUESTIONS[kind](rng, level)
    left = {name: list(asked) for name, asked in answerable(scene, level).items()}
    said: list[Asked] = []
    chosen: Asked = question.text, question.answer
    while True:
        said.append(chosen)
        given[kind, chosen[1]] += 1
        left = {name: kept for name, asked in left.items() if (kept := [a for a in asked if a != chosen])}
        if len(said) == QUESTIONS_EACH or not left:
            break
        kind = list(left)[int(rng.integers(len(left)))]
        rare = min({answer for _, answer in left[kind]}, key=lambda answer: (given[kind, answer], answer))
        fitting = [asked for asked in left[kind] if asked[1] == rare]
        chosen = fitting[int(rng.integers(len(fitting)))]
    picture = Image(paint(scene, image_size))
    sample = Sample.ask((picture, Text(said[0][0])), said[0][1], id=f"talk-{number}")
    turns = [Turn((*((picture,) if n == 0 else ()), Text(asked)), answer) for n, (asked, answer) in enumerate(said)]
    return Trajectory(sample.id, "vqa/shapes", number, sample.id, sample, tuple(turns), True, False)


def talks(count: int, image_size: int) -> list[Trajectory]:
    """``count`` conversations, always the same, with pictures of ``image_size`` pixels a side."""
    given = Counter[tuple[str, str]]()
    return [talk(number, given, image_size) for number in range(count)]
