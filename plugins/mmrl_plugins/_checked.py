"""Checks of constructor arguments that several plugins share: each returns the value or raises BadInput."""

from __future__ import annotations

import math
from typing import Any

from pydantic import ValidationError

from mmrl.errors import BadInput


def checked_flag(argument: str, value: Any) -> bool:
    """Check a switch; the text "false" is none.

    Raises:
        BadInput: naming the argument.
    """
    if not isinstance(value, bool):
        raise BadInput(f"{argument} is true or false, not {value!r:.80}")
    return value


def checked_pair(argument: str, pair: Any) -> tuple[float, float]:
    """Check a pair of finite numbers, the lower one first.

    Raises:
        BadInput: naming the argument.
    """
    values: list[Any] = list(pair) if isinstance(pair, list | tuple) else []
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    if len(values) != 2 or len(numbers) != 2 or numbers[0] >= numbers[1]:
        raise BadInput(f"{argument} is two numbers, the lower one first, such as [0, 10], not {pair!r:.80}")
    return numbers[0], numbers[1]


def first_problem(error: ValidationError, *where: str) -> str:
    """The first thing that pydantic found wrong, as ``key.key: what``."""
    wrong = error.errors()[0]
    return f"{'.'.join((*where, *map(str, wrong['loc'])))}: {wrong['msg']}"
