"""Questions about a walk through two rooms, each with a walk in which a given answer is right.

Comes in: a random generator and a level.  Goes out: a question, what it needs of the rooms, and a way to walk in them
so that its answer is right; a try may fail for want of time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmrl_envs.grid_room import COLORS, OBJECTS, STATES, Cell, Item, Room
from mmrl_envs.grid_walk import DROP, FORWARD, LEFT, PICK_UP, RIGHT, TOGGLE, Walk, path
from mmrl_envs.picture_question import YES_NO, Question, pick


@dataclass(frozen=True, slots=True)
class Level:
    """What walks and questions of one difficulty are drawn from.

    Attributes:
        size: cells along each side of the two rooms together, walls included.
        fewest: the smallest number of objects on the floor.
        most: the largest.
        colors: the colours.
        counted: the largest answer to "How many".
        drops: whether the agent may put down again what it picked up.
        kinds: the kinds of questions that are asked by default.
    """

    size: int
    fewest: int
    most: int
    colors: tuple[str, ...]
    counted: int
    drops: bool
    kinds: tuple[str, ...]


_EASY = ("picked", "turns", "door")
LEVELS: dict[int, Level] = {
    1: Level(7, 1, 2, ("red", "green", "blue", "yellow"), 2, False, _EASY),
    2: Level(8, 2, 4, COLORS, 3, False, (*_EASY, "opened")),
    3: Level(9, 4, 7, COLORS, 3, True, (*_EASY, "opened")),
}
FEWEST_ACTIONS = 5
"""With fewer, some answers could not be made true."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Two furnished rooms: the simulator, the cells of the doors, and that of the object that is asked about."""

    room: Room
    doors: tuple[Cell, ...]
    place: Cell | None


Tell = Callable[[np.random.Generator, Stage, Walk, int], bool]
"""Walks a number of actions; whether they were enough."""


@dataclass(frozen=True, slots=True)
class Story:
    """A question and a walk.

    Attributes:
        question: the question.
        doors: the doors that it needs; the first is in the wall between the rooms.
        tell: the walk.
        item: an object that it needs, or None.
    """

    question: Question
    doors: tuple[Item, ...]
    tell: Tell
    item: Item | None = None


def set_stage(rng: np.random.Generator, room: Room, level: Level, story: Story) -> Stage:
    """Furnish the rooms for a story: its doors, its object, some other objects, and the agent."""
    divider = int(rng.integers(3, level.size - 3))
    room.clear(divider)
    between = [cell for cell in room.doorways() if cell[0] == divider]
    others = [cell for cell in room.doorways() if cell[0] != divider]
    doors = (pick(rng, between), *(others[int(i)] for i in rng.permutation(len(others))[: len(story.doors) - 1]))
    for item, cell in zip(story.doors, doors, strict=True):
        room.put(item, cell)
    room.stand((0, 0), 0)  # out of the way
    beside = {room.ahead_of(cell, direction) for cell in doors for direction in range(4)}
    free = [cell for cell in room.free() if cell not in beside]
    places = [free[int(i)] for i in rng.permutation(len(free))]
    if story.item is not None:
        room.put(story.item, places[-1])
    for cell in places[: int(rng.integers(level.fewest, level.most, endpoint=True))]:
        room.put(Item(pick(rng, OBJECTS), pick(rng, level.colors)), cell)
    room.stand(pick(rng, room.free()), int(rng.integers(4)))
    return Stage(room, doors, None if story.item is None else places[-1])


def _door(rng: np.random.Generator, level: Level) -> Item:
    return Item("door", pick(rng, level.colors), pick(rng, STATES[:2]))


def _go(rng: np.random.Generator, stage: Stage, walk: Walk, target: Cell, most: int) -> bool:
    """Wander a little and then face ``target``, within ``most`` actions; whether that was enough."""
    walk.wander(rng, int(rng.integers(most // 2 + 1)))
    way = path(stage.room, walk.pose, target)
    if way is None or len(walk.actions) + len(way) > most:
        return False
    walk.take(*way)
    return True


def picked(rng: np.random.Generator, level: Level) -> Story:
    """Which object, by colour and kind, the agent picks up."""
    answers = tuple(f"{color} {kind}" for color in level.colors for kind in OBJECTS)
    answer = pick(rng, answers)
    color, kind = answer.split()
    drops = level.drops and rng.random() < 0.5

    def tell(rng: np.random.Generator, stage: Stage, walk: Walk, length: int) -> bool:
        if stage.place is None or not _go(rng, stage, walk, stage.place, length - 1):
            return False
        walk.take(PICK_UP)
        if drops and len(walk.actions) < length:
            walk.wander(rng, int(rng.integers(length - len(walk.actions))))
            walk.take(DROP)  # changes nothing where something is in the way
        walk.wander(rng, length - len(walk.actions))
        return True

    question = Question("Which object did you pick up?", answer, answers)
    return Story(question, (_door(rng, level),), tell, Item(kind, color))


def turns(rng: np.random.Generator, level: Level) -> Story:
    """How many times the agent turns left, or right."""
    words, turn = pick(rng, (("left", LEFT), ("right", RIGHT)))
    answers = tuple(str(n) for n in range(level.counted + 1))
    answer = pick(rng, answers)

    def tell(rng: np.random.Generator, stage: Stage, walk: Walk, length: int) -> bool:
        when = {int(i) for i in rng.permutation(length)[: int(answer)]}
        for i in range(length):
            if i in when:
                walk.take(turn)
            else:
                walk.wander(rng, 1, without=turn)
        return True

    return Story(Question(f"How many times did you turn {words}?", answer, answers), (_door(rng, level),), tell)


def door(rng: np.random.Generator, level: Level) -> Story:
    """Whether the agent goes through a door; if not, half of the time it goes to one and opens or closes it."""
    answer = pick(rng, YES_NO)
    item = _door(rng, level)
    goes = answer == "yes" or rng.random() < 0.5

    def tell(rng: np.random.Generator, stage: Stage, walk: Walk, length: int) -> bool:
        through = (FORWARD, FORWARD) if item.state == "open" else (TOGGLE, FORWARD, FORWARD)
        actions = through if answer == "yes" else (TOGGLE,)
        if goes:
            if not _go(rng, stage, walk, stage.doors[0], length - len(actions)):
                return False
            walk.take(*actions)
        walk.wander(rng, length - len(walk.actions))
        return True

    return Story(Question("Did you go through a door?", answer, YES_NO), (item,), tell)


def opened(rng: np.random.Generator, level: Level) -> Story:
    """The colour of the door that the agent opens; another is there, open or closed."""
    answer = pick(rng, level.colors)
    other = pick(rng, [color for color in level.colors if color != answer])
    doors = (Item("door", answer, "closed"), Item("door", other, pick(rng, STATES[:2])))
    which = int(rng.integers(2))

    def tell(rng: np.random.Generator, stage: Stage, walk: Walk, length: int) -> bool:
        if not _go(rng, stage, walk, stage.doors[which], length - 1):
            return False
        walk.take(TOGGLE)
        walk.wander(rng, length - len(walk.actions))
        return True

    question = Question("What colour is the door that you opened?", answer, level.colors)
    return Story(question, doors if which == 0 else doors[::-1], tell)


QUESTIONS: dict[str, Callable[[np.random.Generator, Level], Story]] = {
    "picked": picked, "turns": turns, "door": door, "opened": opened,
}  # fmt: skip
"""How a question of each kind is drawn."""
