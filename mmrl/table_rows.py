"""How many rows a run learns from and is evaluated on, where its environments draw them from tables.

A seed draws a row, so that many seeds may stand for few rows: whoever trains on a small data set should know.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from mmrl.config import Config, EnvironmentConfig
from mmrl.make import make

Counted = Sequence[tuple[EnvironmentConfig, int]]
"""Environments that draw rows, with how many there are."""
APART = "to hold rows back, give environments and eval.environments rows of their own (vqa: part: train, part: eval)"
"""What helps where a run is evaluated on what it learns from."""
LEARNED = ", which it learns from"
SOURCE = ("path", "folder", "dataset", "split")
"""Arguments that say which table an environment draws from."""


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
    """The rows that a run is evaluated on, in words, and whether they are drawn again; empty where there are none.

    Rows of a table that is trained on are said to be that, unless it is in two parts.  A run that learns from stored
    answers does not learn in its environments.
    """
    held_out = _counted(config.eval.environments or config.environments)
    if not held_out:
        return ""
    trained = [] if config.sft or config.logged else config.environments
    learned = [(e, n) for e, n in held_out if any(_overlap(e, t) for t in trained)]
    same = f"the same{LEARNED}" if learned else "the same"
    said = same if config.eval.environments is None else _in_words(held_out, learned)
    most = max(config.eval.episodes, config.eval.final_episodes)
    again = f" (drawn again by {most} episodes; intervals count rows)" if any(n < most for _, n in held_out) else ""
    return said + again + (f"; {APART}" if learned else "")


def _overlap(one: EnvironmentConfig, other: EnvironmentConfig) -> bool:
    """Whether two environments draw from the same rows, as far as their arguments tell."""
    if one.id != other.id or one.kwargs == other.kwargs:
        return one.id == other.id
    named, tables = [[e.kwargs.get(key) for key in SOURCE] for e in (one, other)], (one.kwargs, other.kwargs)
    parts = {kwargs.get("part", "all") for kwargs in tables}
    return any(named[0]) and named[0] == named[1] and (len(parts) == 1 or "all" in parts)


def _counted(environments: Sequence[EnvironmentConfig]) -> Counted:
    return [(e, rows) for e in environments if (rows := rows_of(e)) is not None]


def _in_words(counted: Counted, learned: Counted = ()) -> str:
    return ", ".join(f"{n:,} of {e.id}{LEARNED if (e, n) in learned else ''}" for e, n in counted)
