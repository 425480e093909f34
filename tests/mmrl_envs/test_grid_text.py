import gymnasium
import numpy as np
import pytest
from golden import records
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX

import mmrl
from mmrl_envs.babyai import ACTIONS
from mmrl_envs.grid_text import describe


@pytest.mark.parametrize("record", records("set_a_dev.jsonl"), ids=lambda r: f"{r['env_id']}-{r['seed']}")
def test_states_read_as_balrog_writes_them(record: dict) -> None:
    env = mmrl.make(record["env_id"])
    _, info = env.reset(seed=record["seed"])
    for action in record["actions"]:
        _, _, _, _, info = env.step(ACTIONS[action])
    assert info["description"] == record["text"]
    assert info["description"].startswith("You carry") is record["carrying"]


def empty(size: int = 7) -> np.ndarray:
    image = np.zeros((size, size, 3), np.uint8)
    image[:, :, 0] = OBJECT_TO_IDX["empty"]
    return image


def put(image: np.ndarray, column: int, row: int, kind: str, color: str = "grey", state: int = 0) -> None:
    image[column, row] = OBJECT_TO_IDX[kind], COLOR_TO_IDX[color], state


def test_an_empty_view_has_no_text() -> None:
    assert describe(empty()) == ""
    assert describe(np.zeros((7, 7, 3), np.uint8)) == ""


def test_places_are_counted_from_the_agent() -> None:
    image = empty()
    for column, row, kind, color in ((0, 0, "key", "red"), (3, 5, "ball", "blue"), (4, 6, "box", "green"),
                                     (6, 5, "goal", "green")):  # fmt: skip
        put(image, column, row, kind, color)
    assert describe(image).splitlines() == [
        "a red key 3 steps left and 6 steps forward",
        "a blue ball 1 step forward",
        "a green box 1 step right",
        "a green goal 3 steps right and 1 step forward",
    ]


def test_doors_have_a_state_and_the_article_stays_a() -> None:
    image = empty()
    for row, state in enumerate((0, 1, 2)):
        put(image, 2, row, "door", "red", state)
    assert [line.split(" 1 step")[0] for line in describe(image).splitlines()] == [
        "a open red door", "a closed red door", "a locked red door",
    ]  # fmt: skip


def test_a_wall_counts_only_on_the_agents_lines_and_behind_nothing() -> None:
    image = empty()
    image[:, 0, 0] = OBJECT_TO_IDX["wall"]
    image[0, :, 0] = image[6, :, 0] = OBJECT_TO_IDX["wall"]
    assert describe(image) == "a wall 6 steps forward\na wall 3 steps left\na wall 3 steps right"
    put(image, 3, 3, "key", "red")
    put(image, 1, 6, "ball", "red")
    assert describe(image).splitlines() == [
        "a wall 3 steps right", "a red ball 2 steps left", "a red key 3 steps forward",
    ]  # fmt: skip


def test_what_is_carried_comes_first_and_is_not_a_place() -> None:
    image = empty()
    put(image, 3, 6, "box", "purple")
    assert describe(image) == "You carry a purple box"


def test_other_view_sizes() -> None:
    image = empty(5)
    put(image, 2, 0, "lava", "red")
    assert describe(image) == "a red lava 4 steps forward"


def test_an_agent_in_a_doorway_does_not_see_the_door() -> None:
    env = gymnasium.make("BabyAI-OpenDoor-v0", disable_env_checker=True).unwrapped
    env.reset(seed=0)
    door = next(thing for thing in env.grid.grid if thing is not None and thing.type == "door")
    door.is_open = True
    env.agent_pos = door.cur_pos
    image = env.gen_obs()["image"]
    assert door.color not in [line.split()[2] for line in describe(image).splitlines() if " 0 step" in line]
    assert "0 step" not in describe(image)
