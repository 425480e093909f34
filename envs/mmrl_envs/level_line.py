"""A line on a level, from what its class says of itself."""

from __future__ import annotations

import inspect
import re

_SENTENCE = re.compile(r".*?([.!?](?=\s)|(?=\n[A-Z])|$)", re.DOTALL)
"""Up to its stop; some of minigrid's have none, and the next begins on a line of its own."""


def level_line(level: object) -> str:
    """The first sentence of minigrid's description of a level, or of the class's own text; empty if it says nothing.

    Args:
        level: the class, or what else makes the level.
    """
    text = inspect.getdoc(level) or ""
    about = text.partition("## Description")[2] or text
    paragraph = about.partition("## ")[0].strip().partition("\n\n")[0]
    first = _SENTENCE.match(paragraph)
    return "" if first is None else " ".join(first[0].split())
