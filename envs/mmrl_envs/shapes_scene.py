"""Flat scenes of coloured shapes: what is in them, the picture, and a caption.

Comes in: a random generator and the choices that a scene is drawn from.  Goes out: a frozen ``Scene``; ``paint``
makes its picture and ``caption`` its description, both fixed by the scene alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

GRID = 7
"""Cells along each side of a scene."""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 39, 40),
    "green": (44, 160, 60),
    "blue": (45, 85, 220),
    "purple": (150, 60, 200),
    "yellow": (228, 176, 0),
    "grey": (120, 120, 120),
}
"""MiniGrid's colour words, in its order, and their RGB values here."""

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "diamond", "star", "cross")
SIZES: dict[str, float] = {"small": 0.6, "large": 0.95}
"""The sizes, and the width of a shape in cells."""

_BACKGROUND = 245
_NUMBERS = ("no", "a", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_FINE = 8  # sample points along each side of a pixel, for smooth edges

Plane = NDArray[np.float64]
Cell = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Kind:
    """What an object looks like, wherever it lies."""

    shape: str
    color: str
    size: str


@dataclass(frozen=True, slots=True)
class Thing:
    """One object of a scene.

    Attributes:
        kind: what it looks like.
        cell: (column, row), each in 0..6, from the left and from the top.
        shift: (right, down), each in [-1, 1]: where it lies in its cell, 0 in the middle, 1 at the border.
    """

    kind: Kind
    cell: Cell
    shift: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Scene:
    """Objects in cells of their own, sorted by row and column."""

    things: tuple[Thing, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "things", tuple(sorted(self.things, key=lambda t: (t.cell[1], t.cell[0]))))


def draw_kind(
    rng: np.random.Generator, shapes: Sequence[str] = SHAPES[:3], colors: Sequence[str] = tuple(COLORS),
    sizes: Sequence[str] = tuple(SIZES),
) -> Kind:  # fmt: skip
    """Draw shape, colour and size, each evenly."""
    shape, color, size = rng.random(3)
    return Kind(shapes[int(shape * len(shapes))], colors[int(color * len(colors))], sizes[int(size * len(sizes))])


def draw_cells(rng: np.random.Generator, count: int, taken: Collection[Cell] = ()) -> list[Cell]:
    """Draw ``count`` different cells that are not ``taken``."""
    free = [(column, row) for row in range(GRID) for column in range(GRID) if (column, row) not in taken]
    return [free[int(i)] for i in rng.permutation(len(free))[:count]]


def place(rng: np.random.Generator, kind: Kind, cell: Cell, jitter: float) -> Thing:
    """Put a kind into a cell, off its middle by up to ``jitter`` (0 to 1) of the room that there is."""
    if not jitter:
        return Thing(kind, cell)
    right, down = rng.uniform(-jitter, jitter, size=2)
    return Thing(kind, cell, (float(right), float(down)))


def draw_scene(
    rng: np.random.Generator, *, fewest: int = 1, most: int = 3, shapes: Sequence[str] = SHAPES[:3],
    colors: Sequence[str] = tuple(COLORS), sizes: Sequence[str] = tuple(SIZES), jitter: float = 0.0,
) -> Scene:  # fmt: skip
    """Draw a scene: ``fewest`` to ``most`` objects, all choices even and independent.

    Args:
        rng: where all randomness comes from.
        fewest: the smallest number of objects.
        most: the largest number of objects, at most 49.
        shapes: the shapes to draw from, out of ``SHAPES``.
        colors: the colours to draw from, out of ``COLORS``.
        sizes: the sizes to draw from, out of ``SIZES``.
        jitter: how far objects lie off the middle of their cells, 0 to 1.
    """
    count = int(rng.integers(fewest, most, endpoint=True))
    cells = draw_cells(rng, count)
    return Scene(tuple(place(rng, draw_kind(rng, shapes, colors, sizes), cell, jitter) for cell in cells))


def _star(u: Plane, v: Plane) -> NDArray[np.bool_]:
    """A star of five points, one up: along each edge the radius is that of a straight line from tip to notch."""
    notch, half = 0.42, np.pi / 5
    angle = np.abs((np.arctan2(u, -v) + half) % (2 * half) - half)  # from the nearest tip
    edge = notch * np.sin(half) / (notch * np.sin(half - angle) + np.sin(angle))
    return np.hypot(u, v) <= edge


_INSIDE: dict[str, Callable[[Plane, Plane], NDArray[np.bool_]]] = {
    "circle": lambda u, v: u**2 + v**2 <= 1,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) <= 0.95,
    "triangle": lambda u, v: np.abs(u) <= (v + 1) / 2,
    "diamond": lambda u, v: np.abs(u) + np.abs(v) <= 1,
    "star": _star,
    "cross": lambda u, v: np.minimum(np.abs(u), np.abs(v)) <= 0.3,
}
"""Whether a point lies in a shape; ``u`` to the right and ``v`` down, each in [-1, 1] over the shape's width."""


@lru_cache(maxsize=256)
def _sprite(shape: str, color: str, width: int) -> tuple[Plane, Plane]:
    """A shape of ``width`` pixels: how much of each pixel stays background, and the colour to add to that."""
    axis = (np.arange(width * _FINE) + 0.5) / (width * _FINE) * 2 - 1
    fine = _INSIDE[shape](axis[None, :], axis[:, None])
    cover = fine.reshape(width, _FINE, width, _FINE).mean(axis=(1, 3))[..., None]
    return 1 - cover, cover * np.array(COLORS[color], dtype=np.float64)


def paint(scene: Scene, image_size: int = 112) -> NDArray[np.uint8]:
    """Paint a scene on a light ground.

    Args:
        scene: what to paint.
        image_size: width and height in pixels, a multiple of 7.

    Returns:
        RGB pixels, uint8, shape (image_size, image_size, 3).
    """
    canvas = np.full((image_size, image_size, 3), _BACKGROUND, dtype=np.uint8)
    side = image_size // GRID
    for thing in scene.things:
        width = round(SIZES[thing.kind.size] * side)
        rest, added = _sprite(thing.kind.shape, thing.kind.color, width)
        left, top = (
            index * side + round((side - width) / 2 * (1 + shift))
            for index, shift in zip(thing.cell, thing.shift, strict=True)
        )
        patch = canvas[top : top + width, left : left + width]
        patch[:] = np.rint(patch * rest + added)
    return canvas


def plural(shape: str) -> str:
    """The plural of a shape's name."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def caption(scene: Scene) -> str:
    """Say what is in a scene: "a large red circle and two small blue squares".

    Two scenes share a caption exactly when they hold the same kinds equally often; where things lie is not said.
    Kinds come in the order of shape, colour and size; up to twelve of a kind are counted in words.
    """
    counts = Counter(thing.kind for thing in scene.things)
    shapes, colors, sizes = list(SHAPES), list(COLORS), list(SIZES)
    kinds = sorted(counts, key=lambda k: (shapes.index(k.shape), colors.index(k.color), sizes.index(k.size)))
    phrases: list[str] = []
    for kind in kinds:
        count = counts[kind]
        number = _NUMBERS[count] if count < len(_NUMBERS) else str(count)
        phrases.append(f"{number} {kind.size} {kind.color} {kind.shape if count == 1 else plural(kind.shape)}")
    if len(phrases) < 2:
        return phrases[0] if phrases else "nothing"
    return f"{', '.join(phrases[:-1])} and {phrases[-1]}"
