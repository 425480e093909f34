"""Questions about MiniGrid rooms, answered from the simulator's state.

Comes in: a difficulty and a view.  Goes out: a picture and a question a seed, graded as VQA is.

Left, right, ahead and behind are the agent's.  "Ahead" and "behind" are straight ahead and straight behind; whatever
lies off that line, however little, is to the left or to the right.  What is carried is not "seen".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmrl.errors import BadInput
from mmrl.sample import Image
from mmrl_envs.grid_frames import FRAMES, VIEWS, View, check_tile_size
from mmrl_envs.grid_furnish import LEVELS, Description, Level, Wish, draw_item, furnish
from mmrl_envs.grid_room import OBJECTS, STATES, Item, Look, Room, look
from mmrl_envs.picture_question import YES_NO, Asked, PictureQuestion, Question, check_difficulty, pick

_NAME = "vqa/minigrid"
_FRONTS = ("nothing", "wall", "door", *OBJECTS)
_THINGS = (*OBJECTS, "door")


@dataclass(frozen=True, slots=True)
class Task:
    """A question, what it needs of a room, and how its answer is read off a look; None where it makes no sense."""

    question: Question
    wish: Wish
    read: Callable[[Look], str | None]


Draw = Callable[[np.random.Generator, Level, View], Task]


def _seen(seen: Look, asked: Description) -> list[Item]:
    return [sight.item for sight in seen.sights if asked.fits(sight.item)]


def _describe(rng: np.random.Generator, level: Level, kinds: tuple[str, ...] = OBJECTS) -> Description:
    return Description(pick(rng, kinds), pick(rng, level.colors))


def _like(rng: np.random.Generator, level: Level, asked: Description) -> Item:
    """An item that is asked about."""
    item = draw_item(rng, level, (asked.kind,))
    return item if asked.color is None else replace(item, color=asked.color)


def ahead(rng: np.random.Generator, level: Level, view: View) -> Task:
    """What is in the cell in front of the agent."""
    answer = pick(rng, _FRONTS)
    wish = Wish(front=draw_item(rng, level, (answer,)) if answer in _THINGS else answer)
    return Task(Question("What is in front of you?", answer, _FRONTS), wish, lambda seen: seen.front)


def existence(rng: np.random.Generator, level: Level, view: View) -> Task:
    """Whether an item of a colour and a kind is in sight."""
    asked = _describe(rng, level, _THINGS)
    answer = pick(rng, YES_NO)
    items = (_like(rng, level, asked),) if answer == "yes" else ()
    question = Question(f"Do you see a {asked.words()}?", answer, YES_NO)
    return Task(question, Wish(asked, items, at_least=1), lambda seen: YES_NO[not _seen(seen, asked)])


def count(rng: np.random.Generator, level: Level, view: View) -> Task:
    """How many items of a kind, with or without a colour, are in sight."""
    pair = _describe(rng, level)
    asked = pick(rng, (pair, Description(pair.kind)))
    answers = tuple(str(n) for n in range(level.counted + 1))
    answer = pick(rng, answers)
    items = tuple(_like(rng, level, asked) for _ in range(int(answer)))
    question = Question(f"How many {asked.words(many=True)} do you see?", answer, answers)
    return Task(question, Wish(asked, items, at_least=level.counted), lambda seen: str(len(_seen(seen, asked))))


def _only_color(items: Sequence[Item | None]) -> str | None:
    return items[0].color if len(items) == 1 and items[0] is not None else None


def _colour_seen(rng: np.random.Generator, level: Level, answer: str) -> Task:
    item = replace(draw_item(rng, level, _THINGS), color=answer)
    asked = Description(item.kind)
    question = Question(f"What colour is the {asked.words()}?", answer, level.colors)
    return Task(question, Wish(asked, (item,)), lambda seen: _only_color(_seen(seen, asked)))


def _colour_front(rng: np.random.Generator, level: Level, answer: str) -> Task:
    item = replace(draw_item(rng, level, _THINGS), color=answer)
    question = Question("What colour is the thing in front of you?", answer, level.colors)
    return Task(question, Wish(front=item),
                lambda seen: _only_color([s.item for s in seen.sights if (s.right, s.ahead) == (0, 1)]))  # fmt: skip


def _colour_carried(rng: np.random.Generator, level: Level, answer: str) -> Task:
    item = replace(draw_item(rng, level), color=answer)
    question = Question("What colour is the thing that you carry?", answer, level.colors)
    return Task(question, Wish(carried=item), lambda seen: _only_color([seen.carried]))


def colour(rng: np.random.Generator, level: Level, view: View) -> Task:
    """The colour of the only item of a kind in sight, of what is right in front, or of what is carried."""
    return pick(rng, (_colour_seen, _colour_front, _colour_carried))(rng, level, pick(rng, level.colors))


def carried(rng: np.random.Generator, level: Level, view: View) -> Task:
    """What the agent carries."""
    answers = ("nothing", *OBJECTS)
    answer = pick(rng, answers)
    wish = Wish(carried=draw_item(rng, level, (answer,)) if answer in OBJECTS else None)
    return Task(Question("What do you carry?", answer, answers), wish,
                lambda seen: "nothing" if seen.carried is None else seen.carried.kind)  # fmt: skip


def way(right: int, ahead: int) -> str:
    """The word for a place, given as steps to the agent's right and ahead of it."""
    if right:
        return "right" if right > 0 else "left"
    return "ahead" if ahead > 0 else "behind"


_WAYS: dict[View, tuple[str, ...]] = {"partial": ("left", "right", "ahead"),
                                      "full": ("left", "right", "ahead", "behind")}  # fmt: skip


def direction(rng: np.random.Generator, level: Level, view: View) -> Task:
    """On which side of the agent the goal, or the only item of a colour and a kind in sight, lies."""
    asked = pick(rng, (Description("goal"), _describe(rng, level), _describe(rng, level, _THINGS)))
    answer = pick(rng, _WAYS[view])
    item = Item("goal", "green") if asked.kind == "goal" else _like(rng, level, asked)

    def read(seen: Look) -> str | None:
        places = [way(sight.right, sight.ahead) for sight in seen.sights if asked.fits(sight.item)]
        return places[0] if len(places) == 1 else None

    wish = Wish(asked, (item,), where=lambda right, ahead: way(right, ahead) == answer)
    return Task(Question(f"Which way is the {asked.words()}?", answer, _WAYS[view]), wish, read)


def door(rng: np.random.Generator, level: Level, view: View) -> Task:
    """Whether the only door of a colour in sight is open, closed or locked."""
    asked = _describe(rng, level, ("door",))
    answer = pick(rng, STATES)

    def read(seen: Look) -> str | None:
        doors = _seen(seen, asked)
        return doors[0].state if len(doors) == 1 else None

    wish = Wish(asked, (Item("door", asked.color or "", answer),))
    return Task(Question(f"Is the {asked.words()} open, closed or locked?", answer, STATES), wish, read)


QUESTIONS: dict[str, Draw] = {
    "ahead": ahead, "existence": existence, "count": count, "colour": colour, "carried": carried,
    "direction": direction, "door": door,
}  # fmt: skip
"""How a question of each kind is drawn."""


class MiniGridQuestions(PictureQuestion):
    """One question about one picture of a MiniGrid room.

    The sample's ``meta`` has ``kind``, ``difficulty``, ``question`` and ``answers`` (every answer that the question may
    have).

    Args:
        difficulty: 1 (a room of 7 x 7 cells with a few objects), 2 (8 x 8, six colours, counting, directions) or
            3 (9 x 9, a dividing wall, many objects, states of doors).
        kinds: which questions are asked, out of ``ahead``, ``existence``, ``count``, ``colour``, ``carried``,
            ``direction``, ``door``; by default those of the difficulty.
        view: ``"partial"`` is the agent's own view of 7 x 7 cells, where only what it sees counts; ``"full"`` the
            whole room.
        tile_size: width of a cell in pixels, 4 to 64.
        prompt: the wording; ``{question}`` stands for the question.
        system: an optional system message.

    Attributes:
        simulator: the MiniGrid environment in the state that is shown.
    """

    def __init__(
        self,
        *,
        difficulty: int = 1,
        kinds: Sequence[str] | None = None,
        view: View = "partial",
        tile_size: int = 8,
        prompt: str = "{question}",
        system: str | None = None,
    ) -> None:
        self._level = check_difficulty(_NAME, difficulty, LEVELS)
        super().__init__(
            _NAME, difficulty=difficulty, kinds=kinds, usual=self._level.kinds, known=tuple(QUESTIONS), prompt=prompt,
            system=system,
        )  # fmt: skip
        if view not in VIEWS:
            raise BadInput(f"{_NAME}'s view is one of {', '.join(VIEWS)}, not {view!r}")
        check_tile_size(_NAME, tile_size)
        self._view: View = view
        self._tile_size = tile_size
        self.simulator = Room(self._level.size)

    def ask(self, kind: str) -> Asked:
        """Draw a question, and then rooms until its answer is right in one."""
        rng, room = self.np_random, self.simulator
        task = QUESTIONS[kind](rng, self._level, self._view)
        while not furnish(rng, room, self._level, self._view, task.wish) or (
            task.read(look(room, self._view)) != task.question.answer
        ):
            pass
        seen = np.asarray(room.gen_obs()["image"], dtype=np.uint8)
        return Asked(task.question, Image(FRAMES[self._view](room, seen, self._tile_size)))
