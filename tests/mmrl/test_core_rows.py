"""Turns keep the images of their prompts, each stored once and named by what it shows."""

import numpy as np

from mmrl import Image, Message, Sample, Text
from mmrl.rows import from_row, to_row
from mmrl.trajectory import Trajectory, Turn

ONE, TWO, THREE = (Image(np.full((2, 3, 3), shade, np.uint8)) for shade in (10, 20, 30))


def trajectory() -> Trajectory:
    turns = (
        Turn((ONE,), "left", (7, 7, 1), (4, 2), (-1.0, -0.5), images=(ONE,)),
        Turn((TWO,), "right", (7, 7, 1, 4, 2, 7), (5, 2), (-1.0, -0.5), images=(ONE, TWO)),
        Turn((THREE,), "go", (7, 7, 9), (6, 2), (-1.0, -0.5), images=(TWO, THREE)),  # a window: a fresh prompt
        Turn((Text("?"),), "go", (9,), (6, 2), (-1.0, -0.5)),
    )
    return Trajectory("t", "env", 3, "g", Sample("s", (Message("user", (ONE,)),)), turns, True, False, (TWO,))


def test_a_trajectory_comes_back_with_the_images_of_every_prompt() -> None:
    stored: dict[str, Image] = {}

    def save(image: Image) -> str:
        stored[image.sha256] = image
        return image.sha256

    row = to_row(1, trajectory(), 0.5, save)
    assert from_row(row, stored.__getitem__) == trajectory()
    assert len(stored) == 3


def test_a_longer_prompt_names_only_its_new_images() -> None:
    turns = to_row(1, trajectory(), None, lambda image: image.sha256)["turns"]
    assert [(t["prefix_images"], len(t["images"])) for t in turns] == [(0, 1), (1, 1), (0, 2), (0, 0)]


def test_rows_from_before_turns_had_images_are_read() -> None:
    row = to_row(1, trajectory(), None, lambda image: image.sha256)
    for turn in row["turns"]:
        del turn["images"], turn["prefix_images"]
    assert all(t.images == () for t in from_row(row, lambda name: ONE).turns)
