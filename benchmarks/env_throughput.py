"""Environment throughput: our BabyAI in words against raw minigrid with its observation ignored.

Both take the same random actions and reset at an episode's end; the two are measured in turns, so that a
busy machine slows both.  Prints the median ratio of steps per second and appends it to RESULTS.md.

    python benchmarks/env_throughput.py [--steps 3000] [--repeats 9]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from results import append

import mmrl
from mmrl_envs.babyai import ACTIONS
from mmrl_envs.balrog import TASKS

TARGET = 0.6
RAW: dict[str, Callable[[], Any]] = {
    "babyai/GoToLocal": lambda: gymnasium.make("BabyAI-GoToLocal-v0", disable_env_checker=True).unwrapped,
    "babyai/balrog-goto": TASKS["goto"],
}


def steps_per_second(env: Any, actions: list[Any]) -> float:
    env.reset(seed=0)
    seed = 0
    start = time.perf_counter()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            seed += 1
            env.reset(seed=seed)
    return len(actions) / (time.perf_counter() - start)


def measure(env_id: str, steps: int, repeats: int) -> float:
    ours, raw = mmrl.make(env_id), RAW[env_id]()
    indices = np.random.default_rng(0).integers(len(ACTIONS), size=steps).tolist()
    names = [ACTIONS[index] for index in indices]
    pairs = [(steps_per_second(ours, names), steps_per_second(raw, indices)) for _ in range(repeats + 1)][1:]
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{env_id}: ours {mine:,.0f} steps/s, raw minigrid {theirs:,.0f} steps/s, ratio {ratio:.2f} (>= {TARGET})")
    append(f"env steps/s, {env_id}, text vs raw minigrid", f"{mine:,.0f} steps/s", f"{theirs:,.0f} steps/s", ratio)
    return ratio


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    ratios = [measure(env_id, args.steps, args.repeats) for env_id in RAW]
    return 0 if min(ratios) >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
