from typing import Any

import pytest
from golden import records

import mmrl
from mmrl_envs.babyai import ACTIONS, BabyAI
from mmrl_envs.balrog import TASKS

RECORDS = records("set_b_dev.jsonl")
LIMITS = {"goto": 64, "pickup": 64, "open": 128, "putnext": 128, "pick_up_seq_go_to": 128}


def task(name: str) -> BabyAI:
    env = mmrl.make(f"babyai/balrog-{name}")
    assert isinstance(env, BabyAI)
    return env


def state(env: BabyAI) -> tuple[list[int], int, list[str] | None]:
    held = env.simulator.carrying
    column, row = env.simulator.agent_pos
    return [int(column), int(row)], int(env.simulator.agent_dir), held and [held.type, held.color]


def replay(env: BabyAI, record: dict[str, Any], which: str) -> None:
    _, info = env.reset(seed=record["seed"])
    assert state(env)[:2] == (record["agent_pos"], record["agent_dir"])
    assert (info["mission"], info["description"]) == (record["mission"], record["text"])
    assert env.simulator.max_steps == record["max_steps"] == LIMITS[record["task"]]
    assert [env.simulator.width, env.simulator.height] == record["grid"]
    things = sorted(
        (thing.type, thing.color, index % env.simulator.width, index // env.simulator.width)
        for index, thing in enumerate(env.simulator.grid.grid)
        if thing is not None and thing.type != "wall"
    )
    assert things == sorted((o["type"], o["color"], o["x"], o["y"]) for o in record["objects"])
    for step in record[which]:
        if which == "expert":
            assert env.expert_action() == ACTIONS[step["action"]]
        _, reward, terminated, truncated, info = env.step(ACTIONS[step["action"]])
        got = (info["description"], reward, terminated, truncated, *state(env))
        assert got == tuple(step[k] for k in ("text", "reward", "terminated", "truncated", "pos", "dir", "carrying"))
        if terminated or truncated:
            assert info["success"] is (reward > 0)


@pytest.mark.parametrize("which", ["steps", "expert"])
@pytest.mark.parametrize("record", RECORDS, ids=lambda r: f"{r['task']}-{r['seed']}")
def test_episodes_are_balrogs_seed_for_seed(record: dict[str, Any], which: str) -> None:
    replay(task(record["task"]), record, which)


def test_a_used_environment_gives_the_same_episodes() -> None:
    for name in TASKS:
        env = task(name)
        for record in RECORDS:
            if record["task"] == name:
                replay(env, record, "expert")


@pytest.mark.parametrize("name", TASKS)
def test_the_expert_solves_every_seed(name: str) -> None:
    env, solved = task(name), 0
    for seed in range(10):
        env.reset(seed=seed)
        done, info = False, {}
        while not done:
            _, _, terminated, truncated, info = env.step(env.expert_action())
            done = terminated or truncated
        solved += info["success"]
    assert solved == 10


def test_nothing_is_printed_when_a_layout_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    env = task("open")
    for seed in range(60):
        env.reset(seed=seed)
    assert capsys.readouterr().out == ""
