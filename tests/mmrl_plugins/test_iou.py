from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl import BadInput, Image, Sample, Score, Text, Trajectory, Turn
from mmrl_plugins.iou import Iou

PICTURE = Image(np.zeros((50, 200, 3), dtype=np.uint8))  # 200 wide, 50 high


def score(response: str, reference: Any, image: Image | None = None, **kwargs: Any) -> Score:
    sample = Sample.ask("Where is it?" if image is None else (image, Text("Where is it?")), reference)
    turn = Turn(sample.messages[-1].content, response)
    return Iou(**kwargs).compute(response, reference, Trajectory("t", "e", 0, "g", sample, (turn,), True, False))


def value(response: str, reference: Any, image: Image | None = None, **kwargs: Any) -> float:
    scored = score(response, reference, image, **kwargs)
    assert scored.valid
    return scored.value


def near(expected: float) -> Any:
    return pytest.approx(expected, abs=1e-12)


def test_one_box() -> None:
    assert value("[0, 0, 2, 2]", [0, 0, 2, 2]) == 1.0
    assert value("It is at [0, 0, 2, 2].", {"bbox": [1, 1, 3, 3]}) == near(1 / 7)
    assert value("[0, 0, 2, 2]", [5, 5, 6, 6]) == 0.0
    assert score("[0, 0, 2, 2]", [0, 0, 2, 2]).info == {"boxes": [[0.0, 0.0, 2.0, 2.0]]}


def test_several_boxes_are_all_to_be_found() -> None:
    right = [[0, 0, 2, 2], [10, 10, 12, 12]]
    assert value("[[10, 10, 12, 12], [0, 0, 2, 2]]", right) == 1.0
    assert value("[0, 0, 2, 2]", right) == 0.5  # one is left out
    assert value("[[0, 0, 2, 2], [11, 11, 13, 13]]", right) == near((1 + 1 / 7) / 2)
    assert value("[[0, 0, 2, 2], [0, 0, 2, 2]]", right) == 0.5  # the same one twice
    assert value("[[0, 0, 2, 2], [10, 10, 12, 12], [20, 20, 22, 22], [30, 30, 31, 31]]", right) == 0.5


def test_listing_boxes_gains_nothing() -> None:
    grid = " ".join(f"[{x}, {y}, {x + 2}, {y + 2}]" for x in range(0, 20, 2) for y in range(0, 20, 2))
    for several in ("all", "any"):
        assert value(grid, [4, 4, 6, 6], several=several) == near(0.01)


def test_several_boxes_of_which_any_will_do() -> None:
    right = [[0, 0, 2, 2], [10, 10, 12, 12]]
    assert value("[10, 10, 12, 12]", right, several="any") == 1.0
    assert value("[1, 1, 3, 3]", right, several="any") == near(1 / 7)
    assert value("[10, 10, 12, 12] [5, 5, 6, 6]", right, several="any") == 0.5


def test_threshold() -> None:
    assert value("[0, 0, 2, 1]", [0, 0, 2, 2], threshold=0.5) == 1.0
    assert value("[0, 0, 2, 0.9]", [0, 0, 2, 2], threshold=0.5) == 0.0
    assert value("[[0, 0, 2, 2], [9, 9, 10, 10]]", [[0, 0, 2, 2], [10, 10, 12, 12]], threshold=0.5) == 0.5
    for threshold in (0.0, 1.5, -1.0, True, "high"):
        with pytest.raises(BadInput, match="threshold is a number above 0"):
            Iou(threshold=threshold)


def test_formats() -> None:
    assert value("[1, 2, 3, 4]", [1, 2, 4, 6], format="xywh", reference_format="xyxy") == 1.0
    assert value("[1, 2, 4, 6]", [1, 2, 3, 4], reference_format="xywh") == 1.0
    assert value("[5, 5, 2, 2]", [5, 5, 2, 2], format="xywh") == 1.0
    assert value("[5, 5, 2, 2]", [5, 5, 7, 7]) == 0.0


def test_scales() -> None:
    pixels = [50, 10, 100, 20]  # of 200 x 50
    assert value("[0.25, 0.2, 0.5, 0.4]", pixels, PICTURE, scale="unit", reference_scale="pixel") == near(1.0)
    assert value("[250, 200, 500, 400]", pixels, PICTURE, scale="thousand", reference_scale="pixel") == near(1.0)
    assert value("[50, 10, 100, 20]", [0.25, 0.2, 0.5, 0.4], PICTURE, reference_scale="unit") == near(1.0)
    assert value("[250, 200, 500, 400]", [0.25, 0.2, 0.5, 0.4], scale="thousand", reference_scale="unit") == near(1.0)
    assert value("[250, 200, 500, 400]", [250, 200, 500, 400], scale="thousand") == 1.0
    assert value("[250, 200, 250, 200]", pixels, PICTURE, scale="thousand", format="xywh", reference_scale="pixel",
                 reference_format="xyxy") == near(1.0)
    with pytest.raises(ValueError, match="no image to take its size of"):
        score("[0, 0, 1, 1]", pixels, scale="unit", reference_scale="pixel")


@pytest.mark.parametrize(("response", "problem"), [
    ("no idea", "no box of four numbers"), ("[1, 2, 3]", "no box of four numbers"), ("", "no box of four numbers"),
    ("[3, 3, 1, 1]", "the box [3.0, 3.0, 1.0, 1.0] (left, top, right, bottom) has no area"),
    ("[0, 0, 2, 2] [5, 5, 5, 5]", "the box [5.0, 5.0, 5.0, 5.0] (left, top, right, bottom) has no area"),
    ("[0, 0, 2, 2] " * 1001, "1001 boxes, more than 1000"),
])  # fmt: skip
def test_a_malformed_answer_is_worth_nothing_and_told_why(response: str, problem: str) -> None:
    scored = score(response, [0, 0, 2, 2])
    assert (scored.value, scored.valid, scored.info) == (0.0, True, {"problem": problem})


def test_width_and_height_must_be_positive() -> None:
    for response in ("[1, 1, 0, 2]", "[1, 1, -1, 2]", "[1e308, 1, 1e308, 2]"):
        assert "has no area" in score(response, [1, 1, 2, 2], format="xywh").info["problem"]


def test_references() -> None:
    for reference in (None, [], "4", 4, ["4", "four"], {"label": "dog"}):
        assert score("[0, 0, 1, 1]", reference).status == "not_applicable"
    with pytest.raises(ValueError, match=r"the reference: the box \[2.0, 2.0, 1.0, 1.0\] .* has no area"):
        score("[0, 0, 1, 1]", [2, 2, 1, 1])


def test_tag() -> None:
    said = "Not [9, 9, 10, 10]. <answer>[0, 0, 2, 2]</answer>"
    assert value(said, [0, 0, 2, 2], tag="answer") == 1.0
    assert value(said, [0, 0, 2, 2]) == 0.5
    assert score("[0, 0, 2, 2]", [0, 0, 2, 2], tag="answer").info["problem"].startswith("0 times <answer>")


@pytest.mark.parametrize(("kwargs", "message"), [
    ({"format": "xxyy"}, "format is one of xyxy, xywh"), ({"reference_format": "x"}, "reference_format is one of"),
    ({"scale": "cm"}, "scale is one of pixel, unit, thousand"),
    ({"reference_scale": "cm"}, "reference_scale is one of"),
    ({"scale": ["pixel"]}, "scale is one of"),
    ({"several": "some"}, "several is one of all, any"), ({"tag": "<box>"}, "without brackets"),
])  # fmt: skip
def test_arguments(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Iou(**kwargs)


@given(st.text("0123456789.,e-[]()<box>/ ", max_size=80))
def test_any_text_is_within_range(text: str) -> None:
    for several in ("all", "any"):
        assert 0.0 <= value(text, [[0, 0, 2, 2], [1, 1, 5, 5]], several=several) <= 1.0
