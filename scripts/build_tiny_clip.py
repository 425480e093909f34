"""Make ``mmrl/tiny-clip``: a CLIP model of about a million parameters that knows the scenes of ``vqa/*``.

Two things are learned at once: which caption goes with which picture of a batch (open_clip's ``ClipLoss``), and which
answer to a question about the picture is right among all that it may have (cross-entropy over "question answer").  The
first is easy; the second is what makes the model a reward.

    python scripts/build_tiny_clip.py            # writes assets/mmrl_assets/tiny-clip, in 12 minutes on two cores
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from clip_checks import FIRST_SEED as CARD_SEED
from clip_checks import Figures, check
from clip_pairs import NAMES, SOURCES, TEMPLATE, draw, examples
from clip_student import ANSWERS_WEIGHT, LENGTHS, Student, make_tokenizer, save, write_config

FIRST_SEED = 20_000_000
"""Far from the training seeds of policies (1,000,000 and up) and the held-out ones (0 and up)."""
WORDS_SEED, CHECK_SEED = 40_000_000, 30_000_000
BATCH = (80, 64, 32, 24, 24)
"""Examples of each of ``SOURCES`` in a step."""


def train(folder: Path, steps: int, every: int) -> Any:
    """Write configuration and tokenizer, then train a model."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(2)
    told = [e for s in range(len(SOURCES)) for e in examples(s, range(WORDS_SEED, WORDS_SEED + 2000))]
    tokenizer = make_tokenizer([text for e in told for text in (e.truth, e.caption or e.truth)])
    write_config(folder, tokenizer)
    student = Student(folder, steps, sorted({answer for e in told for answer in e.answers}))
    print(f"{sum(p.numel() for p in student.model.parameters()):,} parameters, vocabulary {len(tokenizer)}", flush=True)
    rng, began = np.random.default_rng(0), time.monotonic()
    for step in range(steps):
        captions, answers = student.learn(step, draw(rng, BATCH, FIRST_SEED, step), rng)
        if (step + 1) % every == 0:
            print(f"step {step + 1}  captions {captions:.3f}  answers {answers:.3f}  "
                  f"{time.monotonic() - began:.0f} s", flush=True)  # fmt: skip
            report(measure(student.model, folder, CHECK_SEED, 200))
    return student.model


def measure(model: Any, folder: Path, first_seed: int, count: int) -> list[Figures]:
    """Write the weights, and measure them as somebody who loads them finds them."""
    save(model, folder)
    with tempfile.TemporaryDirectory() as place:  # the plugin loads a folder once in a process
        return check(f"local-dir:{shutil.copytree(folder, Path(place, 'model'))}", first_seed, count)


def report(figures: Sequence[Figures]) -> None:
    """Print the figures, a line a source."""
    for name, each in zip(NAMES, figures, strict=True):
        print(f"    {name:15} {each}", flush=True)


def card(size: int, steps: int, figures: Sequence[Figures]) -> str:
    """The model card."""
    rows = "\n".join(f"| {name} | {f.caption_cell} | {f.answers:.1%} | {f.auc:.3f} | {f.calibrated:.3f} |"
                     for name, f in zip(NAMES, figures, strict=True))  # fmt: skip
    return f"""---
license: apache-2.0
library_name: open_clip
---

# mmrl/tiny-clip

A CLIP model of {size:,} parameters with a byte-level BPE tokenizer of its own: pictures of 56 x 56 pixels in
patches of 8, texts of up to {LENGTHS[-1]} tokens, in float32.  It makes the reward plugin `clip_similarity` work
offline, and within milliseconds, on the scenes of `vqa/shapes` and `vqa/minigrid`.  open_clip reads it as
`local-dir:<this folder>`.

**How it was made.** `python scripts/build_tiny_clip.py`: {steps} steps of {sum(BATCH)} pictures, all different, seeds
from {FIRST_SEED:,} up; AdamW, seed 0.  Two losses are added up: open_clip's `ClipLoss` over pictures and their
captions, and {ANSWERS_WEIGHT:g} times the cross-entropy of the right answer among all that a question may have, each
said as `{TEMPLATE}`.

**Figures**, by the plugin itself, on 500 pictures of each difficulty that nothing was learned from or chosen by (seeds
from {CARD_SEED:,} up; `python scripts/clip_checks.py` measures them again).  AUC is the probability that a right
answer scores above a wrong one, all questions mixed; with every answer as a negative it is a matter of how an answer
compares with the others to its own question.

| pictures, difficulty | right caption first of 8 | right answer first of all | AUC | AUC with negatives |
|---|---|---|---|---|
{rows}

**What it is not for.** Photographs, or any words but those of these environments: it embeds every picture and every
text, and what it says of others means nothing.  It judges the wording that it was trained on; another order of question
and answer, or an answer by itself, is judged worse.
"""


def main() -> None:
    """Train, measure on pictures that nothing was learned from, and write the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("assets/mmrl_assets/tiny-clip"))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--every", type=int, default=200, help="steps between two looks at the figures")
    options = parser.parse_args()
    model = train(options.out, options.steps, options.every)
    figures = measure(model, options.out, CARD_SEED, 500)
    report(figures)
    size = sum(p.numel() for p in model.parameters())
    (options.out / "README.md").write_text(card(size, options.steps, figures), encoding="utf-8")


if __name__ == "__main__":
    main()
