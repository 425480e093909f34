"""``mmrl plan``: what a run will take of memory, and what to turn so that it fits a GPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mmrl.check_config import check_config
from mmrl.cli.options import screen
from mmrl.config import Config
from mmrl.config_load import load_config
from mmrl.errors import BadInput
from mmrl.gpus import GIB, GPUS, LEFT_FREE, gpu_bytes, usable
from mmrl.knobs import Turned, changed, fit
from mmrl.memory_plan import MemoryPlan, Planner, Plans

PARTS = {
    "base": "Python and libraries",
    "weights": "weights",
    "sampler": "sampler's own",
    "reference": "reference",
    "optimizer": "optimiser",
    "gradients": "gradients",
    "activations": "activations",
    "cache": "KV cache",
    "work": "beside it",
    "best": "best weights",
}
"""The parts of a plan, as they are called in its table."""


MOST = "This is the most that it may take: every answer that is sampled has all the tokens that it may have."
BESIDE = ("vLLM is not in this: without servers of its own it takes the share of each GPU that "
          "training_args.vllm_config.gpu_memory_utilization says, on top")  # fmt: skip


def plan(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The run's YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Any key of it, as key.path=value.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(help=f"Fit this GPU: a size as 24GiB, or {', '.join(GPUS)}.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, in bytes.")] = False,
) -> None:
    """Tell what a run will take of memory, and what to turn so that it fits a GPU. No weights are loaded.

    The model is laid out from its configuration, the first step's tasks are answered with random words, and the
    model's own code is run over the largest passes without computing anything. With --gpu settings are turned, the
    most harmless first, until the run fits; exit code 1 if nothing makes it fit.

    For example:

      mmrl plan configs/babyai_goto.yaml

      mmrl plan configs/qa.yaml model_id=Qwen/Qwen2.5-7B-Instruct --gpu 24GiB
    """
    words = overrides or []
    size = None if gpu is None else gpu_bytes(gpu)
    loaded = load_config(config, words)
    learner, _ = check_config(loaded)
    if not isinstance(learner, Plans):
        raise BadInput(f"{loaded.where('train_type')}: learner '{loaded.config.train_type}' cannot tell what it takes; "
                       "it has no method 'planner' (see mmrl.memory_plan)")  # fmt: skip
    planner = learner.planner()
    with Console(stderr=True).status("rehearsing the first step and the evaluations"):
        made = planner.plan(loaded, gpu is not None)
    turned: list[Turned] = []
    if not as_json:
        _show(made)
        screen_line(MOST)
        if loaded.config.training_args.use_vllm_sampler:
            screen_line(BESIDE)
    if size is not None:
        turned = _fitted(config, words, planner, size, gpu or "", made, quiet=as_json)
    last = turned[-1].plan if turned else made
    fits = None if size is None else last.peak <= usable(size)
    if as_json:
        print(json.dumps(_as_dict(made, fits, turned)))
    if fits is False:
        raise typer.Exit(1)


def _fitted(config: Path, words: Sequence[str], planner: Planner, size: int, gpu: str, made: MemoryPlan,
            quiet: bool) -> list[Turned]:  # fmt: skip
    """Turn knobs until the run fits, saying so."""
    say = (lambda line: None) if quiet else screen_line
    limit = usable(size)
    say(f"{gpu}: {said(size)}, of which a run may take {said(limit)} ({LEFT_FREE:.0%} stay free)")
    if made.peak <= limit:
        say(f"fits, with {said(limit - made.peak)} to spare")
        return []

    def plan_with(changes: Sequence[str]) -> tuple[Config, MemoryPlan]:
        changed = load_config(config, [*words, *changes])
        return changed.config, made if not changes else planner.plan(changed, True)

    say(f"does not fit: {said(made.peak - limit)} too much. What to turn, the most harmless first:")
    turned: list[Turned] = []
    for turn in fit(plan_with, limit):
        turned.append(turn)
        say(f"  {turn.change:<48}  {said(turn.plan.peak):>9}  {turn.price}")
    if turned and turned[-1].plan.peak <= limit:
        say(f"fits with: {' '.join(final(turned))}")
    else:
        left = turned[-1].plan.peak if turned else made.peak
        say(f"nothing makes it fit: {said(left - limit)} too much is left; take a smaller model or a larger GPU")
    return turned


def final(turned: Sequence[Turned]) -> list[str]:
    """What to write in the end: the last turn of every key."""
    changes: list[str] = []
    for turn in turned:
        changes = changed(changes, turn.change)
    return changes


def screen_line(line: str) -> None:
    """Print a line as it is."""
    screen().print(line, markup=False, highlight=False)


def _show(made: MemoryPlan) -> None:
    """The table of a plan."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for part, name in PARTS.items():
        if size := getattr(made, part):
            table.add_row(name, said(size), made.notes.get(part, ""))
    for name, size in made.phases.items():
        table.add_row(f"peak while {name}", said(size), "")
    table.add_row("peak", said(made.peak), "")
    screen().print(table, markup=False, highlight=False)


def said(size: int) -> str:
    """A number of bytes in words."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / 2**20:.1f} MiB"


def _as_dict(made: MemoryPlan, fits: bool | None, turned: Sequence[Turned]) -> dict[str, Any]:
    """A plan as JSON takes it."""
    turns = [{"set": t.change, "price": t.price, "peak": t.plan.peak} for t in turned]
    whole = {**asdict(made), "phases": made.phases, "peak": made.peak}
    return whole if fits is None else {**whole, "fits": fits, "turns": turns, "set": final(turned)}
