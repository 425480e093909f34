from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from learner_tools import run_config

from mmrl.errors import BadInput
from mmrl.report import Quiet
from mmrl.store import RunStore
from mmrl_agents.run import DR_GRPO_TURNS, STEP_FILE, check_names, drop_future, open_run


@pytest.mark.parametrize(("stands_at", "stays"), [(10, False), (19, False), (20, True), (25, True)])
def test_a_best_of_steps_that_will_be_made_again_goes(tmp_path: Path, stands_at: int, stays: bool) -> None:
    store = RunStore.create(tmp_path / "run", "a: 1\n")

    def write(folder: Path) -> None:
        (folder / STEP_FILE).write_text(json.dumps({"step": 20}))

    store.publish("best", write)
    drop_future(store, stands_at)
    assert (store.root / "best" / STEP_FILE).is_file() is stays


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"advantage": "rloo", "num_generations": 1},
         "advantage 'rloo' compares the episodes of a task; num_generations must be 2 or more, not 1"),
        ({"num_generations": 1}, "advantage 'grpo' compares the episodes of a task"),
        ({"advantage": "reinforce_pp", "turn_discount": 0.9},
         "advantage 'reinforce_pp' does not read 'turn_discount'; leave it out, or take one that does: grpo, dr_grpo, "
         "rloo, batch_std, gigpo, gae_turn"),
        ({"advantage": "gigpo", "turn_baseline": "state"}, "advantage 'gigpo' does not read 'turn_baseline'"),
        ({"token_discount": 0.9}, "advantage 'grpo' does not read 'token_discount'; leave it out, or take one that"),
        ({"gigpo_omega": 2.0}, "advantage 'grpo' does not read 'gigpo_omega'"),
        ({"value_clip": None}, "advantage 'grpo' does not read 'value_clip'; leave it out, or take one that does: gae, "
                               "gae_turn"),
        ({"advantage": "gae", "turn_discount": 0.9}, "advantage 'gae' does not read 'turn_discount'"),
        ({"advantage": "gae_turn", "token_discount": 0.9}, "advantage 'gae_turn' does not read 'token_discount'"),
        ({"kl_in": "reward"}, "kl_in 'reward' takes kl_coef times KL off the reward, and kl_coef is 0; set "
                              "training_args.kl_coef, or leave kl_in out"),
        ({"loss_type": "sapo", "epsilon": 0.1}, "loss_type 'sapo' does not read 'epsilon'; leave it out, or take one"),
        ({"loss_type": "nowhere.py:f"}, "loss_type 'nowhere.py:f': no file nowhere.py"),
        ({"advantage": "nowhere.py:f"}, "advantage 'nowhere.py:f': no file nowhere.py"),
        ({"advantage": "reinforcepp"}, "unknown advantage 'reinforcepp'; did you mean 'reinforce_pp'?"),
        ({"loss_type": "sap"}, "unknown loss_type 'sap'; did you mean 'sapo'?"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_bad_input(tmp_path: Path, args: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput) as error:
        check_names(run_config(tmp_path, training_args=args))
    assert words in str(error.value)
    (key,) = [k for k in args if k not in ("advantage", "loss_type")] or [*args]
    where = str(error.value).partition(": ")[0]
    line = int(where.rpartition(":")[2])
    assert key in (tmp_path / "run.yaml").read_text().splitlines()[line - 1]


@pytest.mark.parametrize("estimator", ["k2", "rho_k3"])
def test_kl_in_the_reward_takes_k1(tmp_path: Path, estimator: str) -> None:
    loaded = run_config(tmp_path, training_args={"kl_in": "reward", "kl_coef": 0.1, "kl_estimator": estimator})
    with pytest.raises(BadInput) as error:
        check_names(loaded)
    place, _, words = str(error.value).partition(": ")
    assert words == f"kl_in 'reward' reads 'k1', not '{estimator}', which is for the loss; leave kl_estimator out"
    assert "kl_estimator" in (tmp_path / "run.yaml").read_text().splitlines()[int(place.rpartition(":")[2]) - 1]


@pytest.mark.parametrize("args", [
    {"advantage": "gae", "num_generations": 1, "token_discount": 0.9, "gae_lambda": 1.0, "value_clip": None},
    {"advantage": "gae_turn", "turn_discount": 0.9, "critic_learning_rate": 1.0, "value_coef": 1.0},
    {"kl_in": "reward", "kl_coef": 0.1, "kl_estimator": "k1"},
    {"advantage": "reinforce_pp", "num_generations": 1, "token_discount": 0.9},
    {"advantage": "gigpo", "turn_discount": 0.95, "gigpo_omega": 0.5},
    {"advantage": "batch_std", "turn_discount": 0.95, "turn_baseline": "state"},
])  # fmt: skip
def test_what_goes_together_passes(tmp_path: Path, args: dict[str, Any]) -> None:
    check_names(run_config(tmp_path, training_args=args))


@pytest.mark.parametrize(("cap", "turns"), [
    (None, DR_GRPO_TURNS),
    (5, 5),
    ({"schedule": "linear", "from": 3, "to": 9}, 9),
    ({"schedule": "steps", "values": {1: 12, 5: 4}}, 12),
])  # fmt: skip
def test_the_constant_budget_counts_the_largest_cap(tmp_path: Path, cap: Any, turns: int) -> None:
    run = open_run(run_config(tmp_path, rollout={"max_turns": cap, "max_new_tokens": 6}), False, Quiet(), 4)
    assert run.learner.budget == 6 * turns
