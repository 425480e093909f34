"""A step with its batch drawn ahead (``rollout.async_steps: 1``) against one that waits for its episodes.

Whole runs as ``mmrl train`` makes them, GRPO on text/arithmetic, one after the other and ahead in turns; a step's time
is the median over a run's steps after the second.  Two cases:

- devices elsewhere: mmrl/tiny with a sampler (of random words) and an update that each take two seconds by sleeping, as
  devices of their own would: what is left over is what a step costs by itself;
- for real: SmolLM2-135M samples and learns, float32, each on one core, as a sampler and a learner have a device each;
  answers so long that sampling and update take about as long.

Prints the median ratio of the step times, and appends it to RESULTS.md; the target is at most 0.75 of the time.

    python benchmarks/async_steps.py [--repeats 3] [--dry-run]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from results import append
from sides.steps import arguments

import mmrl_agents  # noqa: F401 - before torch: it says how waiting threads wait
from mmrl.config_load import load_config
from mmrl.policy import Completion, Request
from mmrl.report import Quiet
from mmrl.store import RunStore
from mmrl_agents.learner import Learner
from mmrl_agents.rehearsal import Stranger
from mmrl_agents.run import Run
from mmrl_agents.sampler import SAMPLERS, SamplerKind, check_own
from mmrl_agents.train import Grpo
from mmrl_agents.transcript import Transcript

TARGET, STEPS, FIRST, PAUSE_S = 0.75, 6, 2, 2.0
UPDATE = Learner.update
MODEL = Path(__file__).resolve().parents[1] / ".cache" / "models" / "SmolLM2-135M-Instruct"
BASE: dict[str, Any] = {
    "train_type": "GRPO",
    "environments": [{"id": "text/arithmetic"}],
    "reward_plugins": [{"name": "length", "kwargs": {"max_length": 1000, "buffer": 1000, "unit": "characters"}}],
    "training_args": {"num_generations": 8, "per_device_train_batch_size": 16, "max_steps": STEPS, "save_steps": 1000,
                      "learning_rate": 1e-6},
    "eval": {"episodes": 0, "final_episodes": 0},
}  # fmt: skip


class Elsewhere(Stranger):
    """A sampler that takes time and no core, as one on another machine does."""

    version = 0

    def __init__(self, run: Run) -> None:
        r = run.config.rollout
        super().__init__(Transcript(run.processing, (0,)), r.max_new_tokens, 2048)

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer each request, after a while."""
        await asyncio.sleep(PAUSE_S)
        return [replace(said, version=self.version) for said in await super().generate(requests)]

    def updated(self, version: int) -> None:
        """Know the version."""
        self.version = version

    def rest(self) -> None:
        """Hold nothing."""

    def close(self) -> None:
        """Hold nothing."""


class Watch(Quiet):
    """Notes when steps end."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def step(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Note it."""
        self.ends.append(time.perf_counter())


def slow_update(self: Learner, *args: Any) -> dict[str, float]:
    """An update that takes time and no core besides its own."""
    time.sleep(PAUSE_S)
    return UPDATE(self, *args)


def train(model: str, ahead: int, answer: int) -> tuple[float, list[dict[str, Any]]]:
    """A run; returns the median seconds of its later steps, and their metrics."""
    with tempfile.TemporaryDirectory() as folder:
        tree = {**BASE, "model_id": model, "rollout": {"async_steps": ahead, "max_new_tokens": answer},
                "training_args": {**BASE["training_args"], "output_dir": f"{folder}/run"}}  # fmt: skip
        config = Path(folder, "config.yaml")
        config.write_text(yaml.safe_dump(tree))
        watch = Watch()
        root = Grpo().train(load_config(config), False, watch)
        took = [b - a for a, b in zip(watch.ends, watch.ends[1:], strict=False)][FIRST - 1 :]
        return statistics.median(took), RunStore(root).metrics()[FIRST:]


def measure(name: str, model: str, answer: int, repeats: int, keep: bool) -> float:
    pairs: list[tuple[float, float]] = []
    for _ in range(repeats):
        waits, metrics = train(model, 0, answer)
        phases = [statistics.median(m[f"time/{phase}"] for m in metrics) for phase in ("rollout", "update")]
        if any("update/skipped" in m for m in metrics):
            raise SystemExit("the rewards have no spread: nothing was learned")
        print(f"  {name}: sampling {phases[0]:.2f} s, update {phases[1]:.2f} s in a step of {waits:.2f} s", flush=True)
        pairs.append((waits, train(model, 1, answer)[0]))
        print(f"  {name}: ahead {pairs[-1][1]:.2f} s", flush=True)
    ratio = statistics.median(ours / peer for peer, ours in pairs)
    peer, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    what = f"GRPO step, {name}, async_steps 1, vs 0"
    print(f"{what}: {ours:.2f} s against {peer:.2f} s, {ratio:.2f} of the time", flush=True)
    if keep:
        append(what, f"{ours:.2f} s", f"{peer:.2f} s", peer / ours)
    return ratio


def main() -> int:
    """Measure; exit code 1 if a case misses the target."""
    parser = arguments(__doc__, 3)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    keep, own = not args.dry_run, SAMPLERS["hf"]
    SAMPLERS["hf"], Learner.update = SamplerKind(Elsewhere, check_own), slow_update
    ratios = [measure("sampler and update of 2 s elsewhere", "mmrl/tiny", 16, args.repeats, keep)]
    SAMPLERS["hf"], Learner.update = own, UPDATE
    ratios.append(measure("SmolLM2-135M, one core to sample and one to learn", str(MODEL), 16, args.repeats, keep))
    return 0 if max(ratios) <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
