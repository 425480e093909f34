"""Two processes over gloo come to the weights, the metrics and the ends of one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from two_processes import CASES, COUNT, MEETING, learned, ranks, start

from mmrl.store import RunStore
from mmrl_agents.processes import ALONE, buckets, in_step, joined

WITHIN = {torch.float32: 1e-6, torch.float64: 1e-12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("together")
    for rank, process in enumerate(start(made)):
        assert process.wait(timeout=400) == 0, (made / f"log-{rank}.txt").read_text()[-3000:]
    return made


@pytest.mark.parametrize("kind", ["whole", "cut"])
@pytest.mark.parametrize("name", CASES)
def test_an_update_of_two_processes_is_that_of_one(folder: Path, name: str, kind: str) -> None:
    one = learned(CASES[name])
    two: list[dict[str, Any]] = [torch.load(folder / f"{name}, {kind}, {rank}.pt") for rank in range(COUNT)]
    for rank in range(COUNT):
        assert two[rank]["weights"].keys() == one.weights.keys()
        for key, weight in one.weights.items():
            assert float((two[rank]["weights"][key] - weight).abs().max()) <= WITHIN[CASES[name].dtype], key
        for said, expected in zip(two[rank]["metrics"], one.metrics, strict=True):
            assert said == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert two[0]["metrics"] == two[1]["metrics"]
    assert all(torch.equal(two[0]["weights"][key], two[1]["weights"][key]) for key in one.weights)


def test_all_processes_end_as_the_first_that_ends_otherwise_than_well(folder: Path) -> None:
    first, second = ((folder / f"ends-{rank}.txt").read_text().splitlines() for rank in range(COUNT))
    assert second == ["interrupted", "BadInput: mend it", "RunStopped: full", "ValueError: odd"]
    assert first[:3] == second[:3]
    assert first[3] == "RunStopped: process 1 failed: ValueError: odd"
    assert first[4].startswith("another process of this run is gone; what was written is intact")


def test_a_stop_that_one_process_was_asked_for_leaves_a_run_to_resume(folder: Path) -> None:
    store = RunStore(folder / "stopped")
    assert [m["step"] for m in store.metrics()] == [1, 2]
    assert store.checkpoints()[-1][0] == 2


@pytest.mark.skipif(sys.platform != "linux", reason="threads are read from /proc")
def test_no_thread_of_a_group_outlives_the_interpreter(tmp_path: Path) -> None:
    assert [process.wait(timeout=200) for process in ranks(tmp_path, "-c", MEETING)] == [0, 0]
    for rank in range(COUNT):
        said = (tmp_path / f"log-{rank}.txt").read_text().splitlines()
        meeting, after = (next(line for line in said if line.startswith(word)) for word in ("while", "after"))
        assert "gloo" in meeting
        assert "gloo" not in after


def test_one_process_meets_nobody() -> None:
    assert joined() is ALONE
    assert ALONE.exchange("x") == ["x"]
    assert ALONE.share([1, 2, 3]) == [1, 2, 3]
    assert ALONE.deal([1, 2, 3]) == [1, 2, 3]
    assert in_step(lambda x: x + 1)(1) == 2


def test_gradients_are_summed_in_buckets_of_one_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmrl_agents.processes.BUCKET", 5)
    tensors = [torch.zeros(n, dtype=kind) for n, kind in ((2, torch.float32), (3, torch.float32), (1, torch.float32),
                                                          (1, torch.float64), (9, torch.float64))]  # fmt: skip
    assert [[t.numel() for t in bucket] for bucket in buckets(tensors)] == [[2, 3], [1], [1], [9]]
