"""Which columns of a row hold the question, the answer, the images and the rest.

Comes in: the mapping from the YAML file, and a row.  Goes out: the value of a role, or one line that names the column
and those that are there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from mmrl.errors import BadInput, unknown

USUAL: dict[str, tuple[str, ...]] = {
    "question": ("question",),
    "answer": ("answer", "answers", "label"),
    "image": ("image", "images", "file_name"),
    "choices": ("choices",),
    "system": ("system",),
    "id": ("id",),
    "followups": ("followups",),
}
"""The roles, and the columns that one which is not mapped is looked up under, in this order."""
SEVERAL = ("image", "choices", "answer")
"""Roles that may be spread over several columns."""


@dataclass(frozen=True)
class Columns:
    """Role -> the column, or several, that the YAML file gives it."""

    given: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, columns: Mapping[str, str | Sequence[str]] | None) -> Columns:
        """Check a mapping from the YAML file.

        Raises:
            BadInput: naming an unknown role, or a value that is no column's name.
        """
        given: dict[str, tuple[str, ...]] = {}
        for role, value in (columns or {}).items():
            if role not in USUAL:
                raise unknown("role in vqa's columns", str(role), USUAL)
            named: Any = value
            names: tuple[Any, ...] = tuple(named) if isinstance(named, list | tuple) else (named,)
            if not names or not all(isinstance(name, str) for name in names):
                raise BadInput(f"vqa's columns: '{role}' is a column's name, not {value!r}")
            if len(names) > 1 and role not in SEVERAL:
                raise BadInput(f"vqa's columns: '{role}' is one column, not {len(names)}")
            given[role] = names
        return cls(given)

    def value(self, row: Mapping[str, Any], role: str) -> Any:
        """What the row holds for ``role``; of several columns a list of what is there; None if nothing.

        Raises:
            BadInput: if a column that was given is not there.
        """
        names = self.given.get(role)
        if names is None:
            return next((row[name] for name in USUAL[role] if name in row), None)
        if absent := [name for name in names if name not in row]:
            raise BadInput(f"no column '{absent[0]}'; {present(row)}; name the right one in columns")
        return row[names[0]] if len(names) == 1 else [row[name] for name in names if not is_empty(row[name])]

    def needed(self, row: Mapping[str, Any], role: str) -> Any:
        """What the row holds for ``role``.

        Raises:
            BadInput: if it holds nothing.
        """
        value = self.value(row, role)
        if not is_empty(value):
            return value
        name = next((n for n in self.given.get(role, USUAL[role]) if n in row), None)
        raise BadInput(f"'{name}' holds nothing; {present(row)}" if name else
                       f"no column '{USUAL[role][0]}'; {present(row)}; say which it is: columns: {{{role}: ...}}")


def present(row: Mapping[str, Any]) -> str:
    """The columns of a row, for an error."""
    return f"columns present: {', '.join(str(name) for name in row) or 'none'}"


def is_empty(value: Any) -> bool:
    """Whether a cell holds nothing: null, NaN, white space, an empty list, or an image without bytes and path."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, Mapping):
        return all(inner is None for inner in cast("Mapping[str, Any]", value).values())
    return value is None or value != value or (isinstance(value, list | tuple) and not value)


def text_of_cell(value: Any, what: str) -> str:
    """A text or number as text; a whole number has no decimals, whatever its type.

    Raises:
        BadInput: for anything else.
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value)
    raise BadInput(f"{what} is text or a number, not {f'a {type(value).__name__}' if value is not None else 'nothing'}")


def listed(value: Any) -> Any:
    """A list that a cell holds as JSON text, as CSV files have it; anything else as it is."""
    if not (isinstance(value, str) and value.lstrip().startswith("[")):
        return value
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return value
    items = cast("list[Any]", found)  # a text that begins with [ and is JSON is a list
    # "[10, 20, 30, 40]" stays text: it is more likely a box than four annotators.
    return items if items and all(isinstance(item, str | dict) for item in items) else value
