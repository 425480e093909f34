"""What is planned, against what a real run takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from learner_tools import run_config
from tiny_model import save_tiny_model

from mmrl_agents.memory import MemoryPlanner, by_rehearsal

TRAIN = """
import re, sys
from pathlib import Path
import mmrl_agents.memory, mmrl_agents.train, transformers.models.llama.modeling_llama
from mmrl.cli.main import main
from mmrl_agents.host_memory import in_use

def resident(name):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

base = in_use()
Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the imports
assert main(["train", sys.argv[1]]) == 0
print(base, resident("VmHWM"))
"""
"""A run in a process of its own; says what the process held before it and at most."""


def wide(folder: Path) -> None:
    """A random model of 50 million weights: large enough to stand out against what libraries take."""
    save_tiny_model(folder / "model", hidden_size=640, layers=12)


def growth(config: Path) -> int:
    """Bytes by which a run's process grew."""
    alone = {**os.environ, "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", TRAIN, str(config)], capture_output=True, text=True, timeout=300,
                          check=False, env=alone)  # fmt: skip
    assert done.returncode == 0, done.stderr
    base, peak = map(int, done.stdout.splitlines()[-1].split())
    return peak - base


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
@pytest.mark.parametrize("args", [
    {"max_steps": 2},  # only the second update finds the optimiser's state
    {"max_steps": 1, "lora": {"r": 16}},
], ids=["full", "lora"])  # fmt: skip
def test_the_peak_is_planned_within_15_percent(tmp_path: Path, args: dict[str, Any]) -> None:
    wide(tmp_path)
    loaded = run_config(
        tmp_path,
        training_args={"num_generations": 8, "per_device_train_batch_size": 8,
                       "gradient_accumulation_steps": 1, "save_steps": 50, **args},
        rollout={"max_new_tokens": 64},
    )  # fmt: skip
    planned = MemoryPlanner(by_rehearsal).plan(loaded)
    assert planned.peak - planned.base == pytest.approx(growth(loaded.path), rel=0.15)
