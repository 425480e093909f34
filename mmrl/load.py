"""Load a policy by name: ``random``, ``expert``, a model id, or a checkpoint folder."""

from __future__ import annotations

import inspect
from typing import Any

from mmrl.errors import BadInput
from mmrl.policy import Policy
from mmrl.registry import POLICIES

MODEL_BACKEND = "hf"
RUN_POLICIES = ("best", "final")
"""The policies in a run's folder: the first that is there stands for the run."""


def policy_arguments(name: str) -> tuple[str, ...]:
    """The names of the arguments that a registered policy takes; empty if it does not tell them.

    Raises:
        BadInput: if nothing goes by that name.
    """
    found = POLICIES.get(name)
    try:
        return tuple(inspect.signature(found).parameters)
    except (TypeError, ValueError):  # what was written in C, for instance
        return ()


def load_policy(model_id: str, /, **kwargs: Any) -> Policy:
    """Load the policy that ``model_id`` names.

    Args:
        model_id: a registered policy (``mmrl list policies``), ``path/file.py:Class``, a model id such as
            ``mmrl/tiny``, or a folder with a Hugging Face model or PEFT adapter.
        **kwargs: the policy's own arguments; for models ``temperature``, ``max_new_tokens``, ``dtype``, ...

    Raises:
        BadInput: if nothing goes by that name or the arguments do not fit.
    """
    named = POLICIES.knows(model_id)
    try:
        made = POLICIES.get(model_id)(**kwargs) if named else POLICIES.get(MODEL_BACKEND)(model_id, **kwargs)
    except TypeError as error:
        raise BadInput(f"policy '{model_id}' does not take these arguments: {error}") from error
    except ImportError as error:
        raise BadInput(f"policy '{model_id}' needs a package that is missing ({error}); "
                       "install it with: pip install 'mmrl[train]'") from error  # fmt: skip
    if not isinstance(made, Policy):
        raise BadInput(f"policy '{model_id}' made a {type(made).__name__}; it needs an async generate(requests)")
    return made
