"""Checks of constructor arguments that come from YAML, and of the packages that a plugin needs."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Collection
from typing import Any, TypeVar

from mmrl.errors import BadInput

Option = TypeVar("Option", bound=str)


def whole(name: str, value: Any, at_least: int) -> int:
    """Return ``value`` if it is a whole number of at least ``at_least``.

    Raises:
        BadInput: naming the argument ``name`` and what would be right.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise BadInput(f"{name} is a whole number of at least {at_least}, not {value!r}")
    return value


def seconds(name: str, value: Any) -> float:
    """Return ``value`` if it is a time above 0.

    Raises:
        BadInput: naming the argument ``name`` and what would be right.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < math.inf:
        raise BadInput(f"{name} is a number of seconds above 0, not {value!r}")
    return float(value)


def share(name: str, value: Any) -> float:
    """Return ``value`` if it is a number above 0 and at most 1.

    Raises:
        BadInput: naming the argument ``name`` and what would be right.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value <= 1.0:
        raise BadInput(f"{name} is a number above 0 and at most 1, not {value!r}")
    return float(value)


def one_of(name: str, value: Option, known: Collection[str]) -> Option:
    """Return ``value`` if it is among ``known``.

    Raises:
        BadInput: naming the argument ``name`` and what would be right.
    """
    if value not in tuple(known):  # a tuple asks for no hash, which a list from YAML would lack
        raise BadInput(f"{name} is one of {', '.join(known)}, not {value!r}")
    return value


def installed(module: str, package: str) -> None:
    """Check, without importing it, that ``module`` can be imported.

    Raises:
        BadInput: with the pip command that installs ``package``.
    """
    if importlib.util.find_spec(module) is None:
        raise BadInput(f"this plugin needs the package {package}: pip install {package}")


def imported(module: str) -> Any:
    """Import ``module``, untyped, when it is needed: ``import mmrl_plugins.x`` stays cheap."""
    return importlib.import_module(module)
