"""Every algorithm on every task, by ``mmrl train``: success on held-out seeds rises to the task's mark.

`make test-learning` runs it and writes what it measured to docs/data/learning.json and docs/learning.md.
"""

from pathlib import Path

import pytest
from algorithms import ALGORITHMS
from learning_results import record
from learning_runs import TASKS, learn, reached_by


@pytest.mark.learning
@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("task", TASKS)
def test_it_learns(name: str, task: str, tmp_path: Path) -> None:
    found = learn(ALGORITHMS[name], TASKS[task], tmp_path)
    record(task, name, found)
    assert found.before_ci95[1] < found.after_ci95[0]
    assert found.after >= reached_by(ALGORITHMS[name], TASKS[task])
