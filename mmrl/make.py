"""Make environments by id: one, or a Gymnasium vector of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import gymnasium

from mmrl.env import Env
from mmrl.errors import BadInput, nearest
from mmrl.registry import env_arguments, find_env

ABSTRACT = "__isabstractmethod__"
"""What :func:`abc.abstractmethod` marks a method with; Gymnasium's classes do not look at it."""


def make(env_id: str, **kwargs: Any) -> Env:
    """Make the environment that ``env_id`` names.

    Args:
        env_id: a registered id (``mmrl list envs``), ``module:Class`` or ``path/file.py:Class``.
        **kwargs: the environment's own arguments.

    Raises:
        BadInput: if the id is unknown, the arguments do not fit, or what was made is no ``mmrl.Env`` or lacks a method.
    """
    factory = find_env(env_id)
    try:
        env: Any = factory(**kwargs)
    except TypeError as error:
        said = _misfit(env_id, kwargs, error)
        raise BadInput(f"environment '{env_id}' does not take these arguments: {said}") from error
    except BadInput:
        raise
    except (ValueError, OSError, ImportError, gymnasium.error.Error) as error:
        raise BadInput(f"environment '{env_id}' cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(env, Env):
        raise BadInput(f"environment '{env_id}' made a {type(env).__name__}; it must be an mmrl.Env")
    if lacking := [name for name in ("observation_space", "action_space") if not hasattr(env, name)]:
        raise BadInput(f"environment '{env_id}': {type(env).__name__} has no {' and no '.join(lacking)}: begin its "
                       "__init__() with super().__init__()")  # fmt: skip
    if missing := [name for name in dir(type(env)) if getattr(getattr(type(env), name, None), ABSTRACT, False)]:
        raise BadInput(f"environment '{env_id}': {type(env).__name__} must define "
                       f"{' and '.join(f'{name}()' for name in missing)}")  # fmt: skip
    return env


def _misfit(env_id: str, kwargs: Mapping[str, Any], error: TypeError) -> str:
    """Which argument is wrong and what would be right, as far as the environment names its arguments."""
    known = env_arguments(env_id)
    strange = next((name for name in kwargs if name not in known), None)
    if not known:
        return str(error)
    said = f"{error}." if strange is None else f"there is no '{strange}'{nearest(strange, known) or '.'}"
    return f"{said} It takes {', '.join(known)}"


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
