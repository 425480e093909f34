from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmrl.store import RunStore
from mmrl_agents.run import STEP_FILE, drop_future


@pytest.mark.parametrize(("stands_at", "stays"), [(10, False), (19, False), (20, True), (25, True)])
def test_a_best_of_steps_that_will_be_made_again_goes(tmp_path: Path, stands_at: int, stays: bool) -> None:
    store = RunStore.create(tmp_path / "run", "a: 1\n")

    def write(folder: Path) -> None:
        (folder / STEP_FILE).write_text(json.dumps({"step": 20}))

    store.publish("best", write)
    drop_future(store, stands_at)
    assert (store.root / "best" / STEP_FILE).is_file() is stays
