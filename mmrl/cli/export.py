"""``mmrl export``: a run's rewards as a file that another trainer loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmrl.bridges import swift, verl
from mmrl.bridges.columns import REFERENCE
from mmrl.check_config import build_suite
from mmrl.config_load import LoadedConfig, load_config

app = typer.Typer(no_args_is_help=True, help="Write a run's rewards as a file for another trainer.")

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The run's YAML file.")]
Out = Annotated[Path, typer.Argument(metavar="OUT.py", help="The file to write, such as mmrl_reward.py.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Any key of the configuration, as key.path=value.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace OUT.py if it exists.")]


@app.command("swift")
def swift_(
    config: ConfigFile,
    out: Out,
    overrides: Overrides = None,
    reference: Annotated[str, typer.Option(help="The dataset's column with the ground truth.")] = REFERENCE,
    name: Annotated[str, typer.Option(help="What --reward_funcs calls the reward.")] = "mmrl",
    force: Force = False,
) -> None:
    """Write an external plugin for ms-swift.

    For example:

      mmrl export swift configs/qa.yaml mmrl_reward.py --reference solution
    """
    swift.export(_checked(config, overrides).config, out, reference, name, force)
    print(f"swift rlhf --rlhf_type grpo --external_plugins {out} --reward_funcs {name} ...")


@app.command("verl")
def verl_(
    config: ConfigFile,
    out: Out,
    overrides: Overrides = None,
    question: Annotated[
        str, typer.Option(help="The key of extra_info with what the policy was asked; empty: no plugin reads it.")
    ] = verl.QUESTION,
    force: Force = False,
) -> None:
    """Write a custom reward function for verl.

    For example:

      mmrl export verl configs/qa.yaml mmrl_reward.py
    """
    verl.export(_checked(config, overrides).config, out, question or None, force)
    print(f"python -m verl.trainer.main_ppo custom_reward_function.path={out} ...")


def _checked(config: Path, overrides: list[str] | None) -> LoadedConfig:
    """The configuration, whose plugins have been made once: what is wrong with one is said with its line."""
    loaded = load_config(config, overrides or [])
    build_suite(loaded)
    return loaded
