"""The tables of ``mmrl score``.  Comes in: the record of :func:`mmrl.score_report.report`.  Goes out: text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from mmrl.cli.options import screen


def show(record: Mapping[str, Any]) -> None:
    """Print a record."""
    console = screen()
    console.print(headline(record), markup=False, highlight=False, soft_wrap=True)
    tables = [_plugins(record["plugins"]), _correlation(record["plugins"]), _reward(record["reward"])]
    for table in tables:
        console.print(table)
    console.print(agreement(record["reward"]), markup=False, highlight=False, soft_wrap=True)
    moved = record["moved"]
    if moved["top"]:
        console.print(_moved(moved))


def headline(record: Mapping[str, Any]) -> str:
    """What was scored by what."""
    first, last = record["steps"] or (None, None)
    when = "" if first is None else f" of step {first}" if first == last else f" of steps {first}-{last}"
    what = f"{record['rollouts']} rollouts{when} in {record['groups']} groups"
    changed = f" with {' '.join(record['overrides'])}" if record["overrides"] else ""
    return f"{record['run']}: {what}, scored by {record['config']}{changed}"


def agreement(reward: Mapping[str, Any]) -> str:
    """How far old and new reward rank the rollouts alike."""
    groups = reward["ranked_groups"]
    within = f"{_r(reward['spearman_within_groups'])} within groups (mean of {groups})" if groups else "- within groups"
    return f"rank correlation of old and new reward: {_r(reward['spearman'])} overall, {within}"


def _plugins(plugins: Mapping[str, Any]) -> Table:
    table = _table("plugin", "mean", "spread", "scored", "not applicable", "failed", "no spread")
    for name, p in plugins.items():
        table.add_row(escape(name), *_figures(p), str(p["not_applicable"]), str(p["failed"]), _flat(p))
    return table


def _correlation(plugins: Mapping[str, Any]) -> Table:
    table = _table("correlation", "success", *map(escape, plugins) if len(plugins) > 1 else ())
    for name, p in plugins.items():
        others = ["" if other == name else _r(p["correlation"][other]) for other in plugins if len(plugins) > 1]
        table.add_row(escape(name), _r(p["success"]), *others)
    return table


def _reward(reward: Mapping[str, Any]) -> Table:
    table = _table("reward", "mean", "spread", "scored", "no spread", "with success")
    for name in ("old", "new"):
        table.add_row(name, *_figures(reward[name]), _flat(reward[name]), _r(reward[name]["success"]))
    return table


def _moved(moved: Mapping[str, Any]) -> Table:
    table = _table("rollout", "step", "rank in group", "reward", "most by")
    table.title = f"{moved['rollouts']} rollouts changed places; those that moved most"
    table.title_justify = "left"
    for m in moved["top"]:
        by = "-" if m["plugin"] is None else f"{escape(m['plugin'])} {m['change']:+.3f}"
        table.add_row(escape(m["id"]), str(m["step"]), f"{m['old_rank']:g} -> {m['new_rank']:g}",
                      f"{m['old_reward']:.3f} -> {m['new_reward']:.3f}", by)  # fmt: skip
    return table


def _table(first: str, *others: str) -> Table:
    table = Table()
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _figures(column: Mapping[str, Any]) -> tuple[str, str, str]:
    return _number(column["mean"]), _number(column["spread"]), str(column["scored"])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _r(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _flat(column: Mapping[str, Any]) -> str:
    """The share of groups without spread, and of how many."""
    return "-" if column["no_spread"] is None else f"{column['no_spread']:.0%} of {column['compared_groups']}"
