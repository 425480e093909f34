"""The texts that CLIP compares with images: an answer or a reference, by itself or in a template.

Comes in: the argument ``text``, a trajectory and a turn.  Goes out: the texts, of which the best counts.
"""

from __future__ import annotations

import string
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from mmrl.errors import BadInput
from mmrl.sample import text_of
from mmrl.trajectory import Trajectory
from mmrl_plugins._answers import answer_texts

FIELDS = ("response", "query", "reference")
_ALONE = {"response": "{response}", "reference": "{reference}"}


@dataclass(frozen=True)
class Template:
    """A text with places for what was asked, answered and right.

    Attributes:
        pattern: as ``str.format`` takes it.
        fields: the names of its places.
    """

    pattern: str
    fields: frozenset[str]

    def fill(self, **values: str) -> str:
        """The text with ``values`` in its places; values that have none are left out."""
        return self.pattern.format_map({name: values[name] for name in self.fields})


def template(argument: str, pattern: Any, known: Collection[str] = FIELDS) -> Template:
    """Read a template; the names ``response`` and ``reference`` alone stand for themselves.

    Args:
        argument: the name of the argument, for the message.
        pattern: what was given.
        known: the places that it may have.

    Raises:
        BadInput: if it is empty, is no template, or has other places.
    """
    places = ", ".join(f"{{{name}}}" for name in known)
    if not isinstance(pattern, str) or not pattern.strip():
        raise BadInput(f"{argument} is a text, in which {places} may stand, not {pattern!r}")
    pattern = _ALONE.get(pattern, pattern)
    try:
        parsed = [(name, spec, conversion) for _, name, spec, conversion in string.Formatter().parse(pattern)]
    except ValueError as error:
        raise BadInput(f"{argument} {pattern!r}: {error}; a brace by itself is written twice") from error
    fields = {name for name, _, _ in parsed if name is not None}
    plain = all(not spec and conversion is None for _, spec, conversion in parsed)
    if not plain or not fields <= set(known):
        raise BadInput(f"{argument} {pattern!r}: what stands in braces is one of {places}, and nothing more")
    return Template(pattern, frozenset(fields))


def main_template(text: Any) -> Template:
    """Read the argument ``text``.

    Raises:
        BadInput: if it is no template, or says the same whatever the episode.
    """
    made = template("text", text)
    if not made.fields:
        raise BadInput(f"text is 'response', 'reference' or a template such as 'a photo of {{response}}', not {text!r}")
    return made


def query_at(trajectory: Trajectory, turn: int) -> str:
    """What was asked before the answer of ``turn``: the sample's query, later what the environment said."""
    asked = text_of(trajectory.turns[turn].observation) if turn > 0 else ""
    return asked if asked.strip() else trajectory.sample.query


def texts_at(made: Template, trajectory: Trajectory, turn: int) -> tuple[str, ...]:
    """The texts of one turn, one for each reference if the template has a place for it.

    Returns:
        No text if the template wants a reference and there is none in words; an empty one if it wants the answer and
        that has no words.

    Raises:
        TypeError: if a reference is neither text nor a number, nor a mapping with ``answer``.
    """
    response, query = trajectory.turns[turn].response, query_at(trajectory, turn)
    accepted = ("",)
    if "reference" in made.fields:
        accepted = tuple(text for text in answer_texts(trajectory.sample.reference) if text.strip())
    if "response" in made.fields and not response.strip():
        return ("",) if accepted else ()
    return tuple(dict.fromkeys(made.fill(response=response, query=query, reference=r) for r in accepted))
