"""The file of results behind docs/learning.md: what the newest run of each algorithm on each task measured.

Comes in: outcomes.  Goes out: ``docs/data/learning.json``, task -> algorithm -> figures, with the day and a digest of
the settings that they are of.
"""

from __future__ import annotations

import hashlib
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
    row = {**asdict(outcome), "settings": digest(task, name), "day": f"{datetime.now(UTC):%Y-%m-%d}"}
    found.setdefault(task, {})[name] = row
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, written(found).encode())


def written(found: Results) -> str:
    """The file's text: a line an algorithm, in their order."""
    parts: list[str] = []
    for task in TASKS:
        known = found.get(task, {})
        rows = [f"  {json.dumps(n)}: {json.dumps(known[n])}" for n in ALGORITHMS if n in known]
        parts += [f" {json.dumps(task)}: {{\n" + ",\n".join(rows) + "\n }"] if rows else []
    return "{\n" + ",\n".join(parts) + "\n}\n"


def measured(results: Results, task: str, name: str) -> dict[str, Any] | None:
    """The figures of an algorithm as it is set now; None: not run yet, or with other settings."""
    found = results.get(task, {}).get(name)
    return found if found is not None and found["settings"] == digest(task, name) else None


def digest(task: str, name: str) -> str:
    """A name for the settings that an algorithm has now."""
    plain = json.dumps(config_of(ALGORITHMS[name], TASKS[task]), sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:12]
