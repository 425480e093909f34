"""The pictures that CLIP looks at: images and frames of videos, in the order in which they were shown.

Comes in: a trajectory and a turn.  Goes out: the pictures that its answer is compared with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Literal

import numpy as np

from mmrl.sample import Content, Image, Video
from mmrl.trajectory import Trajectory

Where = Literal["conversation", "observation"]


def even_frames(video: Video, count: int) -> tuple[Image, ...]:
    """At most ``count`` frames, evenly spaced from the first to the last; the middle one if ``count`` is 1."""
    shown = len(video.frames)
    if shown <= count:
        return video.frames
    places = np.linspace(0, shown - 1, count) if count > 1 else np.array([(shown - 1) / 2])
    return tuple(video.frames[int(i)] for i in np.rint(places))


def _in(content: Content, frames: int) -> Iterator[Image]:
    for part in content:
        if isinstance(part, Image):
            yield part
        elif isinstance(part, Video) and frames:
            yield from even_frames(part, frames)


def _shown(trajectory: Trajectory, turn: int, where: Where) -> Iterable[Content]:
    """What was shown up to the answer of ``turn``, or just before it."""
    if where == "conversation":
        later = (t.observation for t in trajectory.turns[1 : turn + 1])
        return chain((m.content for m in trajectory.sample.messages), later)
    if turn == 0:  # the first observation is the sample's last message
        return [m.content for m in trajectory.sample.messages[-1:]]
    return [trajectory.turns[turn].observation]


def pictures_at(trajectory: Trajectory, turn: int, images: str, where: Where, frames: int) -> tuple[Image, ...]:
    """The pictures that the answer of one turn is compared with.

    Args:
        trajectory: the episode.
        turn: which turn.
        images: ``first`` and ``last`` take one picture; everything else takes all.
        where: ``conversation`` or ``observation``.
        frames: frames taken from each video.
    """
    found = tuple(picture for content in _shown(trajectory, turn, where) for picture in _in(content, frames))
    cut = {"first": found[:1], "last": found[-1:]}
    return cut.get(images, found)
