"""Rollout tokens/s: vLLM in process against the learner's own model, at 64 parallel episodes.

SmolLM2-135M-Instruct in float32 on BabyAI, no adapter; the engine is given the weights as an update gives them.  Both
sides sample the same episodes through the same scheduler, in turns; what counts is the time in which the policy was
asked.  Needs vLLM:

    make vllm models
    .venv-vllm/bin/python benchmarks/vllm_hf.py [--rounds 2] [--episodes 64]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from statistics import median

from results import append

from mmrl.episode import EpisodeLimits, EpisodeSpec
from mmrl.policy import Policy
from mmrl.rollout import Scheduler
from mmrl.run_sync import run_sync
from mmrl.stopwatch import Stopwatch
from mmrl_agents.following import by_weights
from mmrl_agents.models import find_model, load_model, load_processing
from mmrl_agents.policies.hf import HFPolicy
from mmrl_agents.policies.vllm import load

MODEL = Path(__file__).resolve().parents[1] / ".cache" / "models" / "SmolLM2-135M-Instruct"
ENV, TURNS, ANSWER, CONTEXT = "babyai/balrog-goto", 4, 16, 2048
TARGET = 1.3


def tokens_per_second(policy: Policy, episodes: int, round_: int) -> float:
    """Sampled tokens over the seconds in which the policy was asked."""
    seeds = range(1000 * round_, 1000 * round_ + episodes)
    specs = [EpisodeSpec(f"{i:03d}", ENV, seed, str(seed), (round_, i), {}) for i, seed in enumerate(seeds)]
    watch = Stopwatch()
    done = run_sync(Scheduler(EpisodeLimits(TURNS), concurrency=episodes).run(specs, policy, watch=watch))
    return sum(len(turn.token_ids) for t in done for turn in t.turns) / watch.seconds["generate"]


def main() -> None:
    """Measure both sides in turns and append the ratio."""
    parser = argparse.ArgumentParser(description="rollout tokens/s: vLLM in process against our own sampler")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=64)
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    files = find_model(str(MODEL))
    model = load_model(files, device="cpu")
    hf = HFPolicy(model, load_processing(files), 1.0, ANSWER, CONTEXT)
    vllm = load(str(MODEL), 1.0, ANSWER, CONTEXT)
    by_weights(vllm.engine, model, 0)
    sides: dict[str, Policy] = {"vllm": vllm, "hf": hf}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(options.rounds + 1):  # the first warms both up
        for name, policy in sides.items():
            rate = tokens_per_second(policy, 8 if round_ == 0 else options.episodes, round_)
            hf.rest()
            print(f"round {round_}: {name} {rate:.1f} tokens/s", flush=True)
            if round_ > 0:
                rates[name].append(rate)
    vllm.close()
    ours, peer = (median(rates[name]) for name in sides)
    print(f"ratio {ours / peer:.2f}, target {TARGET}")
    append(f"rollout tokens/s, SmolLM2-135M float32, {options.episodes} episodes of {ENV}, vLLM in process vs the "
           "learner's own model", f"{ours:.1f} tokens/s", f"{peer:.1f} tokens/s", ours / peer)  # fmt: skip


if __name__ == "__main__":
    main()
