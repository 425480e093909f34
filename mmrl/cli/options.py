"""What several commands share: reading ``key=value`` words, policies and environments from options."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console

from mmrl.config_load import parse_value
from mmrl.errors import BadInput
from mmrl.load import load_policy, policy_arguments
from mmrl.make import make
from mmrl.policy import Policy
from mmrl.registry import POLICIES
from mmrl.usage import Metered

COLLECT_SEED = 2_000_000
"""First seed of ``mmrl collect``: far from the held-out seeds (0 and up) and the training ones (1,000,000 and up)."""


POLICY = typer.Option(help="random, expert, openai, a model id, or the folder of a checkpoint or run.")
PolicyKwargs = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="Argument of the policy; may be repeated.")
]
EnvKwargs = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="Argument of the environment; may be repeated.")
]
Episodes = Annotated[int, typer.Option(min=1, help="Episodes of each environment.")]
MaxTurns = Annotated[int | None, typer.Option(min=1, help="Turns before an episode is cut.")]
Window = Annotated[int | None, typer.Option(min=1, help="Show the policy only the last k observations.")]
Temperature = Annotated[float | None, typer.Option(help="Sampling temperature of a model; 0: likeliest.")]
MaxNewTokens = Annotated[int | None, typer.Option(min=1, help="Token limit of a model's answer.")]

FILE_WIDTH = 160
"""Columns of tables that go to a file or a pipe, where no terminal sets a width."""


def screen() -> Console:
    """Standard output, for tables and plain text (call ``print`` with ``markup=False`` for the latter)."""
    console = Console()
    return console if console.is_terminal else Console(width=FILE_WIDTH)


def parse_pairs(words: Iterable[str], option: str) -> dict[str, Any]:
    """Read ``key=value`` words; the values are YAML.

    Args:
        words: for instance ``["max_steps=20", "invalid=forward"]``.
        option: the option's name, for the message.

    Raises:
        BadInput: if a word has no key or no value.
    """
    pairs: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise BadInput(f"{option} {word}: write {option} key=value")
        pairs[key] = parse_value(value, f"{option} {word}")
    return pairs


def speaker(policy: str, temperature: float | None = None, max_new_tokens: int | None = None,
            given: Mapping[str, Any] | None = None) -> Policy:  # fmt: skip
    """Load a policy; sampling options go to those that know them.

    Args:
        policy: as for :func:`mmrl.load_policy`.
        temperature: of the sampling; None leaves it to the policy.
        max_new_tokens: of an answer; None leaves it to the policy.
        given: the policy's own arguments, before all others.

    Raises:
        BadInput: if nothing goes by that name, or a value is out of range.
    """
    if temperature is not None and temperature < 0:
        raise BadInput(f"--temperature is at least 0, not {temperature:g}")
    sampling = {"temperature": temperature, "max_new_tokens": max_new_tokens}
    if POLICIES.knows(policy):
        known = policy_arguments(policy)
        sampling = {k: v for k, v in sampling.items() if k in known}
    return load_policy(policy, **{**{k: v for k, v in sampling.items() if v is not None}, **(given or {})})


def say_usage(policy: Policy) -> None:
    """Say what a policy has used that is paid for, if it counts it."""
    if isinstance(policy, Metered):
        print(f"used: {policy.usage}", file=sys.stderr)


def check_envs(environments: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Make each environment once, before anything slow is loaded.

    Raises:
        BadInput: if one is unknown or its arguments do not fit.
    """
    for env_id, kwargs in environments:
        make(env_id, **kwargs).close()
