import numpy as np
import pytest

from mmrl_envs.grid_room import Item, Look, Room, Sight, look


def test_a_cleared_room_is_walls_and_nothing_else() -> None:
    room = Room(6)
    room.put(Item("ball", "red"), (2, 2))
    room.hold(Item("key", "blue"))
    room.clear(3)
    assert room.carrying is None
    kinds = {(i, j): thing.type for i in range(6) for j in range(6) if (thing := room.grid.get(i, j)) is not None}
    assert set(kinds.values()) == {"wall"}
    assert set(kinds) == {(i, j) for i in range(6) for j in range(6) if i in (0, 3, 5) or j in (0, 5)}
    assert len(room.free()) == 3 * 4 - 1  # the agent's cell is not free


def test_doorways_are_the_walls_beside_a_floor() -> None:
    room = Room(5)
    corners = {(0, 0), (0, 4), (4, 0), (4, 4)}
    assert set(room.doorways()) == {(i, j) for i in range(5) for j in range(5) if 0 in (i, j) or 4 in (i, j)} - corners
    room.clear(2)
    assert {cell for cell in room.doorways() if cell[0] == 2} == {(2, 1), (2, 2), (2, 3)}


@pytest.mark.parametrize("direction", range(4))
def test_places_are_told_from_the_agent(direction: int) -> None:
    room = Room(9)
    room.stand((4, 4), direction)
    ahead, right = room.dir_vec, room.right_vec
    for i in range(-3, 4):
        for j in range(-3, 4):
            cell = np.array([4, 4]) + i * right + j * ahead
            assert room.from_agent((int(cell[0]), int(cell[1]))) == (i, j)
    assert room.ahead_of((4, 4), direction) == tuple(room.front_pos)


def test_a_look_at_the_whole_room_and_through_the_agents_eyes() -> None:
    room = Room(7)
    room.stand((3, 3), 3)  # up
    room.put(Item("door", "red", "locked"), (3, 0))
    room.put(Item("key", "blue"), (4, 2))
    room.put(Item("goal", "green"), (1, 5))
    room.hold(Item("box", "grey"))
    door, key = Sight(Item("door", "red", "locked"), 0, 3), Sight(Item("key", "blue"), 1, 1)
    goal = Sight(Item("goal", "green"), -2, -2)
    seen, whole = look(room, "partial"), look(room, "full")
    assert set(seen.sights) == {door, key}
    assert set(whole.sights) == {door, key, goal}
    assert (seen.front, seen.carried) == (whole.front, whole.carried) == ("nothing", Item("box", "grey"))
    assert look(Room(4), "full") == Look((), "nothing", None)


def test_what_a_wall_hides_is_not_seen() -> None:
    room = Room(9)
    room.clear(5)
    room.stand((3, 4), 0)  # right, towards the wall
    room.put(Item("ball", "red"), (7, 4))
    assert look(room, "partial").sights == ()
    assert len(look(room, "full").sights) == 1
    room.put(Item("door", "blue", "open"), (5, 4))
    assert {sight.item.kind for sight in look(room, "partial").sights} == {"door", "ball"}


@pytest.mark.parametrize(
    ("item", "front"), [(Item("door", "red", "closed"), "door"), (Item("box", "red"), "box"), (None, "wall")]
)
def test_what_is_in_front(item: Item | None, front: str) -> None:
    room = Room(4)
    room.stand((1, 1), 3)
    if item is not None:
        room.put(item, (1, 0))
    assert look(room, "full").front == look(room, "partial").front == front
