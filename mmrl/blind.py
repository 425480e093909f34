"""The blind baseline: what a policy scores when every image that it sees is replaced by plain grey.

Comes in: a policy.  Goes out: the same policy with its eyes shut.  What it still gets right, it gets right without
looking.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from mmrl.image import Image
from mmrl.policy import Completion, Policy, Remembering, Request, overlaps
from mmrl.sample import Content, Message, Part, Video

GREY = 128


class Blind:
    """A policy that sees grey images of the right sizes.

    Args:
        policy: who answers.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.overlapping = overlaps(policy)

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer each request without its images."""
        return await self._policy.generate(
            [dataclasses.replace(r, messages=tuple(blinded(m) for m in r.messages)) for r in requests]
        )

    def ended(self, episodes: Sequence[str]) -> None:
        """Tell a policy that remembers."""
        if isinstance(self._policy, Remembering):
            self._policy.ended(episodes)


def blinded(message: Message) -> Message:
    """``message`` with grey in the place of its images and frames."""
    return dataclasses.replace(message, content=_grey_content(message.content))


def _grey_content(content: Content) -> Content:
    return tuple(_grey_part(part) for part in content)


def _grey_part(part: Part) -> Part:
    if isinstance(part, Image):
        return grey(part)
    if isinstance(part, Video):
        return Video([grey(frame) for frame in part.frames], times=part.times)
    return part


def grey(image: Image) -> Image:
    """A plain grey image of the same size."""
    width, height = image.size
    return Image(np.full((height, width, 3), GREY, np.uint8))
