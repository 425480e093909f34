"""Questions about images: your own files, or scenes that are made on the spot.

Comes in: an id of the family ``vqa``.  Goes out: its environment; what it needs is imported only then.
"""

from __future__ import annotations

import importlib
from typing import Any

from mmrl.env import Env, EnvFamily

TASKS: dict[str, str] = {
    "vqa": "mmrl_envs.vqa_dataset:VqaDataset",
    "vqa/shapes": "mmrl_envs.shapes:Shapes",
    "vqa/minigrid": "mmrl_envs.minigrid_questions:MiniGridQuestions",
}
"""Where each environment is defined."""


def _class(env_id: str) -> type[Env]:
    module, _, name = TASKS[env_id].partition(":")
    return getattr(importlib.import_module(module), name)


def _make(env_id: str, **kwargs: Any) -> Env:
    return _class(env_id)(**kwargs)


FAMILY = EnvFamily(ids=lambda: tuple(TASKS), make=_make, takes=_class)
