"""How many rows a run learns from and is evaluated on, where its environments draw them from tables.

A seed draws a row, so that many seeds may stand for few rows: whoever trains on a small data set should know.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from mmrl.config import Config, EnvironmentConfig
from mmrl.make import make

Counted = list[tuple[str, int]]
"""Ids of environments that draw rows, with how many there are."""


def rows_of(config: EnvironmentConfig) -> int | None:
    """The rows that an environment draws from; None where it makes its tasks on the spot."""
    with closing(make(config.id, **config.kwargs)) as env:
        return env.table_rows


def rows_said(config: Config) -> str | None:
    """The rows of a run's environments and those it is evaluated on, in words; None where no environment draws rows."""
    trained = _counted(config.environments)
    told = [_in_words(trained)] if trained else []
    held_out = evaluated_rows(config) if max(config.eval.episodes, config.eval.final_episodes) else ""
    told += [f"evaluated on {held_out}"] if held_out else []
    return f"rows: {'; '.join(told)}" if told else None


def evaluated_rows(config: Config) -> str:
    """The rows that a run is evaluated on, in words, and whether they are drawn again; empty where there are none."""
    held_out = _counted(config.eval.environments or config.environments)
    if not held_out:
        return ""
    said = "the same" if config.eval.environments is None else _in_words(held_out)
    most = max(config.eval.episodes, config.eval.final_episodes)
    again = f" (drawn again by {most} episodes; intervals count rows)" if any(n < most for _, n in held_out) else ""
    return said + again


def _counted(environments: Sequence[EnvironmentConfig]) -> Counted:
    return [(e.id, rows) for e in environments if (rows := rows_of(e)) is not None]


def _in_words(counted: Counted) -> str:
    return ", ".join(f"{rows:,} of {env_id}" for env_id, rows in counted)
