"""Pictures and conversations that tests of vision-language models share."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmrl.image import Image
from mmrl.sample import Message, Text


def picture(seed: int, width: int = 32, height: int = 32) -> Image:
    """Noise."""
    return Image(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def user(*parts: Any) -> Message:
    """A user's message of texts and pictures."""
    return Message("user", tuple(Text(p) if isinstance(p, str) else p for p in parts))


def said(text: str) -> Message:
    """An answer."""
    return Message("assistant", (Text(text),))


ONE, TWO, WIDE = picture(1), picture(2), picture(3, 48, 24)
SYSTEM = Message("system", (Text("Look."),))
CONVERSATION = [SYSTEM, user(ONE, "What?", WIDE), said("ball"), user("And here?", TWO)]
