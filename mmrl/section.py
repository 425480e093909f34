"""What all parts of the configuration have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """A part of the configuration: frozen, and no key that it does not know."""

    shorthand: ClassVar[str | None] = None
    """The key that a plain string in the place of the section gives; None: there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _written_short(cls, given: Any) -> Any:
        return {cls.shorthand: given} if cls.shorthand is not None and isinstance(given, str) else given
