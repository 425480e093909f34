"""The user message of a row: a template with the names of columns in braces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmrl.errors import BadInput


def fill(prompt: str, row: Mapping[str, Any], roles: Mapping[str, Any]) -> str:
    """Fill a template in.

    Args:
        prompt: text in which ``{name}`` stands for a column's value or a role's.
        row: the columns.
        roles: what goes before a column of the same name (``question``, ``choices``).

    Raises:
        BadInput: if it names a column that is not there, or its braces do not match.
    """
    try:
        return prompt.format_map({**row, **roles})
    except (KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
        present = ", ".join(str(name) for name in row)
        raise BadInput(
            f"does not fill the prompt {prompt!r} ({type(error).__name__}: {error}); columns present: {present}"
        ) from error
