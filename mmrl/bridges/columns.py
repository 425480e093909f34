"""The columns of another trainer's dataset: which of them holds the ground truth.

Comes in: what the trainer hands over by column name, a list for each.  Goes out: one reference a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from mmrl.errors import BadInput
from mmrl.plugin import required_of_env
from mmrl.reward import RewardSuite

REFERENCE = "reference"
"""The column that is looked for if none is named."""


def references(columns: Mapping[str, Any], name: str, suite: RewardSuite, rows: int, how: str) -> list[Any]:
    """The ground truth of each row; None for all where the column is missing and nobody asks for it.

    Args:
        columns: name -> a list with one value a row.
        name: the column with the ground truth.
        suite: what is going to be scored.
        rows: how many rows there are.
        how: how to name another column, for the error.

    Raises:
        BadInput: if the column is missing, and was named or a plugin needs it; or if it is no list of ``rows``.
    """
    if name not in columns:
        asking = next((m.name for m in suite.members if "reference" in required_of_env(m.plugin)), None)
        if asking is None and name == REFERENCE:
            return [None] * rows
        lists = [k for k, v in columns.items() if isinstance(v, list)]
        why = f"the ground truth that plugin '{asking}' needs" if asking else "the ground truth"
        raise BadInput(f"the dataset has no column '{name}' with {why}; it has {', '.join(lists) or 'none'}: {how}")
    column = columns[name]
    if not isinstance(column, Sequence) or isinstance(column, str) or len(cast("Sequence[Any]", column)) != rows:
        raise BadInput(f"column '{name}' is a list of {rows}, one a completion, not {column!r:.60}")
    return [plain(value) for value in cast("Sequence[Any]", column)]


def plain(value: Any) -> Any:
    """The value, with an array (as tables in Parquet give for a list) as a list."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
