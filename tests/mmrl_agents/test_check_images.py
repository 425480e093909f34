"""Images that a model cannot take are found before its weights are loaded."""

from pathlib import Path
from typing import Any

import pytest
from learner_tools import run_config
from tiny_vlm import save_tiny_vlm

from mmrl import BadInput
from mmrl_agents.train import Grpo

ALBUM = """
import numpy as np
import mmrl

class Album(mmrl.SingleTurnEnv):
    def __init__(self, images: int = 2) -> None:
        super().__init__()
        self.images = images

    def draw(self):
        shades = self.np_random.integers(0, 256, (self.images, 32, 32, 3), dtype=np.uint8)
        return mmrl.Sample.ask((*map(mmrl.Image, shades), mmrl.Text("Which?")), "one", id="album", row=7)
"""


def config(tmp_path: Path, model: str | Path, images: int = 2, **sections: Any) -> Any:
    (tmp_path / "album.py").write_text(ALBUM)
    environments = [{"id": f"{tmp_path / 'album.py'}:Album", "kwargs": {"images": images}}]
    return run_config(tmp_path, environments=environments, model_id=str(model), **sections)


def test_a_model_of_text_alone_is_refused_by_name(tmp_path: Path) -> None:
    loaded = config(tmp_path, "mmrl/tiny")
    with pytest.raises(BadInput, match=r"run.yaml:\d+: environment '.*Album' shows images, but model 'mmrl/tiny' reads "
                                       "text only; take a vision-language model"):  # fmt: skip
        Grpo().check(loaded)


def test_more_images_than_the_context_holds_say_what_each_costs(tmp_path: Path) -> None:
    model = save_tiny_vlm("llava", tmp_path / "vlm")
    Grpo().check(config(tmp_path, model))
    rollout = {"rollout": {"max_context": 60, "max_new_tokens": 6}}
    with pytest.raises(BadInput, match=r"sample 'album' \(row 7\) takes 89 tokens, of which 5 images take 16 each; "
                                       "'.*vlm' has room for 54 beside an answer of 6; raise rollout.max_context, or "
                                       "show smaller"):  # fmt: skip
        Grpo().check(config(tmp_path, model, images=5, **rollout))


def test_the_weights_are_not_needed_for_that(tmp_path: Path) -> None:
    model = save_tiny_vlm("llava", tmp_path / "vlm")
    (model / "model.safetensors").unlink()
    Grpo().check(config(tmp_path, model))


def test_environments_of_the_evaluation_are_looked_at_too(tmp_path: Path) -> None:
    pictured = [{"id": f"{tmp_path / 'album.py'}:Album"}]
    (tmp_path / "album.py").write_text(ALBUM)
    loaded = run_config(tmp_path, model_id="mmrl/tiny", eval={"environments": pictured})
    with pytest.raises(BadInput, match="Album' shows images, but model 'mmrl/tiny' reads text only"):
        Grpo().check(loaded)


def test_an_environment_that_draws_no_sample_is_told_what_to_draw(tmp_path: Path) -> None:
    (tmp_path / "pair.py").write_text(
        "import mmrl\nclass Pair(mmrl.SingleTurnEnv):\n    def draw(self):\n        return 'What?', '4'\n"
    )
    loaded = run_config(tmp_path, model_id="mmrl/tiny", environments=[f"{tmp_path / 'pair.py'}:Pair"])
    with pytest.raises(BadInput, match=r"Pair' fails in its first episodes: TypeError: draw\(\) returned") as error:
        Grpo().check(loaded)
    assert "return a sample: mmrl.Sample.ask(question, reference)" in str(error.value)
