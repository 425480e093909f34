from minigrid.core.world_object import Ball, Box, Key

import mmrl
from mmrl_envs.babyai import BabyAI
from mmrl_envs.balrog import PickUpSeqGoTo, PutNext
from mmrl_envs.bot import BotExpert
from mmrl_envs.grid_state import state_key


def test_turning_around_returns_to_the_same_key() -> None:
    env = PutNext()
    env.reset(seed=1)
    keys = [state_key(env)]
    for _ in range(4):
        env.step(0)
        keys.append(state_key(env))
    assert keys[0] == keys[4]
    assert len(set(keys[:4])) == 4
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in keys)


def test_doors_boxes_loads_and_missions_count() -> None:
    env = mmrl.make("minigrid/DoorKey-8x8")
    assert isinstance(env, BabyAI)
    env.reset(seed=0)
    inner = env.simulator
    keys = [state_key(inner)]
    door = next(thing for thing in inner.grid.grid if thing is not None and thing.type == "door")
    door.is_locked = False
    keys.append(state_key(inner))
    door.is_open = True
    keys.append(state_key(inner))
    inner.carrying = Key("red")
    keys.append(state_key(inner))
    inner.carrying = Box("red")
    keys.append(state_key(inner))
    inner.carrying = Box("red", contains=Ball("blue"))
    keys.append(state_key(inner))
    inner.mission = "another"
    keys.append(state_key(inner))
    assert len(set(keys)) == len(keys)


def test_the_progress_of_a_sequence_counts() -> None:
    env = PickUpSeqGoTo()
    env.reset(seed=0)
    before = state_key(env)
    first = "b_done" if type(env.instrs).__name__ == "AfterInstr" else "a_done"
    setattr(env.instrs, first, "success")
    assert state_key(env) != before


def test_two_ways_to_one_state_share_the_key() -> None:
    env = PutNext()
    env.reset(seed=4)
    expert = BotExpert(env)
    plan = []
    for _ in range(4):
        plan.append(expert.suggest())
        env.step(plan[-1])
        expert.took(plan[-1])
    reached = state_key(env)
    env.reset(seed=4)
    for action in [0, 1, *plan]:
        env.step(action)
    assert state_key(env) == reached
