"""Where a run stands, for what depends on it: scheduled weights, and plugins that name ``step`` or ``progress``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RunState:
    """Where a run stands while a batch of episodes is scored.

    Attributes:
        step: the optimiser batch these episodes are for, from 1; 0 outside of training.
        progress: share of the run that is over, in [0, 1].
        metrics: the numbers of the step before (``success``, ``reward/<plugin>``, ...); empty at the first.
    """

    step: int = 0
    progress: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)


START = RunState()
