import re

import pytest
from minigrid.envs.babyai.core.verifier import AfterInstr, AndInstr, BeforeInstr, GoToInstr, ObjDesc, PickupInstr

import mmrl
from mmrl.env import NoExpert
from mmrl_envs.babyai import BabyAI
from mmrl_envs.mission_aim import aim, place


def make(env_id: str, seed: int) -> BabyAI:
    env = mmrl.make(env_id)
    assert isinstance(env, BabyAI)
    env.reset(seed=seed)
    return env


def aims(env: BabyAI) -> list[str]:
    """What the expert was after, without repetitions."""
    found: list[str] = []
    done = False
    while not done:
        now = aim(env.simulator)
        if now not in found[-1:]:
            found.append(now)
        *_, done, _, info = env.step(env.expert_action())
    assert info["success"]
    return found


@pytest.mark.parametrize("seed", range(5))
def test_what_is_put_next_to_something_comes_first(seed: int) -> None:
    env = make("babyai/balrog-putnext", seed)
    first, _, second = env.simulator.mission.removeprefix("put the ").partition(" next to the ")
    assert aims(env) == list(dict.fromkeys([first, second]))


def test_the_wrong_thing_in_hand_changes_nothing() -> None:
    env = make("babyai/balrog-putnext", 0)
    instruction = env.simulator.instrs  # type: ignore[attr-defined]
    before = aim(env.simulator)
    env.simulator.carrying = instruction.desc_fixed.obj_set[0]
    assert aim(env.simulator) == before
    env.simulator.carrying = instruction.desc_move.obj_set[0]
    assert aim(env.simulator) == f"{instruction.desc_fixed.color} {instruction.desc_fixed.type}"


def test_a_locked_door_is_opened_with_its_key() -> None:
    env = make("babyai/balrog-open", 0)
    key, door = aims(env)
    assert door.endswith("door")
    assert key.endswith(" key")


def test_an_unlocked_door_needs_no_key() -> None:
    assert aims(make("babyai/OpenDoor", 0))[-1].endswith("door")


@pytest.mark.parametrize("seed", range(6))
def test_parts_of_a_mission_are_gone_for_in_their_order(seed: int) -> None:
    env = make("babyai/balrog-pick_up_seq_go_to", seed)
    mission = env.simulator.mission.replace(" the ", " ").replace(" a ", " ")
    if " after you pick up " in mission:
        second, first = mission.removeprefix("go to ").split(" after you pick up ")
    else:
        first, second = mission.removeprefix("pick up ").split(", then go to ")
    assert aims(env) == list(dict.fromkeys([first, second]))


def test_what_is_not_done_yet_of_both_parts_is_gone_for() -> None:
    env = make("babyai/balrog-putnext", 1)
    level = env.simulator
    one, other = ObjDesc("ball", "red"), ObjDesc(None, "blue")
    both = AndInstr(GoToInstr(one), PickupInstr(other))
    both.a_done = both.b_done = False  # type: ignore[attr-defined]
    level.instrs = both  # type: ignore[attr-defined]
    assert aim(level) == "red ball"
    both.a_done = "success"  # type: ignore[attr-defined]
    assert aim(level) == "blue object"
    for order, expected in ((BeforeInstr, "red ball"), (AfterInstr, "blue object")):
        level.instrs = order(GoToInstr(one), PickupInstr(other))  # type: ignore[attr-defined]
        level.instrs.a_done = level.instrs.b_done = False  # type: ignore[attr-defined]
        assert aim(level) == expected


@pytest.mark.parametrize("env_id", ["GoToSeq", "SynthSeq", "BossLevel"])
def test_missions_of_several_sentences_have_an_aim_all_along(env_id: str) -> None:
    env = mmrl.make(f"babyai/{env_id}", reasoning=True)
    for seed in range(4):
        env.reset(seed=seed)
        for _ in range(40):
            said = env.expert_action()
            assert re.match(r"the ([a-z]+ )?(ball|box|key|door|object)( \d[^:]*)?: [a-z ]+$", said)
            if env.step(said)[2]:
                break


def test_a_level_without_a_mission_is_named() -> None:
    with pytest.raises(NoExpert, match="EmptyEnv has no BabyAI mission"):
        aim(mmrl.make("minigrid/Empty-5x5").simulator)  # type: ignore[attr-defined]


SCENE = """\
You carry a red ball
a wall 2 steps right
a red ball 1 step left and 4 steps forward
a red ball 2 steps right
a locked blue door 3 steps forward
a blue key 1 step right"""


@pytest.mark.parametrize(
    ("thing", "where"),
    [
        ("red ball", "2 steps right"),
        ("blue door", "3 steps forward"),
        ("ball", "2 steps right"),
        ("blue object", "1 step right"),
        ("object", "1 step right"),
        ("red key", ""),
        ("red box", ""),
    ],
)
def test_where_the_nearest_such_thing_is_seen(thing: str, where: str) -> None:
    assert place(thing, SCENE) == where


def test_nothing_is_seen_in_an_empty_scene() -> None:
    assert place("red ball", "") == ""
