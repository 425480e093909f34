from pathlib import Path

import pytest

from mmrl.read_only_store import ReadOnlyStore
from mmrl.store import RunStore


def fail(folder: Path) -> None:
    raise AssertionError(f"{folder} is written")


def test_it_reads_what_another_process_wrote_and_writes_nothing(tmp_path: Path) -> None:
    writer = RunStore.create(tmp_path / "run", "a: 1\n")
    writer.log({"step": 1, "reward": 0.5})
    writer.checkpoint(1, lambda folder: (folder / "x").touch())
    files = sorted(tmp_path.rglob("*"))
    seen = ReadOnlyStore(tmp_path / "run")
    assert seen.metrics() == [{"step": 1, "reward": 0.5}]
    assert [step for step, _ in seen.checkpoints()] == [1]
    seen.log({"step": 2})
    seen.rewind(0)
    seen.write_eval("x", {})
    assert seen.write_rollouts(2, [], []) == writer.rollouts_of(2)
    assert seen.checkpoint(2, fail) == tmp_path / "run" / "checkpoints" / "step-2"
    assert seen.publish("best", fail) == tmp_path / "run" / "best"
    assert sorted(tmp_path.rglob("*")) == files


@pytest.mark.parametrize("name", [n for n, f in vars(RunStore).items() if "RunStopped" in (f.__doc__ or "")])
def test_all_that_can_fail_by_writing_is_left_out(name: str) -> None:
    assert name in vars(ReadOnlyStore)
