"""The blind baseline sees grey, and nothing else changes."""

import asyncio
from collections.abc import Sequence

import numpy as np

from mmrl import Image, Message, Text, Video
from mmrl.blind import GREY, Blind
from mmrl.env import Env
from mmrl.policy import Completion, Request


class Recorder:
    def __init__(self) -> None:
        self.seen: list[Request] = []

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.seen += requests
        return [Completion("yes") for _ in requests]


def test_every_image_and_frame_is_grey_of_the_same_size() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    image, text = Image(noise), Text("What?")
    message = Message("user", (image, text, Video([image, image], fps=2.0)))
    policy = Recorder()
    request = Request("e", 0, (Message("system", (text,)), message), None, 0, (1, 2), Env.__new__(Env))
    assert asyncio.run(Blind(policy).generate([request])) == [Completion("yes")]
    (seen,) = policy.seen
    assert seen.messages[0] == request.messages[0]
    shown, same, video = seen.messages[1].content
    assert isinstance(shown, Image)
    assert isinstance(video, Video)
    for picture in (shown, *video.frames):
        assert picture.size == (4, 6)
        assert (picture.pixels == GREY).all()
    assert same == text
    assert video.times == (0.0, 0.5)
    assert (seen.episode, seen.turn, seen.seed) == ("e", 0, (1, 2))
