"""A function of the user's own in a place where a formula is expected: is it one?

Comes in: what a reference named.  Goes out: the function, tried once on small tensors, or one line that says what it
should be.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmrl.errors import BadInput, one_line


def own_function(found: Any, what: str, parameters: Sequence[str], probe: Sequence[Any], returns: str) -> Any:
    """Check that ``found`` is a function of these parameters, and what it makes of a probe.

    Args:
        found: what a reference named.
        what: what names it, with its place, for errors.
        parameters: names of the arguments, which are given by position.
        probe: their values; the first is a tensor, and the function returns one of its shape.
        returns: what the function returns, in words.

    Raises:
        BadInput: if it takes other arguments, raises, or returns something else.
    """
    right = f"write a function ({', '.join(parameters)}) that returns {returns}"
    try:
        inspect.signature(found).bind(*probe)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{what} cannot be called with {len(parameters)} arguments; {right}") from error
    try:
        out = found(*probe)
    except Exception as error:
        raise BadInput(f"{what} fails on a small example: {one_line(error)}; {right}") from error
    if not isinstance(out, Tensor) or out.shape != probe[0].shape:
        got = f"a tensor of shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
        raise BadInput(f"{what} returns {got} for shape {tuple(probe[0].shape)}; {right}")
    if not bool(torch.isfinite(out).all()):
        raise BadInput(f"{what} returns numbers that are not finite on a small example; {right}")
    if probe[0].requires_grad and not out.requires_grad:
        raise BadInput(f"{what} returns no gradient of {parameters[0]}; {right}")
    return found
