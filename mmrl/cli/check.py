"""``mmrl check``: a configuration, an environment or a plugin, before it costs an hour."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mmrl.check_config import check_config
from mmrl.cli.options import parse_pairs, screen
from mmrl.config import EPOCH_TASKS, Config, EnvironmentConfig
from mmrl.config_load import LoadedConfig, load_config
from mmrl.reward import PluginConfig, RewardPlugin, RewardSuite, build_plugin, needs
from mmrl.sample import Message, Sample, Text
from mmrl.trajectory import Trajectory, Turn

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
    check_config(loaded)
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in summary(loaded):
        table.add_row(name, value)
    screen().print(table, markup=False, highlight=False)


def summary(loaded: LoadedConfig) -> list[tuple[str, str]]:
    """What a configuration would do, as (what, value) rows."""
    c, out = loaded.config, loaded.output_dir
    rows = [("learner", c.train_type), ("model", c.model_id + (", LoRA" if c.training_args.lora else ", all weights"))]
    rows += [("environment", _environment(e)) for e in c.environments]
    rows += [("reward", f"{p.instance}, weight {p.weight:g}") for p in c.reward_plugins]
    rows += [("steps", _steps(c)), ("batch", _batch(c)), ("rollout", _rollout(c))]
    rows += [("held-out seeds", _held_out(c)), ("folder", f"{out}{' (exists)' if out.exists() else ''}")]
    return rows


def _environment(e: EnvironmentConfig) -> str:
    last = f"{e.seeds.start + e.seeds.count - 1}" if e.seeds.count else ""
    return f"{e.id}, weight {e.weight:g}, seeds {e.seeds.start}-{last}" + (f", {e.kwargs}" if e.kwargs else "")


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
    turns = f", {r.max_turns} turns at most" if r.max_turns else ""
    return f"{context}, {r.max_new_tokens} new tokens a turn{turns}, temperature {r.temperature:g}"


def _held_out(c: Config) -> str:
    e, parts = c.eval, list[str]()
    if e.episodes:
        parts.append(f"{e.seed}-{e.seed + e.episodes - 1} every {e.every} steps")
    if e.final_episodes:
        parts.append(f"{e.final_seed}-{e.final_seed + e.final_episodes - 1} before and after")
    return "; ".join(parts) or "none"


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
        said = _plain(promise if r.passed else r.detail)
        table.add_row(r.name, "[green]ok[/]" if r.passed else "[red]FAILED[/]", said)
    screen().print(table)
    failed = sum(not r.passed for r in results)
    print(f"{len(results) - failed} of {len(results)} checks passed")
    if failed:
        raise typer.Exit(1)


def _plain(text: str) -> str:
    """The text with nothing in it that rich would read as markup."""
    return text.replace("[", "\\[")


@app.command("plugin")
def plugin_(
    plugin: Annotated[
        str, typer.Argument(metavar="REF", help="A registered name, module:Class or path/file.py:Class.")
    ],
    kwargs: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Argument of the plugin; may be repeated.")
    ] = None,
) -> None:
    """Make a reward plugin and score small made-up episodes with it; exit code 1 if a score fails.

    For example:

      mmrl check plugin exact_match

      mmrl check plugin my_rewards.py:Brevity --kwargs limit=20
    """
    entry = PluginConfig.model_validate({"name": plugin, "kwargs": parse_pairs(kwargs or [], "--kwargs")})
    made = build_plugin(entry)
    by_compute = type(made).score is RewardPlugin.score
    print(f"needs: {', '.join(needs(made)) if by_compute else 'whole trajectories'}")
    print(f"range: {made.range[0]:g} to {made.range[1]:g}")
    samples = samples_for_plugins()
    records = RewardSuite([(plugin, 1.0, made)]).score(list(samples.values()))
    table = Table("episode", "status", "score", "info", title=_plain(plugin), title_justify="left")
    for name, record in zip(samples, records, strict=True):
        score = record.scores[plugin]
        value = f"{score.value:g}" if score.valid else "-"
        table.add_row(name, score.status, value, _plain(", ".join(f"{k}: {v}" for k, v in score.info.items())))
    screen().print(table)
    if any(r.scores[plugin].status == "failed" for r in records):
        raise typer.Exit(1)


def samples_for_plugins() -> dict[str, Trajectory]:
    """Small episodes of the kinds that a plugin meets: answers right and wrong, several turns, no reference."""
    return {
        "right answer": _episode(("42",), "42", success=True),
        "wrong answer": _episode(("I do not know.",), "42", success=False),
        "empty answer": _episode(("",), "42", success=False),
        "three turns, solved": _episode(("turn left", "go forward", "pick up"), None, success=True),
        "three turns, cut short": _episode(("turn left", "turn left", "turn left"), None, success=False, cut=True),
    }


def _episode(answers: Sequence[str], reference: str | None, success: bool, cut: bool = False) -> Trajectory:
    messages = (Message("user", (Text("What is 6 * 7?" if reference else "You see a ball."),)),)
    last = len(answers) - 1
    turns = tuple(
        Turn((Text("You see a ball."),), a, reward=float(success and i == last),
             info={"valid_action": True, "action_cost": 1.0, **({"success": success} if i == last else {})})
        for i, a in enumerate(answers)
    )  # fmt: skip
    return Trajectory("check", "check", 0, "check", Sample("check", messages, reference), turns, not cut, cut)
