"""``mmrl play``: one episode in the terminal, played by a person or watched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer
from rich.console import Console

from mmrl.cli.defaults import Defaults, read_defaults
from mmrl.cli.options import (
    EnvKwargs,
    MaxNewTokens,
    MaxTurns,
    PolicyKwargs,
    Temperature,
    Window,
    parse_pairs,
    say_usage,
    speaker,
)
from mmrl.cli.watch import Human, Quit, Watched, run_watch
from mmrl.env import Env
from mmrl.episode import EpisodeLimits, EpisodeSpec
from mmrl.errors import BadInput
from mmrl.make import make
from mmrl.policy import Policy
from mmrl.trajectory import Trajectory

FRAME_MS, LAST_FRAME_MS = 300, 1500
USUAL = "babyai/GoToLocal"
"""What is played where nothing is said."""


def play(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="CONFIG", help="A run's YAML file: the first environment that it evaluates in."),
    ] = None,
    env: Annotated[
        str | None, typer.Option(help=f"Environment (mmrl list envs shows them); without a CONFIG {USUAL}.")
    ] = None,
    policy: Annotated[
        str, typer.Option(help="human, random, expert, openai, a model id, or the folder of a checkpoint or run.")
    ] = "human",
    seed: Annotated[int, typer.Option(min=0, help="Which episode.")] = 0,
    save: Annotated[Path | None, typer.Option(help="Write the rendered episode as an animated GIF.")] = None,
    env_kwargs: EnvKwargs = None,
    policy_kwargs: PolicyKwargs = None,
    delay: Annotated[float, typer.Option(min=0, help="Seconds to wait after each turn.")] = 0.0,
    max_turns: MaxTurns = None,
    window: Window = None,
    temperature: Temperature = None,
    max_new_tokens: MaxNewTokens = None,
) -> None:
    """Play an episode in the terminal, or watch a policy play it.

    For example:

      mmrl play --env babyai/GoToLocal --seed 3

      mmrl play --env babyai/balrog-goto --policy expert --save goto.gif

      mmrl play runs/babyai_goto/config.yaml --policy runs/babyai_goto
    """
    given = read_defaults(config)
    env_id, kwargs = _where(given, env, parse_pairs(env_kwargs or [], "--env-kwargs"))
    inner = make(env_id, **kwargs)
    console = Console(soft_wrap=True, markup=False, highlight=False)
    if save is not None:
        _check_save(save, inner, env_id)
    frames: list[Any] | None = None if save is None else []
    own = parse_pairs(policy_kwargs or [], "--policy-kwargs")
    if policy == "human":
        acting: Policy = Human(console.print)
    else:
        acting = _speaker(given, config, policy, temperature, max_new_tokens, own)
    watched = Watched(inner, console.print, delay, frames)
    spec = EpisodeSpec("play", env_id, seed, f"{env_id}#{seed}", (seed,), kwargs)
    limits = EpisodeLimits(max_turns or given.eval.max_turns, window or given.rollout.window)
    trajectory: Trajectory | None = None
    try:
        trajectory = run_watch(spec, watched, acting, limits)
    except Quit:
        console.print("\nstopped before the end of the episode")
    finally:
        inner.close()
    if save is not None and frames:
        save_gif(save, frames)
        console.print(f"saved {save} ({len(frames)} frames)")
    say_usage(acting)
    if trajectory is not None:
        _say_how_it_ended(trajectory)


def _where(given: Defaults, env: str | None, kwargs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The environment to play and its arguments: the one named, else the config's first, else the usual one."""
    named = [env] if env is not None else []
    return (given.chosen(named, kwargs) or [(USUAL, kwargs)])[0]


def _speaker(given: Defaults, config: Path | None, policy: str, temperature: float | None,
             max_new_tokens: int | None, own: dict[str, Any]) -> Policy:
    """The policy that plays, sampling as the run's evaluations do where there is a config."""
    if config is None:
        return speaker(policy, temperature, max_new_tokens, own)
    heat = given.eval.temperature if temperature is None else temperature
    return speaker(policy, heat, max_new_tokens or given.rollout.max_new_tokens, own)


def _say_how_it_ended(t: Trajectory) -> None:
    if t.error is not None:
        print(f"\nthe environment failed after {len(t.turns)} turns: {t.error}")
        raise typer.Exit(1)
    how = "success" if t.success else "cut short" if t.truncated else "no success"
    print(f"\n{how} after {len(t.turns)} turns, return {t.env_return:.3f}")
    if not t.success and t.sample.reference is not None:
        print(f"the right answer: {right_answer(t.sample.reference)}")


def right_answer(reference: Any) -> str:
    """A sample's reference in words; of several answers each once."""
    each: list[Any] = list(cast("list[Any]", reference)) if isinstance(reference, list | tuple) else [reference]
    words = [str(cast("dict[str, Any]", r).get("answer", r)) if isinstance(r, dict) else str(r) for r in each]
    return " or ".join(dict.fromkeys(words))


def _check_save(path: Path, env: Env, env_id: str) -> None:
    """Refuse before the episode what would fail after it."""
    if path.suffix.lower() != ".gif":
        raise BadInput(f"--save {path}: the file's name ends in .gif")
    if not path.absolute().parent.is_dir():
        raise BadInput(f"--save {path}: there is no folder {path.absolute().parent}")
    if env.render_mode != "rgb_array":
        raise BadInput(f"--save {path}: environment '{env_id}' renders no frames (render_mode {env.render_mode})")


def save_gif(path: Path, frames: Sequence[Any]) -> None:
    """Write RGB frames, shape (height, width, 3), as an animated GIF that loops.

    Raises:
        BadInput: if the file cannot be written.
    """
    from PIL import Image

    pictures = [Image.fromarray(np.asarray(f, dtype=np.uint8)) for f in frames]
    times = [FRAME_MS] * (len(pictures) - 1) + [LAST_FRAME_MS]
    try:
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=times, loop=0)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from error
