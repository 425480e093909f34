"""Scoring beside generation against scoring after the batch, with a plugin that takes 200 ms a rollout.

The peer does what trainers commonly do: generate the whole batch, then call the reward function for one rollout after
the other.  Ours scores each rollout from the moment its episode ends; two cases: the plugin waits in a plain function
that the configuration allows 8 calls at once (``concurrency: 8``), and in an ``async`` function (16 at once by
default).  64 episodes of babyai/balrog-goto, up to 10 turns, by the embedded policy, the same
every time; peer and ours in turns.  The longer generation takes, the less scoring weighs in either.
Prints the median ratio of the time of a step's rollout and scoring, and appends it to RESULTS.md.

    python benchmarks/score_overlap.py [--repeats 3]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from typing import Any

from results import append

import mmrl
import mmrl_agents  # noqa: F401 - before torch: it says how waiting threads wait
from mmrl.plugin_config import PluginConfig
from mmrl.reward import Member, RewardPlugin, RewardSuite

TARGET, EPISODES, TURNS, PAUSE_S = 3.0, 64, 10, 0.2


class Plain(RewardPlugin):
    """Waits as a call to a slow library would."""

    def compute(self, response: str) -> float:
        """The length, after a while."""
        time.sleep(PAUSE_S)
        return float(len(response))


class Async(RewardPlugin):
    """Waits as a call to a service would."""

    async def compute(self, response: str) -> float:
        """The length, after a while."""
        await asyncio.sleep(PAUSE_S)
        return float(len(response))


CASES: dict[str, tuple[RewardPlugin, dict[str, Any]]] = {
    "plain function, concurrency 8": (Plain(), {"concurrency": 8}),
    "async function": (Async(), {}),
}


def step(policy: mmrl.Policy, suite: RewardSuite | None) -> tuple[float, list[mmrl.Trajectory]]:
    start = time.perf_counter()
    trajectories = mmrl.rollout("babyai/balrog-goto", policy, range(EPISODES), suite, max_turns=TURNS)
    return time.perf_counter() - start, trajectories


def after_the_batch(policy: mmrl.Policy) -> tuple[float, list[float]]:
    start = time.perf_counter()
    trajectories, plugin = step(policy, None)[1], Plain()
    rewards = [score.value for t in trajectories for score in plugin.score([t])]
    return time.perf_counter() - start, rewards


def measure(name: str, policy: mmrl.Policy, repeats: int) -> float:
    plugin, keys = CASES[name]
    suite = RewardSuite([Member(plugin, PluginConfig(name="slow", **keys))])
    pairs: list[tuple[float, float]] = []
    for _ in range(repeats):
        peer, expected = after_the_batch(policy)
        ours, trajectories = step(policy, suite)
        if [t.record.value if t.record else None for t in trajectories] != expected:
            raise SystemExit("the two ways do not give the same rewards")
        pairs.append((peer, ours))
    ratio = statistics.median(p / o for p, o in pairs)
    peer, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{name}: scoring after the batch {peer:.1f} s, beside generation {ours:.1f} s, {ratio:.2f} times as fast")
    what = f"64 rollouts of up to {TURNS} turns and 200 ms a score, {name}, vs score after batch"
    append(what, f"{ours:.1f} s", f"{peer:.1f} s", ratio)
    return ratio


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    policy = mmrl.load_policy("mmrl/tiny", max_new_tokens=8)
    step(policy, None)
    return 0 if min(measure(name, policy, args.repeats) for name in CASES) >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
