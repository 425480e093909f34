"""One entry of ``reward_plugins``: which plugin, how much it counts, and how it is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, ValidationError, model_validator

from mmrl.errors import BadInput
from mmrl.schedule import Finite, Weight, untagged
from mmrl.section import Section

DEFAULT_TIMEOUT_S = 60.0


class Gate(Section):
    """What a low score does to the whole reward."""

    below: Finite
    """The gate closes when the score is below this."""
    force: Finite | None = None
    """The reward of a rollout that the gate stops; None: everything positive in it becomes 0."""


class PluginConfig(Section):
    """One entry of ``reward_plugins``; its name alone will do."""

    shorthand = "name"

    name: str
    """A registered name (``mmrl list plugins``), ``module:Class`` or ``path/file.py:Class``."""
    as_: str | None = Field(default=None, alias="as")
    """The name under which scores are recorded; needed where one plugin is used twice."""
    weight: Weight = 1.0
    """A number, or a schedule: ``{schedule: linear, from: 0, to: 1}``, ``cosine``, ``steps`` or ``metric``."""
    kwargs: dict[str, Any] = Field(default={})
    """The plugin's own arguments."""
    gate: Gate | None = None
    """``{below: 0, force: -2}`` or ``{below: 0}``: what a score below does to the whole reward."""
    out_of_range: Literal["fail", "clip"] = "fail"
    """A value outside the plugin's declared range fails, or is moved to its nearer end."""
    on_failure: Literal["mask", "leave_out"] = "mask"
    """A failed score masks its rollout out of the group and the loss, or is left out like one that does not apply."""
    timeout_s: float | None = Field(default=DEFAULT_TIMEOUT_S, gt=0)
    """Time limit of one call, in seconds; None: no limit, and a plugin that hangs hangs the run."""
    retries: int = Field(default=0, ge=0)
    """Further tries after an exception or a timeout, after 0.5, 1, 2, ... seconds."""
    batch_size: PositiveInt | None = None
    """Rollouts in one call of a plugin that scores batches; None: the plugin's own."""
    concurrency: PositiveInt | None = None
    """Calls at once; None: the plugin's own (1, or 16 for async plugins).  More needs a thread-safe plugin."""
    cache: bool | Path = False
    """Remember scores on disk by content: true, or a folder of your own."""

    @model_validator(mode="after")
    def _a_gate_never_opens_by_failing(self) -> Self:
        if self.gate is not None and self.on_failure == "leave_out":
            raise ValueError("a gate that fails must not let everything pass; remove 'on_failure: leave_out'")
        return self

    @property
    def instance(self) -> str:
        """The name under which scores are recorded."""
        return self.as_ or self.name


def read_entry(entry: Mapping[str, Any] | PluginConfig) -> PluginConfig:
    """Read one entry.

    Raises:
        BadInput: naming the plugin, the key and what is wrong with it.
    """
    if isinstance(entry, PluginConfig):
        return entry
    try:
        return PluginConfig.model_validate(entry)
    except ValidationError as error:
        wrong = error.errors()[0]
        key = ".".join(map(str, untagged(wrong["loc"])))
        raise BadInput(f"reward plugin {entry.get('name', '?')!r}: {key}: {wrong['msg']}") from error
