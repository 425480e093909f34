from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from learner_tools import run_config

from mmrl.errors import BadInput
from mmrl.training_args import TrainingArgs
from mmrl_agents.correction import CORRECTIONS, KEYS
from mmrl_agents.loss_type import LOSSES
from mmrl_agents.unread import OWN, TRAINERS, check_unread

CLIPPED = "grpo, dapo, dr_grpo, gspo"


@pytest.mark.parametrize(("args", "key", "words"), [
    ({"loss_type": "sapo", "epsilon": 0.1}, "epsilon", f"loss_type 'sapo' does not read 'epsilon'; leave it out, or "
                                                       f"take one that does: {CLIPPED}"),
    ({"loss_type": "cispo", "epsilon": 0.1}, "epsilon", "loss_type 'cispo' does not read 'epsilon'"),
    ({"loss_type": "cispo", "dual_clip": 3.0}, "dual_clip", f"does: {CLIPPED}"),
    ({"loss_type": "reinforce", "epsilon_high": 0.3}, "epsilon_high", f"does: {CLIPPED}, cispo"),
    ({"importance_correction": "icepop", "importance_cap": 3.0}, "importance_cap",
     "importance_correction 'icepop' does not read 'importance_cap'; leave it out, or take one that does: token, "
     "geometric"),
    ({"importance_range": [0.4, 4.0]}, "importance_range",
     "importance_correction 'token' does not read 'importance_range'; leave it out, or take one that does: icepop, "
     "geometric"),
    ({"importance_correction": "none", "importance_cap": 3.0}, "importance_cap", "'none' does not read"),
    ({"entropy_target": 1.0}, "entropy_target", "entropy_target switches the entropy bonus, and entropy_coef is 0; set "
                                                "training_args.entropy_coef, or leave entropy_target out"),
])  # fmt: skip
def test_a_key_that_nothing_reads_is_bad_input(tmp_path: Path, args: dict[str, Any], key: str, words: str) -> None:
    loaded = run_config(tmp_path, training_args=args)
    with pytest.raises(BadInput) as error:
        check_unread(loaded)
    place, _, said = str(error.value).partition(": ")
    assert words in said
    assert f"{key}:" in (tmp_path / "run.yaml").read_text().splitlines()[int(place.rpartition(":")[2]) - 1]


@pytest.mark.parametrize(("train_type", "key", "value", "readers"), [
    ("SFT", "advantage", "rloo", "GRPO, PPO"),
    ("SFT", "loss_type", "dapo", "GRPO, PPO"),
    ("SFT", "kl_coef", 0.1, "GRPO, PPO, WEIGHTED_LOG_RATIO"),
    ("SFT", "num_iterations", 2, "GRPO, PPO"),
    ("WEIGHTED_LOG_RATIO", "loss_type", "sapo", "GRPO, PPO"),
    ("WEIGHTED_LOG_RATIO", "importance_cap", 3.0, "GRPO, PPO"),
])
def test_a_key_that_the_learner_does_not_read_is_bad_input(
    tmp_path: Path, train_type: str, key: str, value: object, readers: str
) -> None:
    args = {key: value}
    loaded = run_config(tmp_path, train_type=train_type, training_args=args)  # type: ignore[arg-type]
    with pytest.raises(BadInput) as error:
        check_unread(loaded)
    assert f": train_type '{train_type}' does not read '{key}'; leave it out, or take one that does: {readers}" in str(
        error.value
    )


@pytest.mark.parametrize("train_type", ["SFT", "WEIGHTED_LOG_RATIO"])
@pytest.mark.parametrize("key", ["async_steps", "max_staleness"])
def test_who_learns_from_stored_rollouts_samples_none_ahead(tmp_path: Path, train_type: str, key: str) -> None:
    loaded = run_config(tmp_path, train_type=train_type, rollout={key: 1})  # type: ignore[arg-type]
    with pytest.raises(BadInput) as error:
        check_unread(loaded)
    place, _, said = str(error.value).partition(": ")
    assert said == (f"train_type '{train_type}' does not read 'rollout.{key}'; leave it out, or take one that does: "
                    "GRPO, PPO")  # fmt: skip
    assert f"{key}:" in (tmp_path / "run.yaml").read_text().splitlines()[int(place.rpartition(":")[2]) - 1]


@pytest.mark.parametrize(("train_type", "args"), [
    ("GRPO", {"loss_type": "cispo", "epsilon_high": 3.0}),
    ("GRPO", {"loss_type": "cispo", "epsilon_high": None, "epsilon": 3.0}),
    ("GRPO", {"loss_type": "gspo", "epsilon": 3e-4, "epsilon_high": 4e-4, "dual_clip": 3.0}),
    ("GRPO", {"importance_correction": "geometric", "importance_cap": 3.0, "importance_range": [0.4, 4.0]}),
    ("GRPO", {"entropy_target": 1.0, "entropy_coef": 0.1}),
    ("PPO", {"loss_type": "sapo"}),
    ("WEIGHTED_LOG_RATIO", {"normaliser": "dapo", "kl_coef": 0.1, "kl_estimator": "k2"}),
    ("SFT", {"learning_rate": 0.1, "lora": {"r": 2}, "turn_discount": 0.9}),
])  # fmt: skip
def test_what_is_read_passes(tmp_path: Path, train_type: str, args: dict[str, Any]) -> None:
    check_unread(run_config(tmp_path, train_type=train_type, training_args=args))  # type: ignore[arg-type]


def test_a_loss_of_ones_own_reads_the_clip(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def mine(logp, old, advantage, mask, terms):\n    return -advantage * logp\n")
    args = {"loss_type": f"{tmp_path / 'mine.py'}:mine", "epsilon": 0.1, "dual_clip": 2.0}
    check_unread(run_config(tmp_path, training_args=args))


def test_the_tables_name_what_there_is() -> None:
    named = {*OWN, *(k for keys in (*TRAINERS.values(), *KEYS.values()) for k in keys)}
    assert {*named, *(k for loss in LOSSES.values() for k in loss.keys)} <= set(TrainingArgs.model_fields)
    assert KEYS.keys() == CORRECTIONS.keys()
