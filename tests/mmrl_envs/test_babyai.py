import random
import re

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmrl
from mmrl import BadInput, Image, NoExpert, Text, text_of
from mmrl.registry import env_ids
from mmrl_envs.babyai import ACTIONS, FAMILY, MINIGRID, BabyAI, stock_ids

VALID = "Valid: turn left, turn right, go forward, pick up, drop, toggle."


def make(env_id: str = "babyai/balrog-goto", **kwargs: object) -> BabyAI:
    env = mmrl.make(env_id, **kwargs)
    assert isinstance(env, BabyAI)
    return env


def test_every_stock_id_has_a_family_and_none_is_listed_twice() -> None:
    ids = env_ids()
    assert len(ids) == len(set(ids))
    wfc = {i for i in gymnasium.registry if i.startswith("MiniGrid-WFC-")}
    stock = {i for i in gymnasium.registry if i.startswith(("BabyAI-", "MiniGrid-"))}
    assert {*stock_ids("BabyAI"), *stock_ids("MiniGrid")} | wfc == stock
    for env_id in stock - wfc:
        family, _, rest = env_id.partition("-")
        assert env_id in ids
        assert f"{family.lower()}/{rest[:-3]}" in ids
    tasks = ("goto", "pickup", "open", "putnext", "pick_up_seq_go_to")
    assert FAMILY.ids()[:5] == [f"babyai/balrog-{task}" for task in tasks]
    assert not set(FAMILY.ids()) & set(MINIGRID.ids())


def test_a_short_name_means_version_0() -> None:
    short, stock = make("minigrid/MultiRoom-N4-S5"), make("MiniGrid-MultiRoom-N4-S5-v0")
    newer = make("MiniGrid-MultiRoom-N4-S5-v1")
    first = [env.reset(seed=1)[1]["state_key"] for env in (short, stock, newer)]
    assert first[0] == first[1] != first[2]


def test_the_sample_is_short_and_complete() -> None:
    observation, info = make("BabyAI-GoToLocal-v0").reset(seed=7)
    sample = info["sample"]
    assert sample.id == "babyai/GoToLocal-seed-7"
    assert [m.role for m in sample.messages] == ["system", "user"]
    assert sample.messages[0].text == (
        "Mission: go to a purple ball\nActions: turn left, turn right, go forward, pick up, drop, toggle"
    )
    assert sample.messages[1].content == observation
    assert dict(sample.meta) == {"mission": "go to a purple ball", "seed": 7}
    assert text_of(observation) == info["description"]


def test_full_instructions_end_with_mission_and_rule() -> None:
    _, info = make(instructions="full").reset(seed=0)
    lines = info["sample"].messages[0].text.splitlines()
    assert lines[-3:] == [
        f"Your mission: {info['mission']}",
        "Actions: turn left, turn right, go forward, pick up, drop, toggle",
        "Answer with one action only.",
    ]


def test_an_invalid_action_changes_nothing_and_is_answered_in_words() -> None:
    env = make()
    _, before = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step("fly")
    assert text_of(observation) == f"Invalid action: 'fly'. {VALID}\n{before['description']}"
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert (info["valid_action"], info["action_cost"]) == (False, 1.0)
    assert (info["description"], info["state_key"]) == (before["description"], before["state_key"])


def test_invalid_attempts_use_up_the_steps() -> None:
    env = make(max_steps=3)
    env.reset(seed=0)
    assert [env.step("fly")[3] for _ in range(3)] == [False, False, True]
    with pytest.raises(RuntimeError, match="reset"):
        env.step("turn left")
    env.reset(seed=0)
    env.step("fly")
    env.step("turn left")
    *_, truncated, info = env.step("")
    assert (truncated, info["success"]) == (True, False)


def test_an_answer_may_reason_before_its_action() -> None:
    silent, speaks = make(), make(reasoning=True)
    silent.reset(seed=3)
    speaks.reset(seed=3)
    for said in ("turn left", "the ball: it is behind me: turn left", "ball:  Turn Left "):
        info = silent.step("turn left")[-1]
        other = speaks.step(said)[-1]
        assert other["valid_action"]
        assert other["state_key"] == info["state_key"]
    assert not speaks.step("turn left: the ball")[-1]["valid_action"]
    assert not silent.step("ball: turn left")[-1]["valid_action"]


@pytest.mark.parametrize("task", ["goto", "pickup", "open", "putnext", "pick_up_seq_go_to"])
def test_an_expert_that_reasons_does_what_the_silent_one_does(task: str) -> None:
    silent, speaks = make(f"babyai/balrog-{task}"), make(f"babyai/balrog-{task}", reasoning=True)
    for seed in range(5):
        silent.reset(seed=seed)
        scene = speaks.reset(seed=seed)[1]["description"]
        done = False
        while not done:
            action, said = silent.expert_action(), speaks.expert_action()
            after, _, named = said.partition(": ")
            assert named == action
            thing, seen, steps = re.fullmatch(r"the [a-z ]*?\b((?:ball|box|key|door)\b( \d.*)?)", after).group(0, 1, 2)
            assert f"{seen}\n" in f"{scene}\n" if steps else thing.removeprefix("the ") not in scene
            *_, done, cut, info = silent.step(action)
            told = speaks.step(said)[-1]
            assert told["state_key"] == info["state_key"]
            scene, done = told["description"], done or cut
        assert info["success"]


def test_forward_is_balrogs_rule() -> None:
    env, plain = make(invalid="forward"), make()
    env.reset(seed=3)
    plain.reset(seed=3)
    observation, *_, info = env.step("Turn left")
    *_, expected = plain.step("go forward")
    assert text_of(observation) == (
        f"Invalid action: 'Turn left'. Went forward instead. {VALID}\n{expected['description'] or 'You see nothing.'}"
    )
    assert (info["valid_action"], info["state_key"]) == (False, expected["state_key"])


def test_max_steps_reaches_the_simulator() -> None:
    env = make(max_steps=5)
    env.reset(seed=0)
    assert [env.step("turn left")[3] for _ in range(5)] == [False] * 4 + [True]


def test_success_is_any_positive_reward() -> None:
    env = make()
    env.reset(seed=10)
    done, rewards, info = False, [], {}
    while not done:
        _, reward, terminated, truncated, info = env.step(env.expert_action())
        rewards.append(reward)
        done = terminated or truncated
    assert info["success"] is True
    assert rewards[-1] > 0 == sum(rewards[:-1])


@pytest.mark.parametrize("env_id", ["minigrid/LavaGapS5", "minigrid/LavaCrossingS9N1", "minigrid/DistShift1"])
def test_a_step_into_lava_is_reported_and_no_other(env_id: str) -> None:
    env, actions, burnt = make(env_id), random.Random(0), 0
    for seed in range(30):
        _, info = env.reset(seed=seed)
        assert "unsafe" not in info
        done = False
        while not done:
            _, reward, terminated, truncated, info = env.step(actions.choice(["go forward", "turn left", "turn right"]))
            done = terminated or truncated
            in_lava = terminated and reward == 0.0  # MiniGrid ends an episode at the goal, with a reward, or in lava
            assert info.get("unsafe") == ("lava" if in_lava else None)
            burnt += in_lava
    assert burnt > 0


def test_nothing_in_view_is_said_and_not_described() -> None:
    env = make("minigrid/Empty-16x16")
    _, info = env.reset(seed=0)
    assert info["description"] != ""
    seen = [info["description"]]
    env.step("turn right")
    for _ in range(6):
        env.step("go forward")
    env.step("turn left")
    for _ in range(4):
        observation, *_, info = env.step("go forward")
        seen.append(info["description"])
        assert text_of(observation) == (info["description"] or "You see nothing.")
    assert "" in seen


def test_named_actions_are_those_that_do_something() -> None:
    assert make("minigrid/Dynamic-Obstacles-5x5").actions == ACTIONS[:3]
    assert make("minigrid/GoToDoor-5x5").actions == (*ACTIONS, "done")
    assert make("minigrid/DoorKey-8x8").actions == ACTIONS


def test_the_expert_needs_a_babyai_level() -> None:
    env = make("minigrid/DoorKey-8x8")
    env.reset(seed=0)
    with pytest.raises(NoExpert, match="DoorKeyEnv"):
        env.expert_action()


def test_images_alone_show_no_text_of_the_scene() -> None:
    env, told = make(observation="image"), make()
    observation, info = env.reset(seed=3)
    words, expected = told.reset(seed=3)
    assert [type(part) for part in observation] == [Image]
    assert isinstance(observation[0], Image)
    assert observation[0].size == (56, 56)
    assert np.array_equal(observation[0].pixels, env.simulator.get_frame(agent_pov=True, tile_size=8))
    assert info["sample"].messages[0].text == expected["sample"].messages[0].text
    assert info["description"] == expected["description"] == text_of(words)
    observation, *_ = env.step("turn left")
    assert [type(part) for part in observation] == [Image]
    again, *_ = env.step("fly")
    assert again == (*observation, Text(f"Invalid action: 'fly'. {VALID}"))


def test_both_is_the_picture_and_then_the_text() -> None:
    env, told, shown = make(observation="both"), make(), make(observation="image")
    starts = [e.reset(seed=3)[0] for e in (env, told, shown)]
    assert starts[0] == starts[2] + starts[1]
    for action in ("go forward", "fly", "turn right"):
        both, text, image = (e.step(action)[0] for e in (env, told, shown))
        assert both[:-1] == image[:1]
        assert both[-1:] == text


def test_a_full_view_shows_the_whole_grid_in_tiles_of_the_size_asked_for() -> None:
    env = make("babyai/balrog-open", observation="image", view="full", tile_size=6)
    (image,), _ = env.reset(seed=0)
    assert isinstance(image, Image)
    assert image.size == (15 * 6, 8 * 6)
    assert np.array_equal(image.pixels, env.simulator.get_frame(highlight=False, tile_size=6))


def test_history_is_the_last_frames_and_an_action_that_is_none_adds_none() -> None:
    env, now = make(observation="image", history=3), make(observation="image")
    frames = [now.reset(seed=1)[0][0]]
    observation, _ = env.reset(seed=1)
    assert observation == tuple(frames)
    for action in ("turn left", "turn left", "go forward", "turn right"):
        frames.append(now.step(action)[0][0])
        assert env.step(action)[0] == tuple(frames[-3:])
    observation, *_ = env.step("fly")
    assert observation[:-1] == tuple(frames[-3:])
    assert env.reset(seed=1)[0] == tuple(frames[:1])


def test_going_forward_instead_adds_a_frame() -> None:
    env, now = make(observation="image", history=2, invalid="forward"), make(observation="image")
    first, _ = env.reset(seed=1)
    now.reset(seed=1)
    observation, *_ = env.step("fly")
    assert observation[:-1] == (*first, *now.step("go forward")[0])


def test_full_instructions_speak_of_pictures_where_there_are_some() -> None:
    texts = [make(observation=kind, instructions="full").reset(seed=0)[1]["sample"].messages[0].text
             for kind in ("text", "image", "both")]  # fmt: skip
    assert [("are shown" in text, "told" in text) for text in texts] == [(False, True), (True, False), (True, True)]


@pytest.mark.parametrize(
    "kwargs",
    [{"observation": "video"}, {"view": "side", "observation": "image"}, {"tile_size": 3, "observation": "image"},
     {"history": 0, "observation": "both"}, {"view": "full"}, {"tile_size": 16}, {"history": 2}],
)  # fmt: skip
def test_bad_choices_of_what_is_shown_are_named(kwargs: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=f"babyai's .*{next(iter(kwargs))}"):
        make(**kwargs)


@pytest.mark.parametrize("kwargs", [{"invalid": "ignore"}, {"instructions": "long"}, {"max_steps": 0}, {"speed": 1}])
def test_bad_arguments_are_named(kwargs: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=next(iter(kwargs))):
        make(**kwargs)


def test_unknown_ids_name_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean 'babyai/GoToLocal'"):
        mmrl.make("babyai/GotoLocall")


def test_render_is_the_whole_grid() -> None:
    env = make()
    env.reset(seed=0)
    frame = env.render()
    assert (frame.shape, frame.dtype) == ((256, 256, 3), np.uint8)


def test_unseeded_resets_follow_the_last_seed() -> None:
    env, other = make(), make()
    names = []
    for e in (env, other):
        e.reset(seed=5)
        names.append([e.reset()[1]["sample"].id for _ in range(3)])
    assert names[0] == names[1]
    assert len(set(names[0])) == 3


def test_no_global_random_state_is_touched() -> None:
    before = random.getstate(), str(np.random.get_state())
    env = make("babyai/BossLevel")
    env.reset(seed=1)
    for _ in range(10):
        env.step(env.expert_action())
    assert (random.getstate(), str(np.random.get_state())) == before


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_a_named_action_or_answered_in_words(text: str) -> None:
    env = make()
    _, start = env.reset(seed=0)
    observation, *_, info = env.step(text)
    named = text.strip().casefold() in ACTIONS
    assert info["valid_action"] is named
    assert text_of(observation).startswith("Invalid action: ") is not named
    assert named or info["state_key"] == start["state_key"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ACTIONS), st.sampled_from(["", " ", "\n", "\t "]), st.booleans())
def test_white_space_and_case_are_forgiven(name: str, space: str, upper: bool) -> None:
    env, plain = make(), make()
    env.reset(seed=2)
    plain.reset(seed=2)
    written = f"{space}{name.upper() if upper else name}{space}"
    assert env.step(written) == plain.step(name)
