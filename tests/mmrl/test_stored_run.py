from pathlib import Path

import pytest

import mmrl
from mmrl.errors import BadInput
from mmrl.run_state import RunState
from mmrl.store import RunStore
from mmrl.stored_run import StoredRun


def make(root: Path, config: str, steps: int = 4) -> StoredRun:
    store = RunStore.create(root, config)
    ran = mmrl.rollout("text/arithmetic", "expert", range(2))
    for step in range(1, steps + 1):
        store.write_rollouts(step, ran, [None, None])
        store.log({"step": step, "success": step / 10, "note": "text"})
    store.close()
    return StoredRun.find(root)


def test_steps_and_rollouts(tmp_path: Path) -> None:
    run = make(tmp_path / "r", "training_args: {max_steps: 8}")
    assert (run.steps, run.count([2, 3, 9]), run.root) == ([1, 2, 3, 4], 4, tmp_path / "r")
    assert [(step, [t.seed for t in ts]) for step, ts in run.read({3, 1})] == [(1, [0, 1]), (3, [0, 1])]


def test_a_state_is_what_the_trainer_said(tmp_path: Path) -> None:
    run = make(tmp_path / "r", "training_args: {max_steps: 8}")
    assert run.state(1) == RunState(1, 0.0, {})
    assert run.state(4) == RunState(4, 3 / 8, {"step": 3.0, "success": 0.3})
    assert run.state(20).progress == 1.0


@pytest.mark.parametrize("config", ["training_args: {max_steps: -1}", "training_args: 3", "- x", "a: [", ""])
def test_without_a_number_of_steps_the_last_stored_one_counts(config: str, tmp_path: Path) -> None:
    run = make(tmp_path / "r", config)
    assert run.state(4).progress == 3 / 4
    assert run.training_args.get("turn_discount") is None


def test_a_file_belongs_to_its_run(tmp_path: Path) -> None:
    make(tmp_path / "r", "training_args: {max_steps: 8}")
    run = StoredRun.find(tmp_path / "r/rollouts/step-000002.parquet")
    assert (run.steps, run.root, run.state(2)) == ([2], tmp_path / "r", RunState(2, 1 / 8, {"step": 1, "success": 0.1}))


def test_metrics_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    run = make(tmp_path / "r", "x: 1")
    (tmp_path / "r/metrics.jsonl").write_text("{nonsense\n")
    with pytest.raises(BadInput, match=r"r/metrics.jsonl: cannot be read: "):
        run.state(1)
