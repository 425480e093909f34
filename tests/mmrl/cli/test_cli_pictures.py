"""A person at a terminal gets pictures as files."""

from pathlib import Path

import numpy as np
from PIL import Image as pil
from typer.testing import CliRunner

from mmrl import Image, Text, Video
from mmrl.cli.main import app
from mmrl.cli.pictures import Pictures


def test_pictures_are_named_where_they_stand(tmp_path: Path) -> None:
    small = Image(np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3))
    large = Image(np.zeros((300, 240, 3), np.uint8))
    folder = tmp_path / "shown"
    said = Pictures(folder).in_words((Text("Look:"), small, Video([large, small])))
    assert said == f"Look:\n<image: {folder}/001.png>\n<video: {folder}/002.png to {folder}/003.png>"
    with pil.open(folder / "001.png") as enlarged, pil.open(folder / "002.png") as same:
        assert enlarged.size == (448, 224)
        assert np.array_equal(np.asarray(enlarged)[::112, ::112], small.pixels)
        assert same.size == (240, 300)


def test_words_alone_make_no_folder(tmp_path: Path) -> None:
    assert Pictures(tmp_path / "none").in_words((Text("a"), Text("b"))) == "a\nb"
    assert not (tmp_path / "none").exists()


def test_a_question_about_a_picture_is_played() -> None:
    result = CliRunner().invoke(app, ["play", "--env", "vqa/shapes", "--policy", "expert", "--seed", "3"])
    assert result.exit_code == 0, result.output
    path = result.output.split("<image: ")[1].partition(">")[0]
    with pil.open(path) as picture:
        assert picture.size == (224, 224)
    assert "success after 1 turns" in result.output
