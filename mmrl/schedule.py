"""Weights that change while a run goes on: eased in or out by time, by step, or by what the run measures.

Comes in: the ``weight`` of a plugin's YAML entry (or another number that follows a schedule, such as
:data:`mmrl.turn_cap.TurnCap`), a number or a mapping with ``schedule``.  Goes out: its value at a
:class:`~mmrl.run_state.RunState`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Discriminator, Field, Tag, model_validator

from mmrl.run_state import RunState
from mmrl.section import Section

Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Schedule(Section):
    """A form of weight that moves."""


class _Ramp(_Schedule):
    """From one weight to another as x goes from ``start`` to ``end``; before and after it stays."""

    from_: Finite = Field(alias="from")
    """Weight before ``start``."""
    to: Finite
    """Weight after ``end``."""
    start: Finite = 0.0
    """Where the change begins."""
    end: Finite = 1.0
    """Where it is complete."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start >= self.end:
            raise ValueError(f"start ({self.start:g}) must lie before end ({self.end:g})")
        return self

    def share(self, x: float) -> float:
        """How much of the way is done at ``x``, in [0, 1]."""
        return min(1.0, max(0.0, (x - self.start) / (self.end - self.start)))

    def between(self, share: float) -> float:
        """The weight after ``share`` of the way."""
        return self.from_ + (self.to - self.from_) * share


class _OverTheRun(_Ramp):
    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.start < 0 or self.end > 1:
            raise ValueError(f"start and end are shares of the run in [0, 1], not {self.start:g} and {self.end:g}")
        return self


class Linear(_OverTheRun):
    """A straight line over the run; ``start`` and ``end`` are shares of the run in [0, 1]."""

    schedule: Literal["linear"]
    """``linear``."""

    def at(self, state: RunState) -> float:
        """The weight where the run stands."""
        return self.between(self.share(state.progress))


class Cosine(_OverTheRun):
    """Half a cosine over the run, slow at both ends; ``start`` and ``end`` are shares of the run in [0, 1]."""

    schedule: Literal["cosine"]
    """``cosine``."""

    def at(self, state: RunState) -> float:
        """The weight where the run stands."""
        return self.between((1 - math.cos(math.pi * self.share(state.progress))) / 2)


class ByMetric(_Ramp):
    """Follows the newest value of a metric; ``start`` and ``end`` are values of that metric."""

    schedule: Literal["metric"]
    """``metric``."""
    metric: str
    """Its name in ``metrics.jsonl``: ``success``, ``reward/<plugin>``, ...; ``from`` holds until it is known."""

    def at(self, state: RunState) -> float:
        """The weight where the run stands."""
        return self.between(self.share(state.metrics.get(self.metric, self.start)))


class Steps(_Schedule):
    """A new weight from each of the given steps on."""

    schedule: Literal["steps"]
    """``steps``."""
    values: dict[int, Finite] = Field(min_length=1)
    """Step from which it holds -> weight; before the first of them the first weight holds."""

    def at(self, state: RunState) -> float:
        """The weight where the run stands."""
        steps = sorted(self.values)
        return self.values[steps[max(0, bisect_right(steps, state.step) - 1)]]


Schedule = Linear | Cosine | ByMetric | Steps


def kind_of(value: Any) -> Any:
    """Which form of weight ``value`` takes: a schedule by its name, or a number."""
    if isinstance(value, _Schedule):
        return cast("Schedule", value).schedule
    return cast("dict[str, Any]", value).get("schedule") if isinstance(value, dict) else NUMBER


NUMBER = "number"
FORMS = "should be a number, or a mapping with schedule: linear, cosine, steps or metric"
TaggedSchedule = (
    Annotated[Linear, Tag("linear")]
    | Annotated[Cosine, Tag("cosine")]
    | Annotated[ByMetric, Tag("metric")]
    | Annotated[Steps, Tag("steps")]
)
"""A schedule, for a union with a number that :func:`kind_of` tells apart."""
Weight = Annotated[
    Annotated[Finite, Tag(NUMBER)] | TaggedSchedule,
    Discriminator(kind_of, custom_error_type="weight", custom_error_message=FORMS),
]
_TAGS = (NUMBER, "linear", "cosine", "metric", "steps")
_KEYS = ("weight", "max_turns")
"""Keys that take a schedule."""


def untagged(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The keys of pydantic's location of an error, without the form of weight that it tried there."""
    return tuple(p for i, p in enumerate(loc) if not (i and loc[i - 1] in _KEYS and p in _TAGS))


def weight_at(weight: float | Schedule, state: RunState) -> float:
    """The weight where the run stands."""
    return float(weight) if isinstance(weight, int | float) else weight.at(state)
