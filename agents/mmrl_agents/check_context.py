"""Whether what a run shows has room in its model's context, found out before any weights are loaded."""

from __future__ import annotations

from contextlib import closing
from itertools import takewhile

from mmrl.config import EnvironmentConfig
from mmrl.config_load import LoadedConfig
from mmrl.env import Env, NoExpert
from mmrl.episode import visible
from mmrl.errors import BadInput
from mmrl.make import make
from mmrl.provided import PROBED
from mmrl.sample import Message, Text
from mmrl_agents.models import find_model, load_generation, load_processing, text_context
from mmrl_agents.transcript import Transcript
from mmrl_agents.turns import end_ids


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
        full = None if rollout.window is None else full_window(env, rollout.window)
        if full is not None and len(transcript.prompt(full)) > room:
            raise BadInput(f"{loaded.where('rollout', 'window')}: a window of {rollout.window} observations of "
                           f"'{env.id}' takes {len(transcript.prompt(full))} tokens, and {has}; lower it")


def first_prompts(config: EnvironmentConfig) -> list[tuple[Message, ...]]:
    """What the policy is shown at first in the first few tasks."""
    with closing(make(config.id, **config.kwargs)) as env:
        return [env.reset(seed=config.seeds.start + i)[1]["sample"].messages for i in range(PROBED)]


def full_window(config: EnvironmentConfig, window: int) -> tuple[Message, ...] | None:
    """What the policy is shown once the window is full, in the first of a few tasks in which it ever is; else None.

    An expert acts, so that answers are as short as they can be; None too where there is none.
    """
    with closing(make(config.id, **config.kwargs)) as env:
        for i in range(PROBED):
            messages = env.reset(seed=config.seeds.start + i)[1]["sample"].messages
            exchanges = [*takewhile(bool, (_exchange(env) for _ in range(window - 1)))]
            if len(exchanges) == window - 1:
                return visible(messages + tuple(m for exchange in exchanges for m in exchange), window)
    return None


def _exchange(env: Env) -> tuple[Message, ...]:
    """An answer and what the environment says to it; empty where there is no expert, or the episode ends with it."""
    try:
        action = env.expert_action()
    except NoExpert:
        return ()
    observation, _, terminated, truncated, _ = env.step(action)
    if terminated or truncated:
        return ()
    return Message("assistant", (Text(action),)), Message("user", observation)
