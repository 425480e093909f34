"""A line on a level, from what its class says of itself."""

from __future__ import annotations

import inspect
import re

_SENTENCE = re.compile(r".*?[.!?](?=\s|$)", re.DOTALL)


def level_line(level: object) -> str:
    """The first sentence of minigrid's description of a level, or of the class's own text; empty if it says nothing.

    Args:
        level: the class, or what else makes the level.
    """
    text = inspect.getdoc(level) or ""
    about = text.partition("## Description")[2] or ("" if text.startswith("#") else text)
    paragraph = " ".join(about.partition("## ")[0].strip().partition("\n\n")[0].split())
    first = _SENTENCE.match(paragraph)
    return first[0] if first is not None else paragraph
