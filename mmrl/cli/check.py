"""``mmrl check``: a configuration, an environment or a plugin, before it costs an hour."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mmrl.check_config import check_config
from mmrl.cli.check_plugin import plugin_
from mmrl.cli.options import parse_pairs, screen
from mmrl.config import EPOCH_TASKS, Config, EnvironmentConfig
from mmrl.config_load import LoadedConfig, load_config
from mmrl.ready import loads
from mmrl.reward import Member, RewardSuite
from mmrl.run_state import RunState
from mmrl.schedule import ByMetric, Schedule, weight_at
from mmrl.table_rows import evaluated_rows, rows_of

app = typer.Typer(no_args_is_help=True, help="Check a configuration, an environment or a plugin.")


@app.command("config")
def config_(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The run's YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Any key of it, as key.path=value.")
    ] = None,
) -> None:
    """Check a configuration as train would, and say what would run. No model is loaded.

    For example:

      mmrl check config configs/babyai_goto.yaml training_args.max_steps=10
    """
    loaded = load_config(config, overrides or [])
    _, suite = check_config(loaded)
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in summary(loaded, suite):
        table.add_row(name, value)
    screen().print(table, markup=False, highlight=False)


def summary(loaded: LoadedConfig, suite: RewardSuite) -> list[tuple[str, str]]:
    """What a configuration would do, as (what, value) rows."""
    c, out = loaded.config, loaded.output_dir
    rows = [("learner", c.train_type), ("model", c.model_id + (", LoRA" if c.training_args.lora else ", all weights"))]
    rows += [("environment", _environment(e)) for e in c.environments]
    rows += [("evaluated in", _what(e)) for e in c.eval.environments or []]
    rows += [("reward", _reward(member)) for member in suite.members]
    rows += [("steps", _steps(c)), ("batch", _batch(c)), ("rollout", _rollout(c)), *_course(c)]
    rows += [("held-out seeds", _held_out(c)), ("folder", f"{out}{' (exists)' if out.exists() else ''}")]
    return rows


def _reward(member: Member) -> str:
    later = ", loads what it needs when training begins" if loads(member.plugin) else ""
    return f"{member.name}, weight {weight_said(member.config.weight)}{later}"


def weight_said(weight: float | Schedule) -> str:
    """A weight in words."""
    if isinstance(weight, int | float):
        return f"{weight:g}"
    start, end = weight_at(weight, RunState()), weight_at(weight, RunState(10**9, 1.0))
    return f"by {weight.metric}" if isinstance(weight, ByMetric) else f"{start:g} to {end:g} ({weight.schedule})"


def _environment(e: EnvironmentConfig) -> str:
    last = f"{e.seeds.start + e.seeds.count - 1}" if e.seeds.count else ""
    return f"{_what(e)}, weight {e.weight:g}, seeds {e.seeds.start}-{last}"


def _what(e: EnvironmentConfig) -> str:
    """Which environment, with its rows and arguments."""
    rows = rows_of(e)
    return e.id + (f" ({rows:,} rows)" if rows is not None else "") + (f", {e.kwargs}" if e.kwargs else "")


def _steps(c: Config) -> str:
    args = c.training_args
    tasks = sum(e.seeds.count or EPOCH_TASKS for e in c.environments)
    steps = f"{args.max_steps}" if args.max_steps > 0 else f"{args.num_train_epochs:g} epochs of {tasks} tasks"
    return steps + (f", {args.max_minutes:g} minutes at most" if args.max_minutes else "")


def _batch(c: Config) -> str:
    args = c.training_args
    size = args.per_device_train_batch_size * args.gradient_accumulation_steps
    groups = f": groups of {args.num_generations}" if c.reward_plugins else ""
    return f"{args.per_device_train_batch_size} rows x {args.gradient_accumulation_steps} = {size} a step{groups}"


def _rollout(c: Config) -> str:
    r = c.rollout
    context = "whole transcript" if r.window is None else f"last {r.window} observations"
    turns = f", {weight_said(r.max_turns)} turns at most" if r.max_turns else ""
    rounds = f", at most {r.dynamic_sampling} further rounds a step" if r.dynamic_sampling else ""
    return f"{context}, {r.max_new_tokens} new tokens a turn{turns}, temperature {r.temperature:g}{rounds}"


def _course(c: Config) -> list[tuple[str, str]]:
    """What changes the mix or the batch while the run goes on."""
    out: list[tuple[str, str]] = []
    if c.curriculum is not None:
        out.append(("curriculum", f"weights follow success, never below {c.curriculum.floor:g} of their own"))
    if c.replay is not None:
        out.append(("replay", f"{c.replay.share:g} of an update, from the best {c.replay.size} of each environment"))
    return out


def _held_out(c: Config) -> str:
    e, parts = c.eval, list[str]()
    if e.episodes:
        parts.append(f"{e.seed}-{e.seed + e.episodes - 1} every {e.every} steps")
    if e.final_episodes:
        parts.append(f"{e.final_seed}-{e.final_seed + e.final_episodes - 1} before and after")
    rows = evaluated_rows(c) if parts else ""
    return "; ".join([*parts, *([f"rows: {rows}"] if rows else [])]) or "none"


@app.command("env")
def env_(
    env: Annotated[str, typer.Argument(metavar="ID", help="A registered id, module:Class or path/file.py:Class.")],
    env_kwargs: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Argument of the environment; may be repeated.")
    ] = None,
) -> None:
    """Run the conformance suite on an environment; exit code 1 if a check fails.

    For example:

      mmrl check env babyai/GoToLocal

      mmrl check env my_envs.py:FrozenLake --env-kwargs size=8
    """
    from mmrl.conformance import CHECKS, check_env

    results = check_env(env, **parse_pairs(env_kwargs or [], "--env-kwargs"))
    table = Table(title=env, title_justify="left")
    for name in ("check", "result", "what it promises, or what went wrong"):
        table.add_column(name)
    for r in results:
        promise = (inspect.getdoc(CHECKS[r.name]) or "").partition("\n")[0]
        said = _plain(promise.replace("``", "") if r.passed else r.detail)
        table.add_row(r.name, "[green]ok[/]" if r.passed else "[red]FAILED[/]", said)
    screen().print(table)
    failed = sum(not r.passed for r in results)
    print(f"{len(results) - failed} of {len(results)} checks passed")
    if failed:
        raise typer.Exit(1)


def _plain(text: str) -> str:
    """The text with nothing in it that rich would read as markup."""
    return text.replace("[", "\\[")


app.command("plugin")(plugin_)
