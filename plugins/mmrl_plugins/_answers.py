"""The two sides that an answer plugin compares: the answer in a response, and the acceptable references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from mmrl.errors import BadInput
from mmrl_plugins._text import is_tag, references, tagged


def tag_name(tag: Any) -> str | None:
    """``tag``, if it is None or a tag's name.

    Raises:
        BadInput: if it is neither.
    """
    if tag is not None and not is_tag(tag):
        raise BadInput(f"tag is a name such as 'answer' (without brackets), not {tag!r}")
    return tag


def answer_in(response: str, tag: str | None) -> tuple[str | None, str]:
    """The part of ``response`` that is judged: all of it, or what stands in the one ``<tag>...</tag>``.

    Returns:
        The answer and an empty string; or None and what is wrong.
    """
    return (response, "") if tag is None else tagged(response, tag)


def reference_texts(reference: Any) -> list[str]:
    """The acceptable answers as text.

    Raises:
        TypeError: if one is neither text nor a number.
    """
    accepted = [item for item in references(reference) if item is not None]
    for item in accepted:
        if not isinstance(item, str | int | float):
            raise TypeError(f"a reference is text or a number, or a list of them, not {type(item).__name__}")
    return [str(item) for item in accepted]


def answer_texts(reference: Any) -> list[str]:
    """The acceptable answers as text, each plain or as ``{"answer": ...}``, the way VQA's files give annotators.

    Raises:
        TypeError: if one is neither text nor a number, nor a mapping with ``answer``.
    """
    return reference_texts([_answer_of(item) for item in references(reference)])


def _answer_of(item: Any) -> Any:
    if not isinstance(item, Mapping):
        return item
    entry = cast("Mapping[str, Any]", item)
    if "answer" not in entry:
        raise TypeError(f"an annotator's entry has the key 'answer', not {', '.join(map(str, entry)) or 'nothing'}")
    return entry["answer"]
