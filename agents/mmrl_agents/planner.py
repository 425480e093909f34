"""``mmrl plan`` for GRPO: what a run will take, and which settings to turn so that it fits.

Comes in: a checked configuration and a limit.  Goes out: a :class:`mmrl.memory.MemoryPlan`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mmrl.config import Config, LoraArgs
from mmrl.config_load import LoadedConfig
from mmrl.memory import MemoryPlan, Phase, Turned
from mmrl_agents.memory_plan import phases
from mmrl_agents.models import find_model, load_processing
from mmrl_agents.probe import HELD_OUT, STEPS, play
from mmrl_agents.tasks import plan

WORTH = 0.02
"""A setting that saves less than this share of the peak is left as it is."""


@dataclass(frozen=True)
class Knob:
    """A setting that saves memory.

    Attributes:
        settings: what it would be set to, by dotted key; nothing where it cannot be turned (further).
        price: what it costs.
        phases: those in which it saves; empty: all.
    """

    settings: Callable[[Config], Mapping[str, Any]]
    price: str
    phases: tuple[str, ...] = ()


def _rows(config: Config) -> Mapping[str, Any]:
    args = config.training_args
    if args.per_device_train_batch_size % 2:
        return {}
    return {"training_args.per_device_train_batch_size": args.per_device_train_batch_size // 2,
            "training_args.gradient_accumulation_steps": args.gradient_accumulation_steps * 2}  # fmt: skip


def _concurrency(config: Config) -> Mapping[str, Any]:
    args, held_out = config.training_args, max(config.eval.episodes, config.eval.final_episodes)
    most = max(args.per_device_train_batch_size * args.gradient_accumulation_steps, held_out)
    episodes = min(config.rollout.concurrency, config.rollout.max_batch, most)
    return {"rollout.concurrency": episodes // 2} if episodes > 1 else {}


def _unless(key: str, value: Any, off: Callable[[Config], bool]) -> Callable[[Config], Mapping[str, Any]]:
    return lambda config: {} if off(config) else {f"training_args.{key}": value}


KNOBS: tuple[Knob, ...] = (
    Knob(_rows, "the same updates in smaller parts", ("update",)),
    Knob(_unless("gradient_checkpointing", True, lambda c: c.training_args.gradient_checkpointing),
         "the same updates; layers are computed twice", ("update",)),
    Knob(_concurrency, "the same episodes, fewer at once", ("rollout", "evaluation")),
    Knob(_unless("optim", "adamw_8bit", lambda c: c.training_args.optim != "adamw"),
         "the optimiser's state is rounded; needs mmrl[bnb]"),
    Knob(_unless("bf16", True, lambda c: c.training_args.bf16), "weights and updates are rounded to 8 bits"),
    Knob(_unless("lora", LoraArgs(), lambda c: c.training_args.lora is not None
                 or c.training_args.optim == "galore_adamw"), "an adapter learns, at a higher learning_rate"),
    Knob(_unless("load_in_4bit", True, lambda c: c.training_args.load_in_4bit or c.training_args.lora is None),
         "the weights under the adapter are rounded to 4 bits; needs mmrl[bnb]"),
)  # fmt: skip
"""From what changes nothing but the time to what changes the result."""


def plan_run(loaded: LoadedConfig, limit: int | None) -> MemoryPlan:
    """The plan of a checked configuration; see :class:`mmrl.trainer.Planner`."""
    config = loaded.config
    files = find_model(config.model_id, loaded.where("model_id"))
    processing = load_processing(files)
    played = play(config, files, processing, plan(config))
    host = not torch.cuda.is_available()

    def of(changed: Config) -> tuple[Phase, ...]:
        return phases(changed, files, processing, played, host and limit is None)

    found = of(config)
    turned = () if limit is None else turn(config, found, limit, of)
    return MemoryPlan("the host" if host else torch.cuda.get_device_name(), found, _basis(config), turned)


def turn(config: Config, found: tuple[Phase, ...], limit: int,
         of: Callable[[Config], tuple[Phase, ...]]) -> tuple[Turned, ...]:
    """Turn settings until a run fits, or none is left: each time the first that is worth it.

    Args:
        config: the run's.
        found: its phases.
        limit: bytes that it should fit in.
        of: the phases of a configuration.
    """
    out: list[Turned] = []
    knobs = list(KNOBS)
    while max(phase.total for phase in found) > limit and knobs:
        worst = max(found, key=lambda phase: phase.total)
        knob = next((k for k in knobs if not k.phases or worst.name in k.phases), None)
        if knob is None:
            break
        settings = knob.settings(config)
        less = of(with_settings(config, settings)) if settings else found
        peak = max(phase.total for phase in less)
        if peak > worst.total * (1 - WORTH):
            knobs.remove(knob)
            continue
        config, found, knobs = with_settings(config, settings), less, list(KNOBS)
        words = tuple(f"{key}={_said(value)}" for key, value in settings.items())
        if out and out[-1].price == knob.price:
            out.pop()  # the same one, turned further
        out.append(Turned(words, peak, knob.price))
    return tuple(out)


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """The configuration with other values of keys one section deep."""
    for key, value in settings.items():
        section, _, name = key.partition(".")
        config = config.model_copy(update={section: getattr(config, section).model_copy(update={name: value})})
    return config


def _said(value: Any) -> str:
    return "{}" if isinstance(value, LoraArgs) else str(value).lower() if isinstance(value, bool) else str(value)


def _basis(config: Config) -> tuple[str, ...]:
    longest = f"every answer {config.rollout.max_new_tokens} tokens long (rollout.max_new_tokens)"
    lines = [f"episodes as in {STEPS} steps and {HELD_OUT} held-out episodes of random play, {longest}"]
    if not torch.cuda.is_available():
        lines.append("tensors alone: Python and its libraries take some hundred MiB more")
    return tuple(lines)
