"""``mmrl check plugin``: what a reward plugin gives for small episodes, and whether it keeps its contract.

Comes in: a plugin's reference and arguments, an episode of the user's own.  Goes out: two tables, or one JSON object.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmrl.cli.options import parse_pairs, screen
from mmrl.plugin import RewardPlugin, by_compute, needs
from mmrl.plugin_config import DEFAULT_TIMEOUT_S
from mmrl.plugin_conformance import CHECKS, PluginCheck, run_check
from mmrl.plugin_episodes import Own, small
from mmrl.plugin_trial import LOADING, Trial
from mmrl.reward import Member, PluginConfig, RewardSuite, build_plugin
from mmrl.rows import jsonable
from mmrl.score import Score

LONGEST = 300  # characters of a table's cell
COLOURS = {"ok": "[green]ok[/]", "failed": "[red]FAILED[/]", "skipped": "[dim]skipped[/]"}


def plugin_(
    plugin: Annotated[
        str, typer.Argument(metavar="REF", help="A registered name, module:Class or path/file.py:Class.")
    ],
    kwargs: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Argument of the plugin; may be repeated.")
    ] = None,
    query: Annotated[str | None, typer.Option(metavar="TEXT", help="What every episode asks.")] = None,
    response: Annotated[str | None, typer.Option(metavar="TEXT", help="One more answer to score.")] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Every episode's reference: text, or a JSON list or object.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, as stdout's last line.")] = False,
) -> None:
    """Score small made-up episodes with a reward plugin, and run the conformance suite; exit code 1 if a check fails.

    The suite asks the plugin some 300 times, with texts of up to 200,000 characters. A time of more than 60 seconds,
    the limit in a run, fails.

    For example:

      mmrl check plugin exact_match

      mmrl check plugin my_rewards.py:Brevity --kwargs limit=20 --response "It is 4."

      mmrl check plugin my_rewards.py:BySolution --reference '{"solution": "4", "steps": 2}'
    """
    arguments = parse_pairs(kwargs or [], "--kwargs")
    entry = PluginConfig(name=plugin, kwargs=arguments, timeout_s=LOADING * DEFAULT_TIMEOUT_S)  # time to load a model
    own = Own(query, response, None if reference is None else read_reference(reference))
    made = build_plugin(entry)
    scores = _scored(made, entry, own, quiet=as_json)
    checks = _checked(entry, own, quiet=as_json)
    if as_json:
        print(json.dumps(as_record(entry, made, scores, checks)))
    if any(c.outcome == "failed" for c in checks) or any(s.status == "failed" for s in scores.values()):
        raise typer.Exit(1)


def read_reference(text: str) -> Any:
    """A reference as written on the command line: a list or an object in JSON, or else the text itself."""
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _scored(made: RewardPlugin, entry: PluginConfig, own: Own, quiet: bool) -> dict[str, Score]:
    """The small episodes' scores, as a run would have them; unless ``quiet`` they are shown."""
    fields = needs(made) if by_compute(made) else ["whole trajectories"]
    if not quiet:
        print(f"needs: {', '.join(fields)}\nrange: {made.range[0]:g} to {made.range[1]:g}")
    episodes = small(own)
    records = RewardSuite([Member(made, entry)]).score(list(episodes.values()))
    scores = {name: record.scores[entry.instance] for name, record in zip(episodes, records, strict=True)}
    if not quiet:
        screen().print(_score_table(entry.name, scores))
    return scores


def _checked(entry: PluginConfig, own: Own, quiet: bool) -> list[PluginCheck]:
    """The suite's results; unless ``quiet`` they are shown."""
    trial, results = Trial(lambda: build_plugin(entry), own), list[PluginCheck]()
    console = Console(stderr=True)
    with console.status("") as status:
        for name in CHECKS:
            status.update(f"checking {name}")
            results.append(run_check(name, trial))
    if not quiet:
        screen().print(_check_table(results))
        print(_counted(results))
    return results


def as_record(entry: PluginConfig, made: RewardPlugin, scores: Mapping[str, Score],
              checks: Sequence[PluginCheck]) -> dict[str, Any]:
    """The JSON object.

    Null stands for an open end of the range, for the value of a score that does not count, and for the needs of a
    plugin that is given whole trajectories.
    """
    return {
        "plugin": entry.name, "kwargs": jsonable(entry.kwargs), "cost": made.cost,
        "needs": needs(made) if by_compute(made) else None,
        "range": [float(end) if math.isfinite(end) else None for end in made.range],
        "episodes": [{"episode": name, "status": s.status, "value": float(s.value) if s.valid else None,
                      "info": jsonable(s.info)} for name, s in scores.items()],
        "checks": [{"check": c.name, "outcome": c.outcome, "detail": c.detail} for c in checks],
        **{outcome: sum(c.outcome == outcome for c in checks) for outcome in ("ok", "failed", "skipped")},
    }  # fmt: skip


def _score_table(title: str, scores: Mapping[str, Score]) -> Table:
    table = Table("episode", "status", "score", "info", title=_shown(title), title_justify="left")
    for name, score in scores.items():
        value = f"{score.value:g}" if score.valid else "-"
        table.add_row(name, score.status, value, _shown(", ".join(f"{k}: {v}" for k, v in score.info.items())))
    return table


def _check_table(checks: Sequence[PluginCheck]) -> Table:
    table = Table("check", "result", "what it promises, or what went wrong")
    for c in checks:
        promise = (inspect.getdoc(CHECKS[c.name]) or "").partition("\n")[0]
        note = f"{promise} ({c.detail})" if c.detail else promise
        table.add_row(c.name, COLOURS[c.outcome], _shown(note if c.outcome == "ok" else c.detail))
    return table


def _counted(checks: Sequence[PluginCheck]) -> str:
    count = {outcome: sum(c.outcome == outcome for c in checks) for outcome in COLOURS}
    skipped = f", {count['skipped']} skipped" if count["skipped"] else ""
    return f"{count['ok']} of {len(checks) - count['skipped']} checks passed{skipped}"


def _shown(text: str) -> Text:
    """The text without what a terminal or rich would take for a command, cut where it gets long."""
    cut = f"{text[:LONGEST]} ..." if len(text) > LONGEST else text
    return Text("".join(c if c.isprintable() else " " for c in cut), overflow="fold")
