"""``mmrl eval``: how well a policy does on held-out seeds."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from mmrl.cli.defaults import Defaults, read_defaults
from mmrl.cli.options import (
    POLICY,
    EnvKwargs,
    Episodes,
    MaxNewTokens,
    MaxTurns,
    PolicyKwargs,
    Temperature,
    Window,
    check_envs,
    parse_pairs,
    say_usage,
    screen,
    speaker,
)
from mmrl.cli.progress import EpisodeBar
from mmrl.episode import EpisodeLimits
from mmrl.episode_record import record_of, to_lines
from mmrl.errors import BadInput
from mmrl.evaluate import EvalResult, evaluate, summarise
from mmrl.policy import Policy
from mmrl.rollout import Scheduler, run_sync
from mmrl.store import atomic_write
from mmrl.trajectory import Trajectory
from mmrl.usage import Metered


def eval_(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="CONFIG",
            help="A run's YAML file or folder: its environments, model and rollout are the defaults; of a folder its "
            "trained policy.",
        ),
    ] = None,
    env: Annotated[list[str] | None, typer.Option(help="Environment; may be repeated.")] = None,
    policy: Annotated[str | None, POLICY] = None,
    episodes: Episodes = 100,
    seed: Annotated[int, typer.Option(min=0, help="First seed; the episodes take it and those after it.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, as stdout's last line.")] = False,
    max_turns: MaxTurns = None,
    window: Window = None,
    temperature: Temperature = None,
    env_kwargs: EnvKwargs = None,
    policy_kwargs: PolicyKwargs = None,
    max_new_tokens: MaxNewTokens = None,
    save: Annotated[Path | None, typer.Option(help="Also write the JSON object to this file.")] = None,
    records: Annotated[
        Path | None, typer.Option(help="Also write what became of each episode to this file, a JSON object a line.")
    ] = None,
) -> None:
    """Evaluate a policy: success with its 95% interval, and the mean return.

    For example:

      mmrl eval --env babyai/balrog-goto --policy expert

      mmrl eval configs/babyai_goto.yaml --policy runs/babyai_goto --json

      mmrl eval --env text/arithmetic --policy openai --policy-kwargs url=http://localhost:8000 --policy-kwargs model=m
    """
    defaults = read_defaults(config)
    environments = defaults.chosen(env or [], parse_pairs(env_kwargs or [], "--env-kwargs"))
    if not environments:
        raise BadInput("say where: --env ID (mmrl list envs shows them), or give a config file")
    name = policy or defaults.policy
    if name is None:
        raise BadInput("say which policy: --policy random, expert, a model id or a folder")
    check_envs(environments)
    heat = defaults.eval.temperature if temperature is None else temperature
    own = parse_pairs(policy_kwargs or [], "--policy-kwargs")
    acting = speaker(name, heat, max_new_tokens or defaults.rollout.max_new_tokens, own)
    scheduler = _scheduler(defaults, max_turns, window)
    results, trajectories = _run(environments, acting, range(seed, seed + episodes), scheduler)
    record = as_record(name, results, trajectories) | used(acting)
    if as_json:
        print(json.dumps(record))
    else:
        screen().print(_table(name, results))
    if save is not None:
        _save("--save", save, (json.dumps(record, indent=2) + "\n").encode())
    if records is not None:
        _save("--records", records, to_lines(record_of(t) for t in trajectories))
    say_usage(acting)
    _complain(trajectories)


def _scheduler(defaults: Defaults, max_turns: int | None, window: int | None) -> Scheduler:
    r = defaults.rollout
    limits = EpisodeLimits(max_turns or defaults.eval.max_turns, window or r.window)
    return Scheduler(limits, r.concurrency, r.max_batch, r.deterministic)


def _run(
    environments: Sequence[tuple[str, dict[str, Any]]], policy: Policy, seeds: range, scheduler: Scheduler
) -> tuple[list[EvalResult], list[Trajectory]]:
    results: list[EvalResult] = []
    trajectories: list[Trajectory] = []
    with EpisodeBar("evaluating", len(environments) * len(seeds)) as bar:
        for env_id, kwargs in environments:
            bar.label(env_id if len(environments) == 1 else f"all, now {env_id}")
            result, episodes = run_sync(evaluate(env_id, kwargs, policy, seeds, scheduler, on_done=bar.episode))
            results.append(result)
            trajectories += episodes
    return results, trajectories


def as_record(policy: str, results: Sequence[EvalResult], trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """The JSON object: one environment's figures or those of all pooled, and ``results`` by environment."""
    each = [{**r.as_dict(), "policy": policy} for r in results]
    pooled = summarise(",".join(r.env for r in results), results[0].seeds, trajectories, sum(r.tasks for r in results))
    return {**pooled.as_dict(), "policy": policy, "results": each}


def used(policy: Policy) -> dict[str, Any]:
    """What a policy that is paid for has used, for the JSON object; nothing of one that counts nothing."""
    return {"usage": policy.usage.as_dict()} if isinstance(policy, Metered) else {}


def _save(option: str, path: Path, data: bytes) -> None:
    try:
        atomic_write(path, data)
    except OSError as error:
        raise BadInput(f"{option} {path}: cannot be written: {error.strerror or error}") from error


def _table(policy: str, results: Sequence[EvalResult]) -> Table:
    table = Table(title=f"policy {policy}", title_justify="left")
    for name in ("environment", "success", "95% interval", "return", "turns", "invalid", "episodes", "seeds"):
        table.add_column(name, justify="left" if name == "environment" else "right")
    for r in results:
        interval = f"{r.ci95[0]:.1%} - {r.ci95[1]:.1%}"
        table.add_row(r.env, f"{r.success:.1%}", interval, f"{r.mean_return:.3f}", f"{r.mean_turns:.1f}",
                      f"{r.invalid_actions:.1%}", _counted(r), f"{r.seeds[0]}-{r.seeds[1]}")  # fmt: skip
    return table


def _counted(r: EvalResult) -> str:
    """The episodes, and the rows that they are of where some were drawn again."""
    return f"{r.episodes}" + (f" of {r.tasks} rows" if r.tasks < r.episodes else "")


def _complain(trajectories: Sequence[Trajectory]) -> None:
    """Say how many episodes an exception ended; if all, the evaluation has failed."""
    errors = [t.error for t in trajectories if t.error is not None]
    if errors:
        count = f"{len(errors)} of {len(trajectories)} episodes"
        print(f"{count} ended by an exception, first: {errors[0]}", file=sys.stderr)
    if len(errors) == len(trajectories):
        raise typer.Exit(1)
