"""What can be turned to make a run smaller, from the most harmless on, and how far it must be.

Comes in: a way to plan a run with changes, and a number of bytes.  Goes out: changes, with the plan after each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mmrl.config import Config
from mmrl.errors import BadInput
from mmrl.memory_plan import MemoryPlan

SMALLEST = 64
"""Tokens below which no limit is turned."""
WORTH = 0.99
"""A turn is taken if it leaves less than this of what is too much."""


@dataclass(frozen=True)
class Knob:
    """One thing to turn.

    Attributes:
        turns: what to write for a configuration and its plan, the mildest first; none where it has no meaning.
        price: what it costs, in words.
    """

    turns: Callable[[Config, MemoryPlan], Sequence[str]]
    price: str


@dataclass(frozen=True)
class Turned:
    """A knob that was turned: what to write, what it costs, and the plan with it and all before it."""

    change: str
    price: str
    plan: MemoryPlan


PlanWith = Callable[[Sequence[str]], tuple[Config, MemoryPlan]]
"""A run's configuration and plan with some changes, each as ``key.path=value``."""


def _halved(key: str, value: int, least: int) -> list[str]:
    """``key`` at the powers of 2 below its value."""
    powers = [2**n for n in range(value.bit_length(), -1, -1)]
    return [f"{key}={power}" for power in powers if least <= power < value]


def _tokens(c: Config, plan: MemoryPlan) -> Sequence[str]:
    held = min(c.training_args.max_tokens_per_micro_batch, plan.tokens)
    return _halved("training_args.max_tokens_per_micro_batch", held, SMALLEST)


def _batch(c: Config, plan: MemoryPlan) -> Sequence[str]:
    return _halved("rollout.max_batch", min(c.rollout.max_batch, plan.rows), 1)


def _in_turn(c: Config, plan: MemoryPlan) -> Sequence[str]:
    return ["rollout.async_steps=0"] if c.rollout.async_steps else []


def _checkpointing(c: Config, plan: MemoryPlan) -> Sequence[str]:
    return [] if c.training_args.gradient_checkpointing else ["training_args.gradient_checkpointing=true"]


def _bf16(c: Config, plan: MemoryPlan) -> Sequence[str]:
    return [] if c.training_args.bf16 else ["training_args.bf16=true"]


def _eight_bits(c: Config, plan: MemoryPlan) -> Sequence[str]:
    return ["training_args.optim=adamw_8bit"] if c.training_args.optim == "adamw" else []


def _lora(c: Config, plan: MemoryPlan) -> Sequence[str]:
    args = c.training_args
    return ["training_args.lora.r=16"] if args.lora is None and args.optim != "galore_adamw" else []


def _four_bits(c: Config, plan: MemoryPlan) -> Sequence[str]:
    args = c.training_args
    return ["training_args.load_in_4bit=true"] if args.lora is not None and not args.load_in_4bit else []


def _context(c: Config, plan: MemoryPlan) -> Sequence[str]:
    return _halved("rollout.max_context", plan.length, max(SMALLEST, c.rollout.max_new_tokens + 1))


KNOBS: tuple[Knob, ...] = (
    Knob(_tokens, "more passes; the same update"),
    Knob(_batch, "slower sampling; the same answers"),
    Knob(_in_turn, "the update waits for its episodes"),
    Knob(_checkpointing, "activations are computed twice; the same update"),
    Knob(_bf16, "rounding"),
    Knob(_eight_bits, "rounding of the optimiser's state; needs mmrl[bnb]"),
    Knob(_lora, "fewer weights learn"),
    Knob(_four_bits, "rounding of the weights, slower products; needs mmrl[bnb]"),
    Knob(_context, "longer episodes are cut"),
)
"""From the most harmless to the last resort."""


def fit(plan_with: PlanWith, limit: int) -> Iterator[Turned]:
    """Turn knobs until a run fits.

    The first knob on which anything depends is turned as little as fits, or as little as gives nearly all that it can
    give; then all are looked at again, since what was in its way may be gone.

    Args:
        plan_with: plans the run with changes.
        limit: bytes that it may take.

    Yields:
        What was turned, in order; a later turn of a key replaces an earlier one.  If the last plan is still above the
        limit, nothing makes the run fit.
    """
    changes: list[str] = []
    config, now = plan_with(changes)
    at = 0
    while at < len(KNOBS) and now.peak > limit:
        turn = _turn(KNOBS[at].turns(config, now), changes, plan_with, excess(now, limit), limit)
        if turn is None:
            at += 1
            continue
        change, (config, now) = turn
        changes = changed(changes, change)
        yield Turned(change, KNOBS[at].price, now)
        at = 0


def changed(changes: Sequence[str], change: str) -> list[str]:
    """Changes with one more, in the place of one of the same key."""
    return list({c.partition("=")[0]: c for c in (*changes, change)}.values())


def excess(plan: MemoryPlan, limit: int) -> int:
    """Bytes above a limit, of all phases together: where two are as large, a turn that makes one smaller helps."""
    return sum(max(0, size - limit) for size in plan.phases.values())


def _turn(turns: Sequence[str], changes: Sequence[str], plan_with: PlanWith, over: int, limit: int) -> tuple[
        str, tuple[Config, MemoryPlan]] | None:  # fmt: skip
    """How far to turn a knob, and what comes of it; None if it gives nothing."""
    tried: list[tuple[str, tuple[Config, MemoryPlan]]] = []
    for number, change in enumerate(turns):
        try:
            made = plan_with(changed(changes, change))
        except BadInput:  # turned too far: an episode has no room for an answer any more
            break
        if (left := excess(made[1], limit)) >= WORTH * over:
            if tried or number == 2:
                break
            continue  # a first turn of max_batch makes two batches of one, which are held as before
        tried.append((change, made))
        over = left
        if over == 0:
            break
    return tried[-1] if tried else None
