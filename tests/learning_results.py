"""The file of results behind docs/learning.md: what the newest run of each algorithm on each task measured.

Comes in: outcomes.  Goes out: ``docs/data/learning.json``, task -> algorithm -> figures, and the settings and the day
that they are of.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from algorithms import ALGORITHMS
from learning_runs import TASKS, Outcome, config_of

from mmrl.files import atomic_write

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "data" / "learning.json"
Results = dict[str, dict[str, dict[str, Any]]]


def read(path: Path = RESULTS) -> Results:
    """All that was measured."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def record(task: str, name: str, outcome: Outcome, path: Path = RESULTS) -> None:
    """Put an outcome in the place of the one before."""
    found = read(path)
    figures = json.loads(json.dumps(asdict(outcome)))
    found.setdefault(task, {})[name] = {**figures, "config": _plain(task, name), "day": f"{datetime.now(UTC):%Y-%m-%d}"}
    ordered = {t: {n: found[t][n] for n in ALGORITHMS if n in found[t]} for t in TASKS if t in found}
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, (json.dumps(ordered, indent=1) + "\n").encode())


def measured(results: Results, task: str, name: str) -> dict[str, Any] | None:
    """The figures of an algorithm as it is set now; None: not run yet, or with other settings."""
    found = results.get(task, {}).get(name)
    return found if found is not None and found["config"] == _plain(task, name) else None


def _plain(task: str, name: str) -> Any:
    """The configuration as JSON has it."""
    return json.loads(json.dumps(config_of(ALGORITHMS[name], TASKS[task])))
