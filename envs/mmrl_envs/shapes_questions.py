"""Questions about scenes of shapes, each with a scene in which a given answer is right.

Comes in: a random generator and a level.  Goes out: a question and its scene.  Words and answer are drawn first and
independently of each other, and so is the number of objects where the answer is not itself a number of objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmrl_envs.picture_question import YES_NO, Question, pick
from mmrl_envs.shapes_scene import COLORS, SHAPES, SIZES, Cell, Kind, Scene, draw_cells, draw_kind, place, plural

_ALL_COLORS = tuple(COLORS)
_ALL_SIZES = tuple(SIZES)


@dataclass(frozen=True, slots=True)
class Level:
    """What scenes and questions of one difficulty are drawn from.

    Attributes:
        fewest: the smallest number of objects, unless a question needs more.
        most: the largest number of objects.
        shapes: the shapes.
        colors: the colours.
        jitter: how far objects lie off the middle of their cells, 0 to 1.
        sized: whether questions tell objects apart by size as well.
        counted: the largest answer to "How many".
        compared: the largest number of objects on one side of a comparison.
        kinds: the kinds of questions that are asked by default.
    """

    fewest: int
    most: int
    shapes: tuple[str, ...]
    colors: tuple[str, ...]
    jitter: float
    sized: bool
    counted: int
    compared: int
    kinds: tuple[str, ...]


_EASY = ("existence", "colour", "shape", "count")
LEVELS: dict[int, Level] = {
    1: Level(1, 4, SHAPES[:3], ("red", "green", "blue", "yellow"), 0.0, False, 3, 2, _EASY),
    2: Level(2, 6, SHAPES[:3], _ALL_COLORS, 0.5, True, 4, 3, (*_EASY, "size", "relation")),
    3: Level(4, 9, SHAPES, _ALL_COLORS, 1.0, True, 5, 4, (*_EASY, "size", "relation", "comparison")),
}


@dataclass(frozen=True, slots=True)
class Description:
    """Some features of an object; None stands for any."""

    shape: str | None = None
    color: str | None = None
    size: str | None = None

    def fits(self, kind: Kind) -> bool:
        """Whether a kind has these features."""
        wanted = (self.shape, kind.shape), (self.color, kind.color), (self.size, kind.size)
        return all(mine is None or mine == its for mine, its in wanted)

    def words(self, *, many: bool = False) -> str:
        """In words: "small red circle", "red objects"."""
        noun = self.shape or "object"
        return " ".join(filter(None, (self.size, self.color, plural(noun) if many else noun)))


def how_many(asked: Description) -> str:
    """The question for a number."""
    return f"How many {asked.words(many=True)} are there?"


def is_there(asked: Description) -> str:
    """The question whether there is one."""
    return f"Is there a {asked.words()}?"


def which(what: str, asked: Description) -> str:
    """The question for a feature, such as "colour", of the only one."""
    return f"What {what} is the {asked.words()}?"


def _draw_kind(rng: np.random.Generator, level: Level) -> Kind:
    return draw_kind(rng, level.shapes, level.colors, _ALL_SIZES)


def _with(kind: Kind, description: Description) -> Kind:
    """The kind with the description's features."""
    features = {n: v for n in ("shape", "color", "size") if (v := getattr(description, n)) is not None}
    return replace(kind, **features)


def _filler(rng: np.random.Generator, level: Level, asked: Sequence[Description]) -> Kind:
    """An object that no description fits; half of them come near, with all features but one."""
    while True:
        kind = _draw_kind(rng, level)
        if rng.random() < 0.5:
            near = pick(rng, asked)
            given = [name for name in ("shape", "color", "size") if getattr(near, name) is not None]
            kind = _with(kind, replace(near, **{pick(rng, given): None}))
        if not any(description.fits(kind) for description in asked):
            return kind


def _scene(
    rng: np.random.Generator, level: Level, kinds: Sequence[Kind], asked: Sequence[Description], *, at_least: int = 0,
    cells: Sequence[Cell] = (),
) -> Scene:  # fmt: skip
    """A scene with ``kinds`` (the first ones in ``cells``) and otherwise only objects that nobody asked about."""
    needed = max(level.fewest, at_least, len(kinds))
    total = int(rng.integers(needed, max(needed, level.most), endpoint=True))
    fillers = [_filler(rng, level, asked) for _ in range(total - len(kinds))]
    places = [*cells, *draw_cells(rng, total - len(cells), cells)]
    return Scene(tuple(place(rng, k, cell, level.jitter) for k, cell in zip([*kinds, *fillers], places, strict=True)))


def _pair(rng: np.random.Generator, level: Level) -> Description:
    """A description by colour and shape."""
    return Description(pick(rng, level.shapes), pick(rng, level.colors))


def _maybe_sized(rng: np.random.Generator, level: Level, description: Description) -> Description:
    """The description, on higher levels half the time with a size."""
    sized = level.sized and rng.random() < 0.5
    return replace(description, size=pick(rng, _ALL_SIZES)) if sized else description


Drawn = tuple[Question, Scene]


def count(rng: np.random.Generator, level: Level) -> Drawn:
    """How many objects have a colour, a shape, or both."""
    pair = _pair(rng, level)
    asked = pick(rng, (pair, replace(pair, color=None), replace(pair, shape=None)))
    answer = int(rng.integers(level.counted, endpoint=True))
    kinds = [_with(_draw_kind(rng, level), asked) for _ in range(answer)]
    answers = tuple(str(n) for n in range(level.counted + 1))
    question = Question(how_many(asked), str(answer), answers)
    return question, _scene(rng, level, kinds, [asked], at_least=level.counted)


def existence(rng: np.random.Generator, level: Level) -> Drawn:
    """Whether an object of a colour and a shape is there."""
    asked = _maybe_sized(rng, level, _pair(rng, level))
    answer = pick(rng, YES_NO)
    kinds = [_with(_draw_kind(rng, level), asked)] if answer == "yes" else []
    question = Question(is_there(asked), answer, YES_NO)
    return question, _scene(rng, level, kinds, [asked], at_least=1)


def _feature(
    rng: np.random.Generator, level: Level, what: str, asked: Description, answers: tuple[str, ...], name: str
) -> Drawn:
    """Ask for the feature ``name`` of the only object that ``asked`` fits."""
    answer = pick(rng, answers)
    kind = replace(_with(_draw_kind(rng, level), asked), **{name: answer})
    return Question(which(what, asked), answer, answers), _scene(rng, level, [kind], [asked])


def colour(rng: np.random.Generator, level: Level) -> Drawn:
    """Which colour the only object of a shape has."""
    asked = _maybe_sized(rng, level, Description(shape=pick(rng, level.shapes)))
    return _feature(rng, level, "colour", asked, level.colors, "color")


def shape(rng: np.random.Generator, level: Level) -> Drawn:
    """Which shape the only object of a colour has."""
    asked = _maybe_sized(rng, level, Description(color=pick(rng, level.colors)))
    return _feature(rng, level, "shape", asked, level.shapes, "shape")


def size(rng: np.random.Generator, level: Level) -> Drawn:
    """Whether an object is small or large."""
    return _feature(rng, level, "size", _pair(rng, level), _ALL_SIZES, "size")


_RELATIONS: dict[str, tuple[int, int]] = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
"""The axis that counts (0 for columns, 1 for rows), and on which side of the other object this one lies."""


def relation(rng: np.random.Generator, level: Level) -> Drawn:
    """Whether one object lies on a side of another; if not, it lies on the opposite side."""
    one = other = _pair(rng, level)
    while other == one:
        other = _pair(rng, level)
    words = pick(rng, tuple(_RELATIONS))
    answer = pick(rng, YES_NO)
    axis, side = _RELATIONS[words]
    side = side if answer == "yes" else -side
    cells: list[Cell] = draw_cells(rng, 2)
    while (cells[0][axis] - cells[1][axis]) * side <= 0:
        cells = draw_cells(rng, 2)
    kinds = [_with(_draw_kind(rng, level), asked) for asked in (one, other)]
    question = Question(f"Is the {one.words()} {words} the {other.words()}?", answer, YES_NO)
    return question, _scene(rng, level, kinds, [one, other], cells=cells)


def comparison(rng: np.random.Generator, level: Level) -> Drawn:
    """Whether there are more of one shape or colour than of another; in a quarter of the noes equally many."""
    values, name = pick(rng, ((level.shapes, "shape"), (level.colors, "color")))
    one, other = (Description(**{name: values[int(i)]}) for i in rng.permutation(len(values))[:2])
    answer = pick(rng, YES_NO)
    fewer, more = sorted(int(n) for n in rng.choice(level.compared + 1, size=2, replace=False))
    if answer == "no":
        more, fewer = (fewer, more) if rng.random() < 0.75 else (more, more)
    kinds = [_with(_draw_kind(rng, level), asked) for asked, n in ((one, more), (other, fewer)) for _ in range(n)]
    text = f"Are there more {one.words(many=True)} than {other.words(many=True)}?"
    scene = _scene(rng, level, kinds, [one, other], at_least=2 * level.compared - 1)
    return Question(text, answer, YES_NO), scene


QUESTIONS: dict[str, Callable[[np.random.Generator, Level], Drawn]] = {
    "count": count, "colour": colour, "shape": shape, "size": size, "relation": relation, "existence": existence,
    "comparison": comparison,
}  # fmt: skip
"""How a question of each kind is drawn, together with its scene."""
