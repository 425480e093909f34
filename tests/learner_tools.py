"""Small things that the learner's tests share: models, trajectories, runs."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_model import save_tiny_model

from mmrl.config_load import LoadedConfig, load_config
from mmrl.registry import Registry
from mmrl.report import Quiet
from mmrl.sample import Sample
from mmrl.score import RewardRecord
from mmrl.trajectory import Trajectory, Turn
from mmrl_agents.logprobs import Scorer

VOCAB = 64


def llama(seed: int = 0, dtype: torch.dtype = torch.float64, spread: float = 0.3, **config: Any) -> Any:
    """A tiny Llama whose distributions are far from flat."""
    from transformers import LlamaConfig, LlamaForCausalLM

    made = LlamaConfig(
        **{"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
           "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
           "initializer_range": spread, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0, **config}
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(made).to(dtype)


def falcon(alibi: bool = False) -> Any:
    """A model whose attention is its own, and knows nothing of transformers' others; with alibi, nor of masks."""
    from transformers import FalconConfig, FalconForCausalLM

    torch.manual_seed(0)
    return FalconForCausalLM(
        FalconConfig(vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=alibi,
                     multi_query=False, new_decoder_architecture=False, parallel_attn=False, initializer_range=0.3)
    ).eval()  # fmt: skip


def mistral() -> Any:
    """Every layer sees the last 6 tokens."""
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    return MistralForCausalLM(
        MistralConfig(vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2, sliding_window=6,
                      num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3, head_dim=8)
    )  # fmt: skip


def lora(model: Any, dropout: float = 0.0, trained: bool = False) -> Any:
    """``model`` with a LoRA adapter; ``trained`` gives it a product that is not 0."""
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = get_peft_model(
            model, LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules="all-linear"),
            autocast_adapter_dtype=False,
        )  # fmt: skip
        if trained:
            with torch.no_grad():
                for name, p in made.named_parameters():
                    if "lora_B" in name:
                        p.normal_(std=0.1)
    return made


def turn(prompt: Sequence[int], sampled: Sequence[int], mu: Sequence[float] | None = None) -> Turn:
    """A turn of these ids."""
    return Turn((), "", tuple(prompt), tuple(sampled), tuple(mu if mu is not None else [-1.0] * len(sampled)))


def trajectory(name: str, turns: Sequence[Turn], reward: float = 0.0, **changes: Any) -> Trajectory:
    """A trajectory of these turns, scored."""
    record = RewardRecord(reward, True, {})
    return Trajectory(name, "env", 0, "g", Sample(name, ()), tuple(turns), True, False,
                      **{"record": record, **changes})  # fmt: skip


def ragged(n: int, seed: int = 0) -> list[Trajectory]:
    """Trajectories of one to three turns and all lengths, some with several segments."""
    gen = torch.Generator().manual_seed(seed)

    def ids(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=gen))
        return torch.randint(2, VOCAB, (length,), generator=gen).tolist()

    out: list[Trajectory] = []
    for i in range(n):
        turns: list[Turn] = []
        for t in range(1 + i % 3):
            fresh = t == 0 or (i % 4 == 3)
            prompt = ids(2, 9) if fresh else [*turns[-1].prompt_ids, *turns[-1].token_ids, *ids(1, 5)]
            sampled = ids(1, 7)
            turns.append(turn(prompt, sampled, (-4 + torch.randn(len(sampled), generator=gen)).tolist()))
        out.append(trajectory(f"t{i}", turns, float(i)))
    return out


def scored(model: Any, trajectories: Sequence[Trajectory], temperature: float = 0.8) -> list[Trajectory]:
    """The trajectories with the log-probabilities that the model itself gives."""
    out: list[Trajectory] = []
    for t in trajectories:
        turns = []
        for u in t.turns:
            ids = torch.tensor([[*u.prompt_ids, *u.token_ids]])
            mask = torch.tensor([[i >= len(u.prompt_ids) - 1 for i in range(ids.shape[1] - 1)]])
            mu = Scorer(model.eval(), temperature)(ids, mask)[0][mask]
            turns.append(dataclasses.replace(u, logprobs=tuple(mu.tolist())))
        out.append(dataclasses.replace(t, turns=tuple(turns)))
    return out


REWARD = '''
class Letters:
    """A reward with spread for a policy that knows nothing: how many of the answer's letters come early."""
    def compute(self, response):
        return sum(c < "n" for c in response) / 10
'''


def run_config(folder: Path, name: str = "run", environments: Sequence[dict[str, Any]] = ({"id": "text/arithmetic"},),
               **sections: Any) -> LoadedConfig:
    """A 4-step run of a random tiny model in ``folder``; ``sections`` change single keys."""
    if not (folder / "model").exists():
        save_tiny_model(folder / "model")
    (folder / "letters.py").write_text(REWARD)
    tree: dict[str, Any] = {
        "train_type": "GRPO",
        "model_id": str(folder / "model"),
        "environments": list(environments),
        "reward_plugins": [{"name": f"{folder / 'letters.py'}:Letters", "as": "letters"}],
        "training_args": {"output_dir": str(folder / name), "max_steps": 4, "num_generations": 4, "learning_rate": 1e-3,
                          "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "save_steps": 1,
                          "save_total_limit": 10, "lr_scheduler_type": "linear"},
        "rollout": {"max_new_tokens": 6},
        "eval": {"episodes": 0, "final_episodes": 0},
    }  # fmt: skip
    for key, value in sections.items():
        tree[key] = {**tree.get(key, {}), **value} if isinstance(value, dict) else value
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    return load_config(folder / f"{name}.yaml")


def repeatable(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Metrics without those that two runs of the same bits need not share."""
    return [{k: v for k, v in m.items() if not k.startswith(("time/", "speed/", "memory/"))} for m in lines]


class Listening(Quiet):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)


class StopAfter(Quiet):
    """Asks for an end after so many steps, as Ctrl-C does."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.stopping = False

    def step(self, *args: Any) -> None:
        self.left -= 1
        self.stopping = self.left <= 0


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, registry: Registry, code: str, point: str) -> None:
    """A package ``theirs`` of this code, installed with one entry point (``name = theirs:function``)."""
    (folder / "theirs.py").write_text(code)
    info = folder / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{registry.group}]\n{point}\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    monkeypatch.setattr(registry, "_points", None)
