"""Whether what a run shows has room in its model's context, found out before any weights are loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import cycle, islice

from mmrl.config import EnvironmentConfig
from mmrl.config_load import LoadedConfig
from mmrl.env import Env, NoExpert
from mmrl.episode import visible
from mmrl.errors import BadInput
from mmrl.make import make
from mmrl.provided import PROBED
from mmrl.sample import Message, Text
from mmrl.trajectory import Trajectory
from mmrl.turn_cap import largest
from mmrl_agents.batch import Segment
from mmrl_agents.models import find_model, load_generation, load_processing, text_context
from mmrl_agents.transcript import Transcript
from mmrl_agents.turns import end_ids

NOTHING = "?"
"""The shortest answer that gets nowhere."""


def check_context(loaded: LoadedConfig) -> None:
    """Refuse limits beyond the model's context.

    Raises:
        BadInput: naming the key, its place, and what the model holds.
    """
    rollout = loaded.config.rollout
    files = find_model(loaded.config.model_id, loaded.where("model_id"))
    own = text_context(files)
    if rollout.max_context is not None and rollout.max_context > own:
        raise BadInput(f"{loaded.where('rollout', 'max_context')}: max_context is {rollout.max_context}, but "
                       f"'{files.name}' holds at most {own} tokens; leave it out, or lower it to that")  # fmt: skip
    held = rollout.max_context or own
    if rollout.max_new_tokens >= held:
        raise BadInput(f"{loaded.where('rollout', 'max_new_tokens')}: max_new_tokens is {rollout.max_new_tokens}, "
                       f"which leaves no room for a prompt in a context of {held} tokens; lower it")  # fmt: skip


def check_room(loaded: LoadedConfig) -> None:
    """Refuse environments, and windows on them, that an answer has no room beside.

    One task that is too long ends its episode and no more; refused is what leaves none of the first few a first turn,
    and a window which, once it is full, leaves no turn after it.

    Raises:
        BadInput: naming the environment or the window, its place, and how many tokens it takes.
    """
    config = loaded.config
    rollout, files = config.rollout, find_model(config.model_id, loaded.where("model_id"))
    processing = load_processing(files)
    transcript = Transcript(processing, end_ids(load_generation(files), processing))
    room = (rollout.max_context or text_context(files)) - rollout.max_new_tokens
    has = f"'{files.name}' has room for {room} beside an answer of {rollout.max_new_tokens}"
    for i, env in enumerate(config.environments):
        least = min(len(transcript.prompt(messages)) for messages in first_prompts(env))
        if least > room:
            raise BadInput(f"{loaded.where('environments', i)}: environment '{env.id}': its first {PROBED} tasks take "
                           f"{least} tokens or more, and {has}; lower rollout.max_new_tokens, raise "
                           "rollout.max_context, or take another model")  # fmt: skip
        if rollout.window is not None:
            _check_window(loaded, env, rollout.window, transcript, room, has)


def _check_window(loaded: LoadedConfig, env: EnvironmentConfig, window: int, transcript: Transcript, room: int,
                  has: str) -> None:  # fmt: skip
    config = loaded.config
    caps = [largest(config.rollout.max_turns)]
    if max(config.eval.episodes, config.eval.final_episodes):
        caps.append(config.eval.max_turns)
    turns = min(window, max(cap or window for cap in caps))
    full = full_window(env, turns)
    taken = 0 if full is None else len(transcript.prompt(full))
    if taken > room:
        some = "" if turns == window else f" takes {turns} turns at most, and with them"
        raise BadInput(f"{loaded.where('rollout', 'window')}: a window of {window} observations of '{env.id}'{some} "
                       f"takes {taken} tokens, and {has}; lower it")  # fmt: skip


def check_fits(loaded: LoadedConfig, segments: Sequence[Segment], trajectories: Sequence[Trajectory]) -> None:
    """Refuse to learn from episodes that are longer than the model's context.

    Raises:
        BadInput: naming the longest, and what the model holds.
    """
    files = find_model(loaded.config.model_id)
    own, longest = text_context(files), max(segments, key=lambda s: len(s.ids), default=None)
    if longest is not None and len(longest.ids) > own:
        window = loaded.config.rollout.window
        where = loaded.where("rollout", "window") if window else str(loaded.path)
        raise BadInput(f"{where}: episode '{trajectories[longest.trajectory].id}' takes {len(longest.ids)} tokens at "
                       f"once, and '{files.name}' holds {own}; {'lower' if window else 'set'} rollout.window, or learn "
                       "from shorter episodes")  # fmt: skip


def first_prompts(config: EnvironmentConfig) -> list[tuple[Message, ...]]:
    """What the policy is shown at first in the first few tasks."""
    with closing(make(config.id, **config.kwargs)) as env:
        return [env.reset(seed=config.seeds.start + i)[1]["sample"].messages for i in range(PROBED)]


def full_window(config: EnvironmentConfig, window: int) -> tuple[Message, ...] | None:
    """What the policy is shown once the window is full, in the first of a few tasks in which it ever is; else None.

    An expert acts, so that answers are as short as they can be.  Where it is done before, or there is none, a policy
    that gets nowhere may still go on: then the window is filled with the expert's exchanges over and over, or with
    those of one that says :data:`NOTHING`.
    """
    with closing(make(config.id, **config.kwargs)) as env:
        acted: list[tuple[tuple[Message, ...], list[Exchange]]] = []
        for i in range(PROBED):
            acted.append((first := _first(env, config, i), _exchanges(env, window - 1, _expert)))
            if len(acted[-1][1]) == window - 1:
                return _shown(first, acted[-1][1], window)
        first = _first(env, config, 0)
        said = _exchanges(env, window - 1, lambda env: NOTHING)
        if len(said) < window - 1:
            return None  # the episode is over before
        first, some = next(((f, e) for f, e in acted if e), (first, said))
        return _shown(first, [*islice(cycle(some), window - 1)], window)


Exchange = tuple[Message, Message]
"""An answer, and what the environment says to it."""


def _first(env: Env, config: EnvironmentConfig, task: int) -> tuple[Message, ...]:
    return env.reset(seed=config.seeds.start + task)[1]["sample"].messages


def _shown(first: tuple[Message, ...], exchanges: Sequence[Exchange], window: int) -> tuple[Message, ...]:
    return visible(first + tuple(m for exchange in exchanges for m in exchange), window)


def _expert(env: Env) -> str | None:
    try:
        return env.expert_action()
    except NoExpert:
        return None


def _exchanges(env: Env, most: int, act: Callable[[Env], str | None]) -> list[Exchange]:
    """What is said from here on, until nothing is, or the episode ends with it."""
    found: list[Exchange] = []
    while len(found) < most and (action := act(env)) is not None:
        try:
            observation, _, terminated, truncated, _ = env.step(action)
        except Exception:  # it would end the episode, as an error
            break
        if terminated or truncated:
            break
        found.append((Message("assistant", (Text(action),)), Message("user", observation)))
    return found
