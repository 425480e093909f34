import gymnasium
import numpy as np
import pytest
from minigrid.minigrid_env import MiniGridEnv
from read_tiles import read

from mmrl import BadInput
from mmrl_envs.babyai import stock_ids
from mmrl_envs.grid_frames import FRAMES, Frames, check_tile_size, full_view, partial_view, tiles
from mmrl_envs.grid_room import Item, Room


def stock(env_id: str) -> MiniGridEnv:
    inner = gymnasium.make(gymnasium.spec(env_id), render_mode="rgb_array", disable_env_checker=True).unwrapped
    assert isinstance(inner, MiniGridEnv)
    return inner


@pytest.mark.parametrize("tile_size", [8, 5, 32])
@pytest.mark.parametrize(
    "env_id",
    ["BabyAI-BossLevel-v0", "BabyAI-PutNextS5N2Carrying-v0", "MiniGrid-LavaGapS7-v0", "MiniGrid-DoorKey-8x8-v0",
     "MiniGrid-Dynamic-Obstacles-5x5-v0", "MiniGrid-MultiRoom-N4-S5-v0"],
)  # fmt: skip
def test_frames_are_minigrids_own(env_id: str, tile_size: int) -> None:
    inner, rng = stock(env_id), np.random.default_rng(0)
    assert isinstance(inner.action_space, gymnasium.spaces.Discrete)
    for seed in range(2):
        inner.reset(seed=seed)
        for _ in range(12):
            seen = inner.gen_obs()["image"]
            assert np.array_equal(
                partial_view(inner, seen, tile_size), inner.get_frame(agent_pov=True, tile_size=tile_size)
            )
            whole = full_view(inner, seen, tile_size)
            expected = inner.get_frame(highlight=False, tile_size=tile_size)
            assert (whole.shape, whole.dtype) == (expected.shape, np.uint8)
            corner = np.zeros(whole.shape, dtype=bool)
            corner[:tile_size, :tile_size] = inner.carrying is not None
            assert np.array_equal(np.where(corner, 0, whole), np.where(corner, 0, expected))
            inner.step(rng.integers(min(6, int(inner.action_space.n))))


def test_the_corner_is_a_wall_or_outside_in_every_level() -> None:
    for env_id in [*stock_ids("BabyAI"), *stock_ids("MiniGrid")]:
        inner = stock(env_id)
        inner.reset(seed=0)
        corner = inner.grid.get(0, 0)
        outside = corner is None and env_id.startswith("MiniGrid-MultiRoom-")  # rooms, walls and all, somewhere inside
        assert outside or (corner is not None and corner.type == "wall"), env_id


@pytest.mark.parametrize("view", list(FRAMES))
def test_every_state_of_the_hands_the_doors_and_the_agent_looks_different(view: str) -> None:
    room, pictures = Room(5), []
    for held in (None, *(Item(kind, color) for kind in ("key", "ball", "box") for color in ("red", "grey", "purple"))):
        for state in ("open", "closed", "locked"):
            for direction in range(4):
                room.clear(None)
                room.stand((2, 2), direction)
                room.put(Item("door", "red", state), (2, 0))
                room.put(Item("ball", "blue"), (1, 2))
                room.hold(held)
                pictures.append(FRAMES[view](room, np.asarray(room.gen_obs()["image"], dtype=np.uint8), 8))
    distinct = {picture.tobytes() for picture in pictures}
    behind = 10 * 2  # facing down, the agent's own view does not show the door behind it
    assert len(distinct) == len(pictures) - (behind if view == "partial" else 0)


def test_the_load_is_seen_under_the_agent_or_in_the_corner() -> None:
    room = Room(5)
    room.stand((2, 3), 0)
    room.hold(Item("key", "yellow"))
    seen = np.asarray(room.gen_obs()["image"], dtype=np.uint8)
    partial = read(partial_view(room, seen, 8), "partial")
    assert (partial.agent, partial.direction, partial.carried) == ((3, 6), 3, ("key", "yellow", ""))
    whole = read(full_view(room, seen, 8), "full")
    assert (whole.agent, whole.direction, whole.carried, whole.lit) == ((2, 3), 0, ("key", "yellow", ""), {(0, 0)})


def test_tiles_are_drawn_once_and_shared() -> None:
    assert tiles(8) is tiles(8)
    room = Room(5)
    seen = np.asarray(room.gen_obs()["image"], dtype=np.uint8)
    first = partial_view(room, seen, 8)
    first[:] = 0  # a frame is the caller's own
    assert partial_view(room, seen, 8).any()


def test_frames_keep_the_last_ones_oldest_first() -> None:
    room = Room(5)
    frames = Frames(room, "full", 8, history=2)
    frames.begin()
    pictures = [frames.images]
    for action in (1, 1):
        frames.look(room.step(action)[0]["image"])
        pictures.append(frames.images)
    assert [len(images) for images in pictures] == [1, 2, 2]
    assert [read(image.pixels, "full").direction for image in pictures[2]] == [1, 2]
    frames.begin()
    assert frames.images == pictures[2][-1:]


def test_the_first_frame_shows_what_a_level_puts_into_the_hands_after_its_reset() -> None:
    inner = stock("BabyAI-PutNextS5N2Carrying-v0")
    inner.reset(seed=0)
    assert inner.carrying is not None
    frames = Frames(inner, "partial", 8, history=1)
    frames.begin()
    carried = read(frames.images[0].pixels, "partial").carried
    assert carried == (inner.carrying.type, inner.carrying.color, "")


@pytest.mark.parametrize("size", [3, 65, -8])
def test_a_tile_size_out_of_bounds_is_named(size: int) -> None:
    with pytest.raises(BadInput, match=f"babyai's tile_size is 4 to 64 pixels, not {size}"):
        check_tile_size("babyai", size)
