"""Rollout tokens/s: vLLM in process against generation with transformers, at 64 parallel episodes.

SmolLM2-135M-Instruct in float32 on BabyAI, no adapter; the engine is given the weights as an update gives them.  The
peers are mmrl's own sampler, which keeps keys and values from turn to turn and computes shared prompts once, and
``model.generate`` as transformers has it, on a batch padded on the left.  All sides sample the same tasks through the
same scheduler, in turns; what counts is the time in which the policy was asked.  Needs vLLM:

    make vllm models
    .venv-vllm/bin/python benchmarks/vllm_hf.py [--rounds 2] [--episodes 64]
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from results import append

from mmrl.episode import EpisodeLimits, EpisodeSpec
from mmrl.policy import Completion, Policy, Request
from mmrl.rollout import Scheduler
from mmrl.run_sync import run_sync
from mmrl.stopwatch import Stopwatch
from mmrl_agents.following import by_weights
from mmrl_agents.generate import Row, Sampled
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


class Plain:
    """``model.generate``: every prompt anew."""

    def __init__(self, policy: HFPolicy) -> None:
        self._turns = policy.turns
        self._model = policy.generator.model

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer a batch."""
        return await asyncio.to_thread(self._turns.answer, requests, 0, self._sample)

    def _sample(self, rows: Sequence[Row]) -> list[Sampled]:
        width, ends = max(len(r.prompt) for r in rows), self._turns.transcript.end_ids
        ids = torch.tensor([[0] * (width - len(r.prompt)) + list(r.prompt) for r in rows])
        mask = torch.tensor([[0] * (width - len(r.prompt)) + [1] * len(r.prompt) for r in rows])
        out = self._model.generate(ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                                   max_new_tokens=rows[0].limit, pad_token_id=0, eos_token_id=sorted(ends))  # fmt: skip
        answers = [tuple(row) for row in out[:, width:].tolist()]
        cut = [next((i + 1 for i, t in enumerate(a) if t in ends), len(a)) for a in answers]
        return [Sampled(a[:n], (0.0,) * n, a[n - 1] in ends) for a, n in zip(answers, cut, strict=True)]


def main() -> None:
    """Measure all sides in turns and append the ratios."""
    parser = argparse.ArgumentParser(description="rollout tokens/s: vLLM in process against our own sampler")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=64)
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    files = find_model(str(MODEL))
    model = load_model(files, device="cpu")
    hf = HFPolicy(model, load_processing(files), 1.0, ANSWER, CONTEXT)
    vllm = load(str(MODEL), 1.0, ANSWER, CONTEXT)
    by_weights(vllm.engine, model)
    peers: dict[str, Policy] = {"mmrl's own sampler": hf, "transformers' generate": Plain(hf)}
    sides: dict[str, Policy] = {"vllm": vllm, **peers}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(options.rounds + 1):  # the first warms all up
        for name, policy in sides.items():
            rate = tokens_per_second(policy, 8 if round_ == 0 else options.episodes, round_)
            hf.rest()
            print(f"round {round_}: {name} {rate:.1f} tokens/s", flush=True)
            if round_ > 0:
                rates[name].append(rate)
    vllm.close()
    for name in peers:
        ours, peer = median(rates["vllm"]), median(rates[name])
        print(f"vLLM against {name}: {ours / peer:.2f}, target {TARGET}")
        append(f"rollout tokens/s, SmolLM2-135M float32, {options.episodes} episodes of {TURNS} turns of {ENV}, vLLM "
               f"in process vs {name}", f"{ours:.1f} tokens/s", f"{peer:.1f} tokens/s", ours / peer)  # fmt: skip


if __name__ == "__main__":
    main()
