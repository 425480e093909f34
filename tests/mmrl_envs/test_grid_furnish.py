import numpy as np
import pytest

from mmrl_envs.grid_furnish import LEVELS, Description, Wish, anywhere, draw_item, furnish
from mmrl_envs.grid_room import OBJECTS, Item, Room, look

RED_KEY = Description("key", "red")
WISHES = {
    "nothing": Wish(),
    "items": Wish(RED_KEY, (Item("key", "red"), Item("key", "red"))),
    "none": Wish(RED_KEY, at_least=3),
    "any key": Wish(Description("key"), (Item("key", "blue"),)),
    "any door": Wish(Description("door"), (Item("door", "blue", "closed"),)),
    "front": Wish(front=Item("ball", "green")),
    "front door": Wish(front=Item("door", "green", "locked")),
    "front wall": Wish(front="wall"),
    "front nothing": Wish(front="nothing"),
    "hands": Wish(carried=Item("box", "yellow")),
    "empty hands": Wish(carried=None),
}


@pytest.mark.parametrize("view", ["partial", "full"])
@pytest.mark.parametrize("difficulty", LEVELS)
@pytest.mark.parametrize("name", WISHES)
def test_wishes_come_true(name: str, difficulty: int, view: str) -> None:
    level, wish, rng = LEVELS[difficulty], WISHES[name], np.random.default_rng(0)
    room, done = Room(level.size), 0
    for _ in range(40):
        if not furnish(rng, room, level, view, wish):  # type: ignore[arg-type]
            continue
        done += 1
        seen, whole = look(room, view), look(room, "full")  # type: ignore[arg-type]
        items = [sight.item for sight in whole.sights]
        assert not set(wish.items) - set(items)
        if wish.asked is not None:
            assert sum(wish.asked.fits(sight.item) for sight in seen.sights) <= len(wish.items)
            assert seen.carried is None or not wish.asked.fits(seen.carried)
        if wish.front != "anything":
            assert seen.front == (wish.front.kind if isinstance(wish.front, Item) else wish.front)
        if wish.carried != "anything":
            assert seen.carried == wish.carried
        assert room.grid.get(*room.agent_pos) is None
        assert sum(item.kind in OBJECTS for item in items) <= max(level.most, wish.at_least, len(wish.items)) + 1
    assert done > 20


def test_places_are_respected() -> None:
    wish = Wish(RED_KEY, (Item("key", "red"),), where=lambda right, ahead: right < 0 and ahead > 0)
    rng, room = np.random.default_rng(0), Room(8)
    done = [furnish(rng, room, LEVELS[2], "full", wish) and look(room, "full").sights for _ in range(30)]
    places = [(s.right, s.ahead) for sights in done if sights for s in sights if RED_KEY.fits(s.item)]
    assert len(places) > 10
    assert all(right < 0 < ahead for right, ahead in places)
    assert anywhere(-3, -3)


def test_a_wish_that_cannot_come_true_is_said() -> None:
    wish = Wish(RED_KEY, (Item("key", "red"),), where=lambda right, ahead: ahead > 99)
    assert not furnish(np.random.default_rng(0), Room(7), LEVELS[1], "full", wish)


def test_only_doors_have_a_state_and_words_are_english() -> None:
    rng = np.random.default_rng(0)
    assert {draw_item(rng, LEVELS[2]).state for _ in range(50)} == {"open"}
    assert {draw_item(rng, LEVELS[2], ("door",)).state for _ in range(50)} == {"open", "closed", "locked"}
    assert RED_KEY.words() == "red key"
    assert Description("box").words(many=True) == "boxes"
    assert Description("ball", "grey").words(many=True) == "grey balls"
