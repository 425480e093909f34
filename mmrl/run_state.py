"""Where a run stands, for what depends on it: scheduled weights, and plugins that name ``step`` or ``progress``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RunState:
    """Where a run stands while a batch of episodes is scored.

    Attributes:
        step: the optimiser batch these episodes are for, from 1; 0 outside of training.
        progress: share of the run that is over, in [0, 1].
        metrics: the newest value of every metric so far (``success``, ``reward/<plugin>``, ...); empty at first.
    """

    step: int = 0
    progress: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)


START = RunState()


def newest(known: Mapping[str, float], line: Mapping[str, Any]) -> dict[str, float]:
    """The newest value of every metric after one more step; what is no finite number leaves the value before it.

    Args:
        known: the values so far.
        line: the step's metrics, as logged or as read back.
    """
    numbers = {k: float(v) for k, v in line.items() if isinstance(v, int | float) and math.isfinite(v)}
    return {**known, **numbers}
