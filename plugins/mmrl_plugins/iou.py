"""How well the boxes that the answer names cover those of the reference.

Comes in: the last answer, the reference's box or boxes and, where their scales differ, the image's size.  Goes out:
intersection over union, in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.trajectory import Trajectory
from mmrl_plugins._answers import answer_in, tag_name
from mmrl_plugins._arguments import one_of, share
from mmrl_plugins._boxes import FORMATS, MAX_BOXES, Box, boxes_in, has_area, iou, matched, reference_boxes

Size = tuple[float, float]
SCALES: dict[str, Size | None] = {"pixel": None, "unit": (1.0, 1.0), "thousand": (1000.0, 1000.0)}
"""What the image's width and height measure; None: its pixels."""


def all_of(said: Sequence[Box], right: Sequence[Box], worth: Callable[[float], float]) -> float:
    """The worth of the overlaps of the pairs, over the number of boxes on the side that has more."""
    return sum(map(worth, matched(iou(said, right)))) / max(len(said), len(right))


def any_of(said: Sequence[Box], right: Sequence[Box], worth: Callable[[float], float]) -> float:
    """The mean over the boxes in the answer of the worth of each one's best overlap."""
    return sum(worth(float(value)) for value in iou(said, right).max(axis=1)) / len(said)


SEVERAL = {"all": all_of, "any": any_of}
"""What several boxes in the reference mean."""


class Iou(RewardPlugin):
    """How well do the boxes in the answer cover those of the reference?  In [0, 1]; microseconds.

    Intersection over union (the Jaccard index), as PASCAL VOC and RefCOCO measure.  One box against one: their overlap.
    Several: boxes are paired, the greatest overlap first, and the overlaps of the pairs are added up and divided by the
    number of boxes on the side that has more, so that listing boxes gains nothing and leaving one out costs.

    Boxes are read from ``[x1, y1, x2, y2]`` anywhere (JSON included), ``(x1, y1), (x2, y2)``, ``<box>...</box>`` or a
    text of four numbers.  The reference is four numbers, ``{"bbox": [...]}`` (or ``box``, ``bbox_2d``), a text, or a
    list of these; not applicable without one.  A malformed answer, or one with a box without area (corners swapped),
    scores 0, and ``info`` says why.

    Failure modes: boxes in the reasoning count as named: have the answer put into a tag.  Some models write pixels of
    the image as they resized it; with ``scale: pixel`` that is another image.  Without a threshold, a box around the
    whole image earns the object's share of it.

    Args:
        tag: read only what stands in ``<tag>...</tag>``; an answer in which that pair does not occur exactly once
            scores 0.
        format: the answer's four numbers: ``xyxy`` (two corners) or ``xywh`` (corner, width, height).
        scale: what the answer's numbers measure: ``pixel``, ``unit`` (0 to 1) or ``thousand`` (0 to 1000).
        reference_format: the same for the reference; None: as in the answer.
        reference_scale: the same for the reference; None: as in the answer.  Where only one side is in pixels, the size
            is that of the episode's first image.
        threshold: make each overlap 1 if it is at least this, else 0 (0.5 is RefCOCO's accuracy); in (0, 1].
        several: several boxes in the reference are to be found ``all``, or are alternatives, of which ``any`` will do.

    Raises:
        BadInput: for a value that is none of these.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(self, tag: str | None = None, format: Literal["xyxy", "xywh"] = "xyxy",
                 scale: Literal["pixel", "unit", "thousand"] = "pixel", reference_format: str | None = None,
                 reference_scale: str | None = None, threshold: float | None = None,
                 several: Literal["all", "any"] = "all") -> None:
        self.tag = tag_name(tag)
        other_format = format if reference_format is None else one_of("reference_format", reference_format, FORMATS)
        self.formats = FORMATS[one_of("format", format, FORMATS)], FORMATS[other_format]
        other_scale = scale if reference_scale is None else one_of("reference_scale", reference_scale, SCALES)
        self.scales = SCALES[one_of("scale", scale, SCALES)], SCALES[other_scale]
        self.threshold = None if threshold is None else share("threshold", threshold)
        self.joined = SEVERAL[one_of("several", several, SEVERAL)]

    def compute(self, response: str, reference: Any, trajectory: Trajectory) -> Score:
        """Compare the boxes in ``response`` with ``reference``.

        Raises:
            ValueError: if a box of the reference has no area, if it has more than 1000, or if the image's size is
                needed and there is no image.
        """
        right = [self.formats[1](box) for box in reference_boxes(reference)]
        if not right:
            return Score.not_applicable(reason="the sample's reference names no box")
        if problem := _problem(right):
            raise ValueError(f"the reference: {problem}")
        answer, problem = answer_in(response, self.tag)
        said = [] if answer is None else [self.formats[0](box) for box in boxes_in(answer)]
        problem = problem or _problem(said)
        if problem:
            return Score(0.0, info={"problem": problem})
        said, right = self.on_one_scale(said, right, trajectory)
        return Score(self.joined(said, right, self.worth), info={"boxes": [list(box) for box in said[:10]]})

    def worth(self, overlap: float) -> float:
        """What an overlap counts for: itself, or whether it reaches the threshold."""
        return overlap if self.threshold is None else float(overlap >= self.threshold)

    def on_one_scale(self, said: list[Box], right: list[Box],
                     trajectory: Trajectory) -> tuple[list[Box], list[Box]]:
        """The boxes of both sides, measured alike: as they are, or as shares of the image's width and height."""
        if self.scales[0] == self.scales[1]:
            return said, right
        sizes = [_image_size(trajectory) if size is None else size for size in self.scales]
        return _shares(said, sizes[0]), _shares(right, sizes[1])


def _problem(boxes: Sequence[Box]) -> str:
    if not boxes:
        return "no box of four numbers"
    if len(boxes) > MAX_BOXES:
        return f"{len(boxes)} boxes, more than {MAX_BOXES}"
    empty = next((box for box in boxes if not has_area(box)), None)
    return "" if empty is None else f"the box {list(empty)} (left, top, right, bottom) has no area"


def _image_size(trajectory: Trajectory) -> Size:
    image = next((image for message in trajectory.messages for image in message.images), None)
    if image is None:
        raise ValueError("one of scale and reference_scale is pixel, and the episode has no image to take its size of")
    width, height = image.size
    return float(width), float(height)


def _shares(boxes: Sequence[Box], size: Size) -> list[Box]:
    width, height = size
    return [(x1 / width, y1 / height, x2 / width, y2 / height) for x1, y1, x2, y2 in boxes]
