"""The bandit itself, and the quickest ways to learn it."""

from pathlib import Path

import pytest
from algorithms import ALGORITHMS
from gymnasium.utils.env_checker import check_env
from learning_runs import TEN_ARMS, learn
from ten_arms import BEST, PAYS, TenArms, arm_of


def test_any_text_is_an_arm_and_the_reference_the_best() -> None:
    env = TenArms()
    check_env(env, skip_render_check=True)
    assert [arm_of(c) for c in "01239"] == [8, 9, 0, 1, 7]
    for text, pay in (("0", PAYS[8]), ("1 and more", PAYS[9]), ("", 0.0)):
        env.reset(seed=0)
        assert env.step(text)[1] == pay
    env.reset(seed=0)
    assert arm_of(env.expert_action()) == BEST
    _, reward, terminated, _, info = env.step(env.expert_action())
    assert (reward, terminated, info["success"]) == (1.0, True, True)


@pytest.mark.parametrize("name", ["advantage gigpo", "loss gspo"])
def test_the_best_arm_goes_from_rare_to_usual(name: str, tmp_path: Path) -> None:
    found = learn(ALGORITHMS[name], TEN_ARMS, tmp_path)
    assert found.before < 0.15
    assert found.after >= TEN_ARMS.reached
