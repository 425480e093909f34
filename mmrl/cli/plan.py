"""``mmrl plan``: what memory a run will take, before its weights are loaded, and what would make it less."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from mmrl.check_config import check_config
from mmrl.cli.options import screen
from mmrl.config_load import load_config
from mmrl.errors import BadInput
from mmrl.memory import GIB, MemoryPlan
from mmrl.trainer import Planner

SPARE = 0.1
"""Share of a GPU's memory that is left to the driver's context and to what an allocator cannot use."""


def plan(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The run's YAML file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Any key of it, as key.path=value.")
    ] = None,
    gpu_gb: Annotated[
        float | None, typer.Option("--gpu-gb", min=0.01, help="Say which settings to turn to fit a GPU of so many GiB.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, in bytes.")] = False,
) -> None:
    """Say what memory a run will take on its device. No weights are loaded.

    For example:

      mmrl plan configs/babyai_goto.yaml

      mmrl plan configs/babyai_goto.yaml model_id=Qwen/Qwen2.5-1.5B-Instruct --gpu-gb 24
    """
    loaded = load_config(config, overrides or [])
    trainer, _ = check_config(loaded)
    if not isinstance(trainer, Planner):
        raise BadInput(f"{loaded.where('train_type')}: the learner '{loaded.config.train_type}' says nothing of its "
                       "memory; GRPO does")  # fmt: skip
    limit = None if gpu_gb is None else round(gpu_gb * GIB * (1 - SPARE))
    found = trainer.plan(loaded, limit)
    if as_json:
        print(json.dumps(as_dict(found, limit)))
        return
    screen().print(table_of(found), markup=False, highlight=False)
    worst = max(found.phases, key=lambda phase: phase.total)
    print(f"peak: {size(found.peak)}, in phase {worst.name}")
    for line in found.basis:
        print(f"assumed: {line}")
    if gpu_gb is not None and limit is not None:
        for line in advice(found, limit, gpu_gb):
            print(line)


def table_of(plan: MemoryPlan) -> Table:
    """A row for each part, a column for each phase."""
    table = Table(box=None, pad_edge=False)
    table.add_column(f"on {plan.device}")
    for phase in plan.phases:
        table.add_column(phase.name, justify="right")
    for part in dict.fromkeys(name for phase in plan.phases for name in phase.parts):
        table.add_row(part, *(size(phase.parts[part]) if phase.parts.get(part) else "-" for phase in plan.phases))
    table.add_row("together", *(size(phase.total) for phase in plan.phases))
    return table


def advice(plan: MemoryPlan, limit: int, gpu_gb: float) -> list[str]:
    """Whether the run fits, and if not, what to turn, each line with the peak once it and those above it are turned."""
    room = f"{gpu_gb:g} GiB less {SPARE:.0%} for what is not counted"
    if plan.peak <= limit:
        return [f"fits in {room}"]
    lines = [f"does not fit in {room}; turn, in this order:"]
    lines += [f"  {' '.join(t.settings)}  -> {size(t.peak)}  ({t.price})" for t in plan.turned]
    last = plan.turned[-1].peak if plan.turned else plan.peak
    return [*lines, "then it fits" if last <= limit else "that is not enough: take a smaller model or shorter episodes"]


def as_dict(plan: MemoryPlan, limit: int | None) -> dict[str, object]:
    """The plan for a program."""
    return {
        "device": plan.device,
        "peak": plan.peak,
        "phases": {phase.name: {**phase.parts, "together": phase.total} for phase in plan.phases},
        "limit": limit,
        "turned": [{"settings": list(t.settings), "peak": t.peak, "price": t.price} for t in plan.turned],
    }


def size(count: int) -> str:
    """``3.2 GiB``, ``17.4 MiB`` or ``0.3 MiB``."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.1f} MiB"
