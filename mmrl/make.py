"""Make environments by id: one, or a Gymnasium vector of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import gymnasium

from mmrl.env import Env
from mmrl.errors import BadInput
from mmrl.registry import find_env


def make(env_id: str, **kwargs: Any) -> Env:
    """Make the environment that ``env_id`` names.

    Args:
        env_id: a registered id (``mmrl list envs``), ``module:Class`` or ``path/file.py:Class``.
        **kwargs: the environment's own arguments.

    Raises:
        BadInput: if the id is unknown, the arguments do not fit, or what was made is no ``mmrl.Env``.
    """
    factory = find_env(env_id)
    try:
        env: Any = factory(**kwargs)
    except TypeError as error:
        raise BadInput(f"environment '{env_id}' does not take these arguments: {error}") from error
    except BadInput:
        raise
    except (ValueError, OSError, ImportError, gymnasium.error.Error) as error:
        raise BadInput(f"environment '{env_id}' cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(env, Env):
        raise BadInput(f"environment '{env_id}' made a {type(env).__name__}; it must be an mmrl.Env")
    return env


def make_vec(env_id: str, num_envs: int = 2, mode: Literal["sync", "async"] = "sync", **kwargs: Any) -> Any:
    """Make a ``gymnasium.vector`` environment of ``num_envs`` copies.

    Args:
        env_id: as in :func:`make`.
        num_envs: how many copies, at least 1.
        mode: ``"sync"`` steps them in turn, ``"async"`` in processes of their own.
        **kwargs: the environment's own arguments.
    """
    from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

    thunks: list[Callable[[], Env]] = [lambda: make(env_id, **kwargs) for _ in range(num_envs)]
    if mode == "sync":
        return SyncVectorEnv(thunks)
    if mode == "async":
        return AsyncVectorEnv(thunks, shared_memory=False)
    raise BadInput(f"make_vec's mode is 'sync' or 'async', not {mode!r}")
