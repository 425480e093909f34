import numpy as np
import pytest
from minigrid.envs import EmptyEnv

import mmrl
from mmrl import NoExpert
from mmrl_envs.babyai import ACTIONS
from mmrl_envs.balrog import PickUpSeqGoTo
from mmrl_envs.bot import BotExpert, remaining


def solve(env_id: str, seed: int, noise: float) -> bool:
    """Follow the expert, but with probability ``noise`` do something else."""
    env, rng = mmrl.make(env_id, max_steps=300), np.random.default_rng(seed)
    env.reset(seed=seed)
    while True:
        action = env.expert_action()
        if rng.random() < noise:
            # Never "toggle": a box that is opened is gone, and a mission about it with it.
            action = (*ACTIONS[:5], "fly")[int(rng.integers(6))]
        *_, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            return info["success"]


@pytest.mark.parametrize("env_id", ["babyai/GoToLocal", "babyai/PutNextLocal", "babyai/balrog-pick_up_seq_go_to"])
def test_it_survives_being_ignored(env_id: str) -> None:
    assert [solve(env_id, seed, 0.4) for seed in range(8)] == [True] * 8


def test_it_does_not_plan_in_circles_for_ever() -> None:
    for seed in range(8):
        solve("babyai/UnlockToUnlock", seed, 0.6)


def test_asked_twice_it_says_the_same() -> None:
    env = mmrl.make("babyai/balrog-open")
    env.reset(seed=0)
    first = env.expert_action()
    assert env.expert_action() == first
    env.step("fly")
    assert env.expert_action() == first


def test_it_can_be_asked_late() -> None:
    env = mmrl.make("babyai/balrog-putnext")
    env.reset(seed=0)
    for _ in range(3):
        env.step("turn left")
    info: dict[str, object] = {}
    terminated = False
    while not terminated:
        *_, terminated, _, info = env.step(env.expert_action())
    assert info["success"] is True


def test_a_level_without_instructions_has_no_expert() -> None:
    with pytest.raises(NoExpert, match="EmptyEnv"):
        BotExpert(EmptyEnv())


def test_a_level_that_the_bot_cannot_do_says_so() -> None:
    with pytest.raises(NoExpert, match="cannot plan"):
        solve("babyai/KeyInBox", 0, 0.0)


def test_what_is_done_is_left_out_of_the_rest() -> None:
    env = PickUpSeqGoTo()
    env.reset(seed=0)
    whole = env.instrs
    assert type(remaining(whole)) is type(whole)
    whole.a_done = "success"
    assert remaining(whole) is whole.instr_b
    whole.a_done, whole.b_done = False, "success"
    assert remaining(whole) is whole.instr_a
