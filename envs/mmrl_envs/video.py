"""Questions about a short walk through two MiniGrid rooms, made on the spot.

Comes in: a difficulty and a number of frames.  Goes out: a video and a question a seed, graded as VQA is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmrl.env import Env, EnvFamily
from mmrl.errors import BadInput
from mmrl.sample import Image, Video
from mmrl_envs.babyai import ACTIONS
from mmrl_envs.grid_frames import VIEWS, View, check_tile_size
from mmrl_envs.grid_room import Room
from mmrl_envs.grid_walk import Walk
from mmrl_envs.picture_question import Asked, PictureQuestion, check_difficulty
from mmrl_envs.video_questions import FEWEST_ACTIONS, LEVELS, QUESTIONS, set_stage

_NAME = "video"
_FPS = 4.0
_MOST_FRAMES = 64


class VideoTask(PictureQuestion):
    """One question about one video of an agent that walks, picks things up and opens doors.

    A frame shows the room before the first action and after each.  The sample's ``meta`` has ``kind``, ``difficulty``,
    ``question``, ``answers`` (every answer that the question may have) and ``actions`` (what the agent does, by name).

    Args:
        difficulty: 1 (7 x 7 cells, few objects, four colours), 2 (8 x 8, six colours, a second door) or 3 (9 x 9, many
            objects, things that are put down again).
        kinds: which questions are asked, out of ``picked``, ``turns``, ``door``, ``opened``; by default those of the
            difficulty.
        frames: frames of a video, 6 to 64.
        view: ``"full"`` shows the rooms, ``"partial"`` what the agent sees; there, every turn can be told from the
            opposite one.
        tile_size: width of a cell in pixels, 4 to 64.
        prompt: the wording; ``{question}`` stands for the question.
        system: an optional system message.

    Attributes:
        simulator: the MiniGrid environment in the state after the last action.
    """

    def __init__(
        self,
        *,
        difficulty: int = 1,
        kinds: Sequence[str] | None = None,
        frames: int = 8,
        view: View = "full",
        tile_size: int = 8,
        prompt: str = "{question}",
        system: str | None = None,
    ) -> None:
        self._level = check_difficulty(_NAME, difficulty, LEVELS)
        super().__init__(
            _NAME, difficulty=difficulty, kinds=kinds, usual=self._level.kinds, known=tuple(QUESTIONS), prompt=prompt,
            system=system,
        )  # fmt: skip
        if not FEWEST_ACTIONS < frames <= _MOST_FRAMES:
            raise BadInput(f"{_NAME}'s frames is {FEWEST_ACTIONS + 1} to {_MOST_FRAMES}, not {frames}")
        if view not in VIEWS:
            raise BadInput(f"{_NAME}'s view is one of {', '.join(VIEWS)}, not {view!r}")
        check_tile_size(_NAME, tile_size)
        self._length = frames - 1
        self._view: View = view
        self._tile_size = tile_size
        self.simulator = Room(self._level.size)

    def ask(self, kind: str) -> Asked:
        """Draw a question, and then walks until its answer is right in one."""
        rng, room = self.np_random, self.simulator
        story = QUESTIONS[kind](rng, self._level)
        while True:
            stage = set_stage(rng, room, self._level, story)
            walk = Walk(room, self._view, self._tile_size)
            if story.tell(rng, stage, walk, self._length) and (walk.clear or self._view == "full"):
                break
        video = Video([Image(frame) for frame in walk.frames], _FPS)
        return Asked(story.question, video, {"actions": [ACTIONS[action] for action in walk.actions]})


def _make(env_id: str, **kwargs: Any) -> Env:
    return VideoTask(**kwargs)


FAMILY = EnvFamily(ids=lambda: (_NAME,), make=_make, takes=lambda _: VideoTask)
