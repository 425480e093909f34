import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl_plugins._boxes import Box, boxes_in, has_area, iou, matched, reference_boxes

ONE: Box = (1.0, 2.0, 30.0, 40.5)


@pytest.mark.parametrize("text", [
    "[1, 2, 30, 40.5]", "The dog is at [1,2,30,40.5].", "[ 1 2 30 40.5 ]", "(1, 2, 30, 40.5)", "[1, 2, 30, 40.5,]",
    '{"bbox_2d": [1, 2, 30, 40.5], "label": "dog"}', '```json\n[{"bbox": [1, 2, 30, 4.05e1]}]\n```',
    "[[1, 2, 30, 40.5]]", "<box>1, 2, 30, 40.5</box>", "<box>[1, 2, 30, 40.5]</box>", "<box>(1,2),(30,40.5)</box>",
    "<box> 1 2 30 40.5 </box>", "<|box_start|>(1,2),(30,40.5)<|box_end|>", "(1, 2) (30, 40.5)", "[[1, 2], [30, 40.5]]",
    "1, 2, 30, 40.5", " 1 2 30 40.5\n", "[+1, 2., 30.0, 40.50]", "I see 2 dogs (5): [1, 2, 30, 40.5] or so",
    "[1, 2, 3] [1, 2, 30, 40.5]",
])  # fmt: skip
def test_one_box_is_read(text: str) -> None:
    assert boxes_in(text) == [ONE]


@pytest.mark.parametrize("text", [
    "", "[]", "[1, 2, 3]", "[1, 2, 3, 4, 5]", "1 2 3 4 5", "at 1, 2, 3, 4", "[a, b, c, d]", "[1, 2, 3, x]",
    "[1; 2; 3; 4]", "[[[1, 2, 30, 40.5", "dog",
    "[1e999, 2, 3, 4]", "[nan, 2, 3, 4]", "[1, 2, 3, 4)", "<box>1, 2, 3</box>", "(1, 2)", "[[1, 2], [3]]", "[1,,2,3,4]",
    "[--1, 2, 3, 4]", "[1 2, 3 4 5]",
])  # fmt: skip
def test_no_box_is_read(text: str) -> None:
    assert boxes_in(text) == []


def test_several_boxes_in_order() -> None:
    text = 'a [0, 0, 1, 1] b <box>(1,1),(2,2)</box> {"box": [-3, 3, 4, 4e0]}'
    assert boxes_in(text) == [(0, 0, 1, 1), (1, 1, 2, 2), (-3, 3, 4, 4)]
    assert boxes_in("[[0, 0, 1, 1], [1, 1, 2, 2]]") == [(0, 0, 1, 1), (1, 1, 2, 2)]


@pytest.mark.parametrize(("reference", "expected"), [
    ([1, 2, 30, 40.5], [ONE]), ((1, 2, 30, 40.5), [ONE]), ([[1, 2, 30, 40.5]], [ONE]),
    ([[1, 2, 30, 40.5]] * 2, [ONE] * 2),
    ({"bbox": [1, 2, 30, 40.5]}, [ONE]), ([{"bbox_2d": [1, 2, 30, 40.5], "label": "dog"}], [ONE]),
    ({"box": "[1, 2, 30, 40.5]"}, [ONE]), ("[1, 2, 30, 40.5]", [ONE]), (["1 2 30 40.5"], [ONE]),
    (None, []), ("4", []), (4, []), (["4", "four"], []), ([], []), ([1, 2, 3], []), ([1, 2, 3, True], []),
    ([1, 2, 3, float("nan")], []), ({"label": "dog"}, []), ([[], [1, 2, 30, 40.5]], [ONE]),
])  # fmt: skip
def test_references(reference: Any, expected: list[Box]) -> None:
    assert reference_boxes(reference) == expected


@pytest.mark.parametrize(("one", "other", "expected"), [
    ((0, 0, 2, 2), (0, 0, 2, 2), 1.0),
    ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),  # shared 1, union 4 + 4 - 1
    ((0, 0, 4, 4), (1, 1, 3, 3), 0.25),  # inside: 4 of 16
    ((0, 0, 2, 1), (1, 0, 3, 1), 1 / 3),  # shared 1, union 3
    ((0, 0, 1, 1), (1, 0, 2, 1), 0.0),  # they touch
    ((0, 0, 1, 1), (5, 5, 6, 6), 0.0),
    ((0, 0, 1, 1), (0, 0, 1, 0), 0.0),  # no area
    ((0, 0, 0, 0), (0, 0, 0, 0), 0.0),
    ((2, 2, 0, 0), (0, 0, 2, 2), 0.0),  # corners swapped
    ((-2, -2, 2, 2), (0, -2, 2, 2), 0.5),
    ((0, 0, 1e300, 1e300), (0, 0, 1e300, 5e299), 0.5),
])  # fmt: skip
def test_iou_by_hand(one: Box, other: Box, expected: float) -> None:
    assert iou([one], [other]).tolist() == [[pytest.approx(expected, abs=1e-12)]]
    assert iou([other], [one]).tolist() == [[pytest.approx(expected, abs=1e-12)]]


def test_iou_of_each_with_each() -> None:
    overlaps = iou([(0, 0, 2, 2), (1, 1, 3, 3)], [(0, 0, 2, 2), (1, 1, 3, 3), (9, 9, 10, 10)])
    assert overlaps.tolist() == [[1.0, pytest.approx(1 / 7), 0.0], [pytest.approx(1 / 7), 1.0, 0.0]]
    assert iou([], [(0, 0, 1, 1)]).shape == (0, 1)


def test_pairs() -> None:
    assert matched(np.array([[0.9, 0.8], [0.7, 0.1]])) == [0.9, 0.1]  # greedy: 0.8 + 0.7 would be more
    assert matched(np.array([[0.5, 0.5]])) == [0.5]
    assert matched(np.array([[0.2], [0.6], [0.4]])) == [0.6]
    assert matched(np.array([[0.0, 0.0]])) == []


def test_area() -> None:
    assert has_area((0, 0, 1, 1))
    for box in ((0, 0, 0, 1), (0, 1, 1, 1), (1, 0, 0, 1), (0, 0, float("inf"), 1)):
        assert not has_area(box)


COORDINATE = st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(*[COORDINATE] * 4), max_size=5))
def test_boxes_are_read_as_json_writes_them(boxes: list[Box]) -> None:
    assert boxes_in(f"Here: {json.dumps(boxes)}") == boxes
    assert boxes_in(" ".join(f"<box>({a!r},{b!r}),({c!r},{d!r})</box>" for a, b, c, d in boxes)) == boxes


@given(st.lists(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 4), min_size=1, max_size=4))
def test_iou_is_symmetric_and_within_bounds(boxes: list[Box]) -> None:
    overlaps = iou(boxes, boxes)
    assert ((overlaps >= 0) & (overlaps <= 1)).all()
    assert (overlaps == overlaps.T).all()


@given(st.text("0123456789.,eE+-[]()<box>/ \n", max_size=80))
def test_any_text_gives_finite_numbers(text: str) -> None:
    assert all(np.isfinite(box).all() for box in boxes_in(text))


@pytest.mark.parametrize("piece", [
    "[", "(", "[1", "[1,", "[1,1,1,1", "(1,1)", "(1,1),", "[1,1],", "1,", "1 ", "<box>", "<box>1,1,1,", "1e", "1.", "-",
    "[ ", "[1,1,1,1] ", "[" + "1" * 100,
])  # fmt: skip
def test_long_hostile_text_is_no_trouble(piece: str) -> None:
    for tail in ("", "x", "]", " " * 50_000 + "x"):
        boxes_in(piece * 20_000 + tail)
