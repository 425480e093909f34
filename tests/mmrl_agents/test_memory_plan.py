"""The plan against what training really holds, tensor by tensor, on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from learner_tools import run_config
from tiny_model import save_tiny_model

from mmrl.check_config import check_config
from mmrl.config_load import LoadedConfig
from mmrl.memory import Phase
from mmrl.report import Quiet
from mmrl_agents.heldout import HeldOut
from mmrl_agents.memory_plan import phases, reference_bytes, weight_bytes
from mmrl_agents.models import find_model, load_processing
from mmrl_agents.policies.hf import HFPolicy
from mmrl_agents.probe import play
from mmrl_agents.run import open_run
from mmrl_agents.tally import Tally
from mmrl_agents.tasks import plan
from mmrl_agents.train import make_policy, train_step

NEAR, NEARER = 0.15, 0.05
"""How far a plan may be from what is measured: where the policy decides how long an episode is, and where not."""
ENV = '''
from mmrl import Message, Sample, Text
from mmrl.env import Env

class Corridor(Env):
    """Goes on for ever, whatever is said; what it shows is longer on some seeds."""
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.shown = (Text(f"you stand at {seed % 1000:03d} of a corridor" + "." * (seed % 5)),)
        return self.shown, {"sample": Sample("s", (Message("user", self.shown),))}
    def step(self, action):
        return self.shown, 0.0, False, False, {}
'''
KINDS: dict[str, dict[str, Any]] = {
    "all weights": {"rollout": {"max_new_tokens": 40}},
    "an entropy bonus, several micro-batches": {
        "rollout": {"max_new_tokens": 20}, "training_args": {"entropy_coef": 0.01, "max_tokens_per_micro_batch": 100},
    },
    "turns, LoRA, KL, checkpointing": {
        "environments": [{"id": "corridor.py:Corridor"}], "rollout": {"max_turns": 4, "max_new_tokens": 12},
        "training_args": {"lora": {"r": 2}, "kl_coef": 0.1, "gradient_checkpointing": True},
    },
    "windows, bf16, a reference, GaLore": {
        "environments": [{"id": "corridor.py:Corridor"}],
        "rollout": {"max_turns": 4, "max_new_tokens": 12, "window": 1},
        "training_args": {"kl_coef": 0.1, "bf16": True, "optim": "galore_adamw", "galore": {"rank": 8},
                          "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1},
    },
    "pictures": {
        "model_id": "mmrl/tiny-vlm", "environments": [{"id": "vqa/shapes"}], "rollout": {"max_new_tokens": 4},
        "training_args": {"lora": {"r": 4, "vision": True}},
    },
    "a walk in BabyAI": {
        "model_id": "mmrl/tiny", "environments": [{"id": "babyai/GoToLocal"}],
        "rollout": {"max_turns": 4, "max_new_tokens": 3}, "training_args": {"lora": {"r": 4}},
    },
}  # fmt: skip


def planned(loaded: LoadedConfig) -> dict[str, Phase]:
    files = find_model(loaded.config.model_id)
    processing = load_processing(files)
    played = play(loaded.config, files, processing, plan(loaded.config))
    return {phase.name: phase for phase in phases(loaded.config, files, processing, played, host=True)}


def measured(loaded: LoadedConfig, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The most bytes of each phase in three steps and an evaluation."""
    tally, peaks, answer = Tally(), dict[str, int](), HFPolicy._generate  # pyright: ignore[reportPrivateUsage]

    def counted(policy: HFPolicy, requests: Any) -> Any:  # on a thread of its own, as modes of torch are
        with tally:
            return answer(policy, requests)

    monkeypatch.setattr(HFPolicy, "_generate", counted)
    run = open_run(loaded, False, Quiet(), 3)
    held = weight_bytes(run.model, loaded.config.training_args) + reference_bytes(run.model, run.learner.reference)

    def over(phase: str) -> None:
        peaks[phase] = max(peaks.get(phase, 0), held + tally.peak)
        tally.peak = tally.live

    update = run.learner.update

    def watched(*args: Any) -> dict[str, float]:
        over("rollout")
        out = update(*args)
        over("update")
        return out

    monkeypatch.setattr(run.learner, "update", watched)
    policy, suite = make_policy(run), check_config(loaded)[1]
    with tally:
        for _ in range(3):
            train_step(run, policy, suite, plan(loaded.config))
        tally.peak = tally.live
        HeldOut(run).choose_best()
    over("evaluation")
    return peaks


@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_is_near_what_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("corridor.py").write_text(ENV)
    save_tiny_model(tmp_path / "model", hidden_size=64)
    loaded = run_config(tmp_path, **{"eval": {"episodes": 12, "max_turns": 2}, **KINDS[kind]})
    said, found = planned(loaded), measured(loaded, monkeypatch)
    assert list(found) == ["rollout", "update", "evaluation"]
    for phase, peak in found.items():
        assert said[phase].total == pytest.approx(peak, rel=NEAR if "BabyAI" in kind else NEARER), phase
