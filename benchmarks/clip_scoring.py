"""Scoring 16 images x 8 responses by CLIP: the plugin in one call against one call a response.

The peer is what reward functions commonly do: for one response after the other preprocess its image, embed it, embed
the text, and multiply.  Ours is ``clip_similarity`` on the 128 rollouts at once, with an empty memory: each image and
each text is embedded once.  Cases: the embedded model and a ViT-B-32 with random weights (its size is what counts
here), each with 128 different sentences and with short answers, of which many are equal.  Peer and ours in turns, in
one process, and their values must agree.  Prints the median ratio and appends it to RESULTS.md.

    python benchmarks/clip_scoring.py [--repeats 3] [--models embedded ViT-B-32]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from results import append

import mmrl
from mmrl_plugins._clip_model import clip_model
from mmrl_plugins.clip_similarity import ClipSimilarity

TARGET, IMAGES, RESPONSES, SIZE = 4.0, 16, 8, 224
COLOURS, SHAPES = ("red", "green", "blue", "grey", "yellow"), ("circle", "square", "star", "cross")


def sentences(rng: np.random.Generator) -> list[str]:
    """As many different sentences as there are rollouts."""
    return [f"number {i}: a {COLOURS[i % 5]} {SHAPES[i % 4]} and {i} more" for i in range(IMAGES * RESPONSES)]


def answers(rng: np.random.Generator) -> list[str]:
    """Short answers, as a policy gives them to questions about shapes."""
    known = [*COLOURS, *SHAPES, "yes", "no", *map(str, range(7))]
    return [known[int(i)] for i in rng.integers(len(known), size=IMAGES * RESPONSES)]


CASES: dict[str, Callable[[np.random.Generator], list[str]]] = {"different texts": sentences, "short answers": answers}


def rollouts(said: Sequence[str]) -> list[mmrl.Trajectory]:
    """A group of rollouts for each image."""
    rng = np.random.default_rng(0)
    images = [mmrl.Image(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)) for _ in range(IMAGES)]
    made: list[mmrl.Trajectory] = []
    for i, text in enumerate(said):
        asked, turns = (images[i // RESPONSES], mmrl.Text("What is it?")), (mmrl.Turn((), text),)
        made.append(mmrl.Trajectory(f"{i}", "bench", i, "g", mmrl.Sample.ask(asked), turns, True, False))
    return made


def one_by_one(plugin: ClipSimilarity, episodes: Sequence[mmrl.Trajectory]) -> list[float]:
    """The peer: everything anew for each response."""
    model: Any = clip_model(plugin.source).model
    transform: Any = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    tokenize: Any = open_clip.get_tokenizer(plugin.source.model)
    values: list[float] = []
    for episode in episodes:
        image = transform(episode.sample.messages[-1].images[0].to_pil()).unsqueeze(0)
        text = tokenize([episode.response])
        with torch.no_grad():
            seen, said = model.encode_image(image, normalize=True), model.encode_text(text, normalize=True)
        values.append((float((seen @ said.T).item()) + 1.0) / 2.0)
    return values


def measure(name: str, plugin: ClipSimilarity, case: str, repeats: int) -> float:
    """The median of how many times as fast ours is."""
    episodes = rollouts(CASES[case](np.random.default_rng(1)))
    model = clip_model(plugin.source)
    pairs: list[tuple[float, float]] = []
    for _ in range(repeats):
        start = time.perf_counter()
        expected = one_by_one(plugin, episodes)
        peer = time.perf_counter() - start
        model.forget()
        start = time.perf_counter()
        scores = plugin.score(episodes)
        pairs.append((peer, time.perf_counter() - start))
        if max(abs(s.value - e) for s, e in zip(scores, expected, strict=True)) > 1e-5:
            raise SystemExit("the two ways do not give the same rewards")
    ratio = statistics.median(p / o for p, o in pairs)
    peer, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{name}, {case}: one by one {peer:.2f} s, in one batch {ours:.3f} s, {ratio:.1f} times as fast", flush=True)
    append(f"clip_similarity, {name}, {IMAGES} images x {RESPONSES} responses, {case}, vs one by one",
           f"{ours:.3f} s", f"{peer:.2f} s", ratio)
    return ratio


@contextmanager
def made(name: str) -> Generator[ClipSimilarity]:
    """The plugin on the embedded model, or on one of open_clip's architectures with random weights."""
    if name == "embedded":
        yield ClipSimilarity(device="cpu")
        return
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder, "random.pt"))
        torch.manual_seed(0)
        torch.save(open_clip.create_model(name).state_dict(), weights)
        plugin = ClipSimilarity(name, weights, device="cpu")
        plugin.load()
    yield plugin


def main() -> int:
    """Measure every case; exit code 1 if one is below the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["embedded", "ViT-B-32"])
    args = parser.parse_args()
    ratios: list[float] = []
    for name in args.models:
        with made(name) as plugin:
            ratios += [measure(name, plugin, case, args.repeats) for case in CASES]
    return 0 if min(ratios) >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
