"""A rubric: what a judge grades, on which scale, and how its verdict is read.

Comes in: criteria and a scale as the YAML has them; then the text of a judge's answer.  Goes out: the schema that asks
for a verdict, the grades in it, and their weighted mean in [0, 1].
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mmrl.errors import BadInput
from mmrl_plugins._checked import checked_pair, first_problem

REASON = "reason"
_NAME = re.compile(r"[A-Za-z][\w-]*", re.ASCII)


class Criterion(BaseModel):
    """One thing to grade."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    question: str = Field(min_length=1)
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)


@dataclass(frozen=True)
class Verdict:
    """What a judge says: a grade for each criterion, and why."""

    reason: str
    grades: Mapping[str, float]


@dataclass(frozen=True)
class Rubric:
    """Criteria by name, and the worst and the best grade."""

    criteria: Mapping[str, Criterion]
    low: float
    high: float

    @classmethod
    def read(cls, rubric: Any, scale: Any) -> Rubric:
        """Read a rubric; plain text is one criterion, called ``score``.

        Raises:
            BadInput: naming the key and what is wrong with it.
        """
        low, high = checked_pair("scale", scale)
        if isinstance(rubric, str) and rubric.strip():
            return cls({"score": Criterion(question=rubric)}, low, high)
        if not isinstance(rubric, Mapping) or not rubric:
            right = "text, or criteria by name such as {clear: {question: Is it clear?}}"
            raise BadInput(f"rubric is {right}, not {rubric!r:.80}")
        criteria: dict[str, Criterion] = {}
        for name, entry in cast("Mapping[Any, Any]", rubric).items():
            if not (isinstance(name, str) and _NAME.fullmatch(name)) or name == REASON:
                right = f"a letter, then letters, digits, _ or -, and not '{REASON}'"
                raise BadInput(f"rubric: the name of a criterion is {right}; {name!r:.80} is not")
            try:
                criteria[name] = Criterion.model_validate(entry)
            except ValidationError as error:
                raise BadInput(first_problem(error, "rubric", name)) from error
        return cls(criteria, low, high)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of a verdict: the reason first, so that a model thinks before it grades."""
        return (REASON, *self.criteria)

    def response_format(self) -> dict[str, Any]:
        """What makes a server answer with a verdict; without bounds, which not every server knows."""
        properties = {REASON: {"type": "string"}, **{name: {"type": "number"} for name in self.criteria}}
        schema = {
            "type": "object", "properties": properties, "required": list(self.keys), "additionalProperties": False,
        }  # fmt: skip
        return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}

    def verdict(self, text: str) -> Verdict:
        """Read a judge's answer.

        Raises:
            ValueError: if it is anything but one object of a reason and a grade on the scale for each criterion.
        """
        found = one_object(text)
        if found.keys() != set(self.keys):
            raise ValueError(f"the keys are {', '.join(found) or 'none'}, must be {', '.join(self.keys)}")
        if not isinstance(found[REASON], str):
            raise ValueError(f"{REASON} is {found[REASON]!r:.40}, must be text")
        for name in self.criteria:
            grade = found[name]
            if isinstance(grade, bool) or not isinstance(grade, int | float) or not self.low <= grade <= self.high:
                raise ValueError(f"{name} is {grade!r:.40}, must be a number from {self.low:g} to {self.high:g}")
        return Verdict(found[REASON], {name: found[name] for name in self.criteria})

    def value(self, verdict: Verdict) -> float:
        """The weighted mean of the grades, with the worst at 0 and the best at 1."""
        total = math.fsum(c.weight for c in self.criteria.values())
        parts = [c.weight * (verdict.grades[n] - self.low) for n, c in self.criteria.items()]
        return min(1.0, max(0.0, math.fsum(parts) / (total * (self.high - self.low))))


def one_object(text: str) -> dict[str, Any]:
    """The one JSON object in ``text``: all from its first brace to its last.

    Text around it is allowed, also a model's thoughts up to ``</think>``.  A second object, another brace or a key that
    comes twice is not: an object that the judge merely quotes is never taken for its verdict.

    Raises:
        ValueError: if that is not one object.
    """
    if not text.lstrip().startswith("{"):
        text = text.rpartition("</think>")[2]
    start, end = text.find("{"), text.rfind("}") + 1
    if start < 0 or end <= start:
        raise ValueError("no JSON object in it")
    if "}" in text[:start] or "{" in text[end:]:
        raise ValueError("not one JSON object from the first brace to the last")
    try:
        return json.loads(text[start:end], object_pairs_hook=_distinct)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not one JSON object from the first brace to the last: {error}") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key comes twice in it")
    return found
