import importlib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script, which may import those beside it."""
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module


def test_auc_counts_pairs(scripts: Any) -> None:
    auc = scripts("clip_checks").auc
    assert auc(np.array([2.0, 1.0]), np.array([1.0, 0.0])) == 3.5 / 4
    assert auc(np.array([0.0]), np.array([1.0, 2.0])) == 0.0


def test_no_two_steps_share_a_seed(scripts: Any) -> None:
    pairs = scripts("clip_pairs")
    counts = (3, 2, 0, 1, 0)
    steps = [pairs.draw(np.random.default_rng(0), counts, 500, step) for step in range(3)]
    assert [len(step) for step in steps] == [6, 6, 6]
    of_first = {e.image.sha256 for e in pairs.examples(0, range(500, 509))}
    assert {e.image.sha256 for step in steps for e in step} >= of_first


def test_wrong_texts_are_wrong(scripts: Any) -> None:
    pairs = scripts("clip_pairs")
    for example in pairs.examples(0, range(40)):
        wrong = pairs.wrong_texts(np.random.default_rng(1), example, ["red", "7"])
        assert example.truth not in wrong
        assert len(wrong) >= len(example.answers)
        assert all(text.startswith(example.question) for text in wrong)


def test_texts_without_padding_are_embedded_as_open_clip_does(scripts: Any) -> None:
    import torch

    open_clip: Any = importlib.import_module("open_clip")
    name = f"local-dir:{resources.files('mmrl_assets').joinpath('tiny-clip')}"
    model = open_clip.create_model_from_pretrained(name, return_transform=False).eval()
    tokenize = open_clip.get_tokenizer(name)
    texts = ["How many red circles are there? 2", "red", "a large red circle, " * 20, "a small blue star and a cross"]
    with torch.no_grad():
        ours = scripts("clip_student").embed_texts(model, tokenize(texts), tokenize.tokenizer.eos_token_id)
        assert (ours - model.encode_text(tokenize(texts), normalize=True)).abs().max() <= 1e-5
