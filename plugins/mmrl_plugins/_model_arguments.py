"""Checks of the constructor arguments that model-backed plugins share: each returns the value or raises BadInput."""

from __future__ import annotations

import math
import re
from typing import Any, cast

from mmrl.errors import BadInput

_DEVICE = re.compile(r"auto|(?:cpu|mps|(?:cuda|xpu)(?::\d+)?)")


def checked_device(device: Any) -> str:
    """Return ``device`` if it can be the name of one.

    Raises:
        BadInput: if it cannot.
    """
    if not isinstance(device, str) or not _DEVICE.fullmatch(device):
        raise BadInput(f"device is 'auto', 'cpu', 'cuda', 'cuda:0', 'xpu' or 'mps', not {device!r}")
    return device


def checked_model(argument: str, model: Any, kind: str) -> str:
    """Return ``model`` if it can be a model's name or folder.

    Args:
        argument: its name.
        model: what was given.
        kind: what it must be, such as "a text classifier".

    Raises:
        BadInput: if it is empty or no text.
    """
    if not isinstance(model, str) or not model.strip():
        raise BadInput(f"{argument} is the name or folder of {kind}, not {model!r}")
    return model


def checked_number(argument: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """Return ``value`` if it is a finite number in [low, high].

    Raises:
        BadInput: naming the argument and the range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadInput(f"{argument} is a finite number, not {value!r}")
    if not low <= value <= high:
        raise BadInput(f"{argument} is in [{low:g}, {high:g}], not {value}")
    return float(value)


def checked_names(argument: str, names: Any, example: str) -> tuple[str, ...]:
    """Return ``names`` if they are a list of texts; it may be empty.

    Raises:
        BadInput: naming the argument and an example.
    """
    listed: list[Any] = list(cast("list[Any]", names)) if isinstance(names, list | tuple) else [None]
    if not all(isinstance(name, str) for name in listed):
        raise BadInput(f"{argument} is a list of names such as {example}, not {names!r}")
    return tuple(listed)
