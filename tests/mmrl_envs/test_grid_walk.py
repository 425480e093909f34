import numpy as np

from mmrl_envs.grid_room import Item, Room
from mmrl_envs.grid_walk import DROP, FORWARD, LEFT, PICK_UP, RIGHT, TOGGLE, Walk, moves, path


def test_actions_are_minigrids() -> None:
    actions = Room(5).actions
    assert [
        actions.left, actions.right, actions.forward, actions.pickup, actions.drop, actions.toggle
    ] == [LEFT, RIGHT, FORWARD, PICK_UP, DROP, TOGGLE]  # fmt: skip


def test_moves_enter_empty_cells_only() -> None:
    room = Room(5)
    assert moves(room, ((1, 1), 0)) == {LEFT: ((1, 1), 3), RIGHT: ((1, 1), 1), FORWARD: ((2, 1), 0)}
    room.put(Item("ball", "red"), (2, 1))
    assert moves(room, ((1, 1), 0)) == {LEFT: ((1, 1), 3), RIGHT: ((1, 1), 1)}
    room.put(Item("door", "red", "open"), (1, 0))
    assert FORWARD not in moves(room, ((1, 1), 3))


def test_a_path_is_the_shortest_and_leads_there() -> None:
    room, rng = Room(8), np.random.default_rng(0)
    for _ in range(20):
        room.clear(4)
        room.put(Item("door", "red", "open"), (4, int(rng.integers(1, 7))))
        free = room.free()
        target, start = (free[int(i)] for i in rng.permutation(len(free))[:2])
        room.put(Item("key", "blue"), target)
        room.stand(start, int(rng.integers(4)))
        found = path(room, (start, room.agent_dir), target)
        assert (found is None) is ((start[0] < 4) != (target[0] < 4))  # nobody walks through doors by himself
        for action in found or []:
            room.step(action)
        assert found is None or tuple(room.front_pos) == target
    assert path(Room(5), ((1, 1), 0), (2, 1)) == []
    assert path(Room(5), ((1, 1), 0), (3, 1)) == [FORWARD]
    assert path(Room(5), ((1, 1), 0), (0, 1)) in ([LEFT, LEFT], [RIGHT, RIGHT])


def test_a_walk_keeps_a_frame_before_and_after_every_action() -> None:
    room = Room(5)
    room.put(Item("ball", "red"), (2, 1))
    walk = Walk(room, "full", 8)
    walk.take(PICK_UP, FORWARD)
    walk.take(RIGHT)
    assert walk.actions == [PICK_UP, FORWARD, RIGHT]
    assert walk.pose == ((2, 1), 1)
    assert len(walk.frames) == 4
    assert len({frame.tobytes() for frame in walk.frames}) == 4


def test_wandering_never_makes_the_forbidden_move_and_never_stands_still() -> None:
    rng = np.random.default_rng(0)
    for without in (None, LEFT, RIGHT, FORWARD):
        room = Room(5)
        walk = Walk(room, "full", 8)
        walk.wander(rng, 40, without=without)
        assert set(walk.actions) == {LEFT, RIGHT, FORWARD} - {without}
        assert all(not np.array_equal(a, b) for a, b in zip(walk.frames, walk.frames[1:], strict=False))


def test_a_turn_that_looks_like_the_other_one_is_noticed() -> None:
    room = Room(5)
    room.stand((2, 2), 0)  # in the middle of a square room every direction looks the same
    walk = Walk(room, "partial", 8)
    walk.take(LEFT)
    assert not walk.clear
    room.put(Item("ball", "red"), (2, 1))
    room.stand((2, 2), 0)
    walk = Walk(room, "partial", 8)
    walk.take(LEFT)
    assert walk.clear
