"""The reference policy that KL is measured to.

A LoRA policy that started from a bare model is its own reference with the adapter off.  One that started
from a ready adapter needs a frozen copy of it, named ``ref``.  Full weights need a frozen copy of the model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

Reference = Callable[[], AbstractContextManager[Any]]
"""Enter it to get the model that gives the reference's log-probabilities."""


def adapter_off(model: Any) -> Reference:
    """The base model under a fresh adapter."""

    @contextmanager
    def enter() -> Generator[Any]:
        with model.disable_adapter():
            yield model

    return enter


def adapter_copy(model: Any, folder: str) -> Reference:
    """A frozen copy of the adapter in ``folder``, loaded beside the trained one under the name ``ref``."""
    model.load_adapter(folder, adapter_name="ref", is_trainable=False)

    @contextmanager
    def enter() -> Generator[Any]:
        trained = model.active_adapter
        model.set_adapter("ref")
        try:
            yield model
        finally:
            model.set_adapter(trained)

    return enter


def frozen_copy(model: Any) -> Reference:
    """A frozen copy of all weights as they are now."""
    twin = copy.deepcopy(model).eval()
    for parameter in twin.parameters():
        parameter.requires_grad_(False)

    @contextmanager
    def enter() -> Generator[Any]:
        with torch.no_grad():
            yield twin

    return enter
