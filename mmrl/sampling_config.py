"""Which episodes a step learns from: the sections ``curriculum`` and ``replay`` of the configuration."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from mmrl.section import Section


class Curriculum(Section):
    """A mix that follows success: environments that succeed now and then get more tasks.

    The weight of environment i is its ``weight`` * max(floor, 4 p_i (1 - p_i)), where p_i is its smoothed success in
    training; it is largest where half of the episodes succeed.
    """

    smoothing: float = Field(default=0.8, ge=0, lt=1)
    """p_i = smoothing * p_i + (1 - smoothing) * the step's success, in every step that ran episodes of it."""
    floor: float = Field(default=0.1, gt=0, le=1)
    """The least share of its weight that an environment keeps, so that none is forgotten; 1: no curriculum."""


class Replay(Section):
    """Successes of earlier steps that are learned from again."""

    size: PositiveInt = 64
    """Trajectories remembered of each environment: those of the highest reward, the newest among equals."""
    share: float = Field(default=0.25, gt=0, lt=1)
    """Share of a full update's trajectories that are replayed ones; they come beside the fresh ones."""
