"""``kill -9`` at any moment, then ``--resume``: the final weights are those of a run that nothing disturbed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_tools import repeatable, run_config
from safetensors.torch import load_file

from mmrl.store import RunStore, read_trajectories

DRIVER = '''
"""mmrl's command line, which kills itself (SIGKILL) just before the rename that ends with argv[1]."""
import os, signal, sys
from mmrl.cli.main import main

def deadly(rename):
    def wrapped(old, new):
        if str(new).endswith(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        rename(old, new)
    return wrapped

if sys.argv[1] != "never":
    os.rename, os.replace = deadly(os.rename), deadly(os.replace)
sys.exit(main(sys.argv[2:]))
'''


def start(folder: Path, name: str, kill_at: str, *words: str) -> "subprocess.Popen[bytes]":
    (folder / "driver.py").write_text(DRIVER)
    log = (folder / "log.txt").open("ab")
    command = [sys.executable, str(folder / "driver.py"), kill_at, "train", str(folder / f"{name}.yaml"), *words]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=log, stderr=log)


def finish(process: "subprocess.Popen[bytes]", folder: Path, code: int) -> None:
    assert process.wait(timeout=300) == code, (folder / "log.txt").read_text()[-3000:]


def leftovers(root: Path) -> list[str]:
    return [p.name for p in root.rglob(".*") if p.name.endswith((".tmp", ".old"))]


AHEAD: dict[str, tuple[str, dict[str, Any]]] = {
    "adapter, whole transcript": ("adapter_model", {"training_args": {"lora": {"r": 2}}}),
    "all weights, window": ("model", {"environments": [{"id": "babyai/balrog-goto"}],
                                      "rollout": {"max_turns": 3, "window": 1}}),
}  # fmt: skip


@pytest.mark.parametrize("case", AHEAD)
def test_a_run_that_samples_ahead_is_killed_and_loses_no_episode(tmp_path: Path, case: str) -> None:
    """Killed while batches are in the making, two steps past its last checkpoint."""
    weights, own = AHEAD[case]
    sections = {
        **own,
        "training_args": {"max_steps": 6, "save_steps": 2, **own.get("training_args", {})},
        "rollout": {"async_steps": 2, "max_new_tokens": 6, "dynamic_sampling": 1, **own.get("rollout", {})},
    }
    whole, killed = (run_config(tmp_path, name, **sections).output_dir for name in ("whole", "killed"))
    undisturbed = start(tmp_path, "whole", "never")
    finish(start(tmp_path, "killed", "checkpoints/step-4"), tmp_path, -signal.SIGKILL)
    assert [n for n, _ in RunStore(killed).checkpoints()] == [2]
    assert [m["step"] for m in RunStore(killed).metrics()] == [1, 2, 3, 4]
    finish(start(tmp_path, "killed", "never", "--resume"), tmp_path, 0)
    finish(undisturbed, tmp_path, 0)
    ids = [[t.id for t in read_trajectories(root)] for root in (whole, killed)]
    assert ids[0] == ids[1]
    assert len(set(ids[1])) == len(ids[1]) >= 48
    a, b = (load_file(root / "final" / f"{weights}.safetensors") for root in (whole, killed))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[n], b[n]) for n in a)
    metrics = [repeatable(RunStore(root).metrics()) for root in (whole, killed)]
    assert metrics[0] == metrics[1]


def test_a_run_killed_three_times_ends_with_the_same_bits(tmp_path: Path) -> None:
    lora = {"max_steps": 5, "lora": {"r": 2}, "kl_coef": 0.05}
    course = {"environments": [{"id": "text/arithmetic"}] * 2, "curriculum": {"floor": 0.5}, "replay": {"size": 4},
              "rollout": {"max_new_tokens": 6, "dynamic_sampling": 2}}  # fmt: skip
    whole = run_config(tmp_path, "whole", training_args=lora, **course).output_dir
    killed = run_config(tmp_path, "killed", training_args=lora, **course).output_dir
    undisturbed = start(tmp_path, "whole", "never")

    # 1. From outside, as soon as the first line of metrics is there.
    process = start(tmp_path, "killed", "never")
    while not (killed / "metrics.jsonl").exists() or not (killed / "metrics.jsonl").read_bytes().endswith(b"\n"):
        assert process.poll() is None, (tmp_path / "log.txt").read_text()[-3000:]
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    finish(process, tmp_path, -signal.SIGKILL)

    # 2. While the rollouts of step 3 are written: the file lies there under its temporary name.
    finish(start(tmp_path, "killed", "step-000003.parquet", "--resume"), tmp_path, -signal.SIGKILL)
    assert [n for n, _ in RunStore(killed).checkpoints()][-1] == 2
    assert any("step-000003" in name for name in leftovers(killed))

    # 3. While the checkpoint of step 4 is written, its metrics already being there.
    finish(start(tmp_path, "killed", "checkpoints/step-4", "--resume"), tmp_path, -signal.SIGKILL)
    assert [n for n, _ in RunStore(killed).checkpoints()][-1] == 3
    assert [m["step"] for m in RunStore(killed).metrics()] == [1, 2, 3, 4]
    assert any("step-4" in name for name in leftovers(killed))

    finish(start(tmp_path, "killed", "never", "--resume"), tmp_path, 0)
    finish(undisturbed, tmp_path, 0)
    assert leftovers(killed) == []
    for folder in ("final", "checkpoints/step-5"):
        a, b = (load_file(root / folder / "adapter_model.safetensors") for root in (whole, killed))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[n], b[n]) for n in a)
    states = [torch.load(r / "checkpoints/step-5/learner.pt", weights_only=True) for r in (whole, killed)]
    assert torch.equal(states[0]["rng"], states[1]["rng"])
    for mine, theirs in zip(*(s["optimizer"]["state"].values() for s in states), strict=True):
        assert all(torch.equal(mine[k], theirs[k]) for k in mine)
    metrics = [repeatable(RunStore(root).metrics()) for root in (whole, killed)]
    assert metrics[0] == metrics[1]
    assert [m["step"] for m in metrics[0]] == [1, 2, 3, 4, 5]
    assert len(list((killed / "rollouts").glob("*.parquet"))) == 5
