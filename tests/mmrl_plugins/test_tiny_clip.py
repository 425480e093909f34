"""The shipped weights of ``mmrl/tiny-clip``, on pictures that nothing was learned from."""

from functools import cache
from importlib import resources

import numpy as np
import pytest

import mmrl
from mmrl_plugins.clip_similarity import ClipSimilarity

PICTURES = 500
FOLDER = resources.files("mmrl_assets").joinpath("tiny-clip")


@cache
def held_out(env_id: str, difficulty: int) -> tuple[mmrl.Sample, ...]:
    """Seeds from 0 up; the weights were made with seeds from 20,000,000 up."""
    env = mmrl.make(env_id, difficulty=difficulty)
    return tuple(env.reset(seed=seed)[1]["sample"] for seed in range(PICTURES))


def rollout(sample: mmrl.Sample, answer: str) -> mmrl.Trajectory:
    return mmrl.Trajectory("t", "vqa", 0, "g", sample, (mmrl.Turn((), answer),), True, False)


@pytest.mark.parametrize("difficulty", [1, 2, 3])
def test_the_right_caption_comes_first_of_eight(difficulty: int) -> None:
    samples, rng = held_out("vqa/shapes", difficulty), np.random.default_rng(0)
    captions = [s.meta["caption"] for s in samples]
    episodes: list[mmrl.Trajectory] = []
    for sample, caption in zip(samples, captions, strict=True):
        others = sorted(set(captions) - {caption})
        choices = [caption, *(others[int(i)] for i in rng.permutation(len(others))[:7])]
        episodes += [rollout(sample, choice) for choice in choices]
    values = np.array([s.value for s in ClipSimilarity(device="cpu").score(episodes)]).reshape(PICTURES, 8)
    assert (values[:, 0] > values[:, 1:].max(axis=1)).mean() >= 0.95


@pytest.mark.parametrize(("env_id", "difficulty", "least"), [
    ("vqa/shapes", 1, 0.9), ("vqa/shapes", 2, 0.7), ("vqa/shapes", 3, 0.5), ("vqa/minigrid", 1, 0.6),
])  # fmt: skip
def test_the_right_answer_comes_first_of_all_that_a_question_may_have(env_id: str, difficulty: int,
                                                                       least: float) -> None:
    samples = held_out(env_id, difficulty)
    plugin = ClipSimilarity(text="{query} {response}", device="cpu")
    values = iter(plugin.score([rollout(s, answer) for s in samples for answer in s.meta["answers"]]))
    first = 0
    for sample in samples:
        by_answer = {answer: next(values).value for answer in sample.meta["answers"]}
        right = by_answer.pop(sample.reference)
        first += right > max(by_answer.values())
    assert first / PICTURES >= least


def test_any_text_and_any_picture_has_a_value() -> None:
    image = mmrl.Image(np.random.default_rng(0).integers(0, 256, (30, 200, 3), dtype=np.uint8))
    sample = mmrl.Sample.ask((image, mmrl.Text("?")))
    said = ["答案是四。", "🙂", "\ud800", "\x00", "word " * 1000, "x" * 50_000]
    assert all(score.valid for score in ClipSimilarity(device="cpu").score([rollout(sample, text) for text in said]))


def test_it_is_small_and_no_policy() -> None:
    sizes = {file.name: len(file.read_bytes()) for file in FOLDER.iterdir()}
    assert {"open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json", "README.md"} <= set(sizes)
    assert sum(sizes.values()) <= 6_000_000
    assert "config.json" not in sizes  # folders with one are taken for language models
