"""Questions about scenes of coloured shapes, made on the spot.

Comes in: a difficulty.  Goes out: a picture and a question a seed, graded as VQA is.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmrl.errors import BadInput
from mmrl.sample import Image
from mmrl_envs.picture_question import Asked, PictureQuestion, check_difficulty
from mmrl_envs.shapes_questions import LEVELS, QUESTIONS
from mmrl_envs.shapes_scene import GRID, caption, paint

_NAME = "vqa/shapes"
_SMALLEST, _LARGEST = 56, 1792


class Shapes(PictureQuestion):
    """One question about circles, squares and the like.

    The sample's ``meta`` has ``kind``, ``difficulty``, ``question``, ``answers`` (every answer that a question of
    this kind may have) and ``caption`` (what is in the picture).

    Args:
        difficulty: 1 (few objects, three shapes, four colours), 2 (six colours, sizes, relations) or 3 (many objects,
            six shapes, comparisons); objects lie the further off a grid of 7 x 7 cells.
        kinds: which questions are asked, out of ``count``, ``colour``, ``shape``, ``size``, ``relation``,
            ``existence``, ``comparison``; by default those of the difficulty.
        image_size: width and height in pixels: a multiple of 7, 56 to 1792.
        prompt: the wording; ``{question}`` stands for the question.
        system: an optional system message.
    """

    def __init__(
        self,
        *,
        difficulty: int = 1,
        kinds: Sequence[str] | None = None,
        image_size: int = 112,
        prompt: str = "{question}",
        system: str | None = None,
    ) -> None:
        self._level = check_difficulty(_NAME, difficulty, LEVELS)
        super().__init__(
            _NAME, difficulty=difficulty, kinds=kinds, usual=self._level.kinds, known=tuple(QUESTIONS), prompt=prompt,
            system=system,
        )  # fmt: skip
        if image_size % GRID or not _SMALLEST <= image_size <= _LARGEST:
            raise BadInput(f"{_NAME}'s image_size is a multiple of 7 from {_SMALLEST} to {_LARGEST}, not {image_size}")
        self._image_size = image_size

    def ask(self, kind: str) -> Asked:
        """Draw a question and a scene in which its answer is right."""
        question, scene = QUESTIONS[kind](self.np_random, self._level)
        return Asked(question, Image(paint(scene, self._image_size)), {"caption": caption(scene)})
