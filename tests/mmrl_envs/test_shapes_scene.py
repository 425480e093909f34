from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl_envs.shapes_scene import (
    COLORS,
    GRID,
    SHAPES,
    SIZES,
    Kind,
    Scene,
    Thing,
    caption,
    draw_cells,
    draw_scene,
    paint,
    plural,
)

GROUND = 245
KINDS = [Kind(*features) for features in product(SHAPES, COLORS, SIZES)]


def one(kind: Kind, cell: tuple[int, int] = (3, 2), shift: tuple[float, float] = (0.0, 0.0)) -> Scene:
    return Scene((Thing(kind, cell, shift),))


@pytest.mark.parametrize(
    ("shape", "share"),
    [("circle", np.pi / 4), ("square", 0.9025), ("triangle", 0.5), ("diamond", 0.5), ("cross", 0.51)],
)
def test_shapes_cover_their_share_of_the_square_around_them(shape: str, share: float) -> None:
    # on white ground a grey shape of value 120 takes 125 away from each pixel that it covers
    missing = GROUND - paint(one(Kind(shape, "grey", "large")), 700)[..., 0].astype(float)
    assert missing.sum() / 125 / 95**2 == pytest.approx(share, abs=0.01)


def test_a_star_has_its_tip_up_and_five_points() -> None:
    dark = paint(one(Kind("star", "grey", "large"), (0, 0)), 1400)[:200, :200, 0] < 200
    assert dark[12:20, 99:101].any()
    assert not dark[180:188, 99:101].any()
    middle, radius = 99.5, 75.0  # between tips (95 pixels) and notches (40)
    angles = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    ring = [dark[round(middle - radius * np.cos(a)), round(middle + radius * np.sin(a))] for a in angles]
    assert sum(now and not before for before, now in zip(ring[-1:] + ring[:-1], ring, strict=True)) == 5


@pytest.mark.parametrize("image_size", [56, 112])
def test_a_thing_is_painted_in_its_cell_and_nowhere_else(image_size: int) -> None:
    side = image_size // GRID
    for kind in KINDS:
        for shift in ((0.0, 0.0), (1.0, -1.0), (-1.0, 1.0)):
            picture = paint(one(kind, (5, 1), shift), image_size)
            cell = picture[side : 2 * side, 5 * side : 6 * side].copy()
            picture[side : 2 * side, 5 * side : 6 * side] = GROUND
            assert (picture == GROUND).all()
            if shift == (0.0, 0.0):
                assert tuple(cell[side // 2, side // 2]) == COLORS[kind.color]


def test_columns_go_right_rows_go_down_and_so_do_shifts() -> None:
    small = Kind("square", "blue", "small")
    middles = [np.argwhere(paint(one(small, (4, 2), shift), 700)[..., 0] < 200).mean(axis=0)
               for shift in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (-1.0, -1.0))]  # fmt: skip
    assert [tuple(np.round(m).astype(int)) for m in middles] == [(250, 450), (250, 470), (270, 450), (230, 430)]


@pytest.mark.parametrize("image_size", [56, 112])
def test_every_kind_looks_different(image_size: int) -> None:
    pictures = [paint(one(kind), image_size).astype(int) for kind in KINDS]
    apart = min(np.abs(a - b).sum() for a, b in combinations(pictures, 2))
    assert apart > 4 * 255  # four channels from one end to the other


@given(st.integers(0, 2**32), st.integers(0, 9), st.integers(0, 9))
def test_scenes_are_drawn_within_bounds(seed: int, first: int, second: int) -> None:
    fewest, most = sorted((first, second))
    scene = draw_scene(np.random.default_rng(seed), fewest=fewest, most=most, shapes=SHAPES, jitter=0.5)
    assert fewest <= len(scene.things) <= most
    assert len({thing.cell for thing in scene.things}) == len(scene.things)
    assert [t.cell[::-1] for t in scene.things] == sorted(t.cell[::-1] for t in scene.things)
    assert all(0 <= place < GRID for thing in scene.things for place in thing.cell)
    assert all(abs(shift) <= 0.5 for thing in scene.things for shift in thing.shift)
    assert scene == draw_scene(np.random.default_rng(seed), fewest=fewest, most=most, shapes=SHAPES, jitter=0.5)


def test_every_kind_is_drawn_and_equally_often() -> None:
    rng = np.random.default_rng(0)
    drawn = Counter(t.kind for _ in range(400) for t in draw_scene(rng, fewest=9, most=9, shapes=SHAPES).things)
    assert set(drawn) == set(KINDS)
    assert min(drawn.values()) > 25  # 50 on average
    assert max(drawn.values()) < 80


def test_taken_cells_are_left_alone() -> None:
    taken = [(column, row) for column in range(GRID) for row in range(GRID - 1)]
    assert sorted(draw_cells(np.random.default_rng(0), 7, taken)) == [(column, GRID - 1) for column in range(GRID)]


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ([], "nothing"),
        ([("circle", "red", "large")], "a large red circle"),
        ([("square", "blue", "small"), ("circle", "red", "large")], "a large red circle and a small blue square"),
        ([("cross", "grey", "small")] * 2 + [("star", "red", "large"), ("star", "red", "small")],
         "a small red star, a large red star and two small grey crosses"),
        ([("circle", "green", "small")] * 13, "13 small green circles"),
    ],
)  # fmt: skip
def test_caption(kinds: list[tuple[str, str, str]], words: str) -> None:
    things = tuple(Thing(Kind(*kind), (i % GRID, i // GRID)) for i, kind in enumerate(kinds))
    assert caption(Scene(things)) == words


@given(st.lists(st.sampled_from(KINDS), max_size=12), st.lists(st.sampled_from(KINDS), max_size=12))
def test_captions_are_equal_exactly_when_the_kinds_are(one: list[Kind], two: list[Kind]) -> None:
    words = [caption(Scene(tuple(Thing(kind, (i % GRID, i // GRID)) for i, kind in enumerate(kinds))))
             for kinds in (one, two)]  # fmt: skip
    assert (words[0] == words[1]) is (Counter(one) == Counter(two))


def test_plurals() -> None:
    assert [plural(shape) for shape in SHAPES] == ["circles", "squares", "triangles", "diamonds", "stars", "crosses"]
