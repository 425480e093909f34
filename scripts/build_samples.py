"""Make the sample set ``shapes60``: sixty pictures with a question each, as a user's own data would lie in a folder.

Scenes of ``vqa/shapes`` with seeds of their own, 112x112 pixels, become ``images/*.png`` and ``questions.jsonl``.

    python scripts/build_samples.py         # writes assets/mmrl_assets/samples/shapes60
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmrl.make import make
from mmrl.sample import Sample

FIRST_SEED, COUNT = 7_000_000, 60
"""Seeds that nothing else uses."""
CARD = """# shapes60

Sixty pictures of coloured shapes (112x112 pixels, PNG) with one question and answer each, in `questions.jsonl`:
`image`, `question`, `answer`, `kind`.  Made by `python scripts/build_samples.py` from the environment `vqa/shapes`
(difficulty 1, seeds {first:,} to {last:,}).  The set stands in for a user's own pictures in the tutorial; it is far too
small to learn from in earnest.
"""


def main() -> None:
    """Draw, paint, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("assets/mmrl_assets/samples/shapes60"))
    out: Path = parser.parse_args().out
    (out / "images").mkdir(parents=True, exist_ok=True)
    env, lines = make("vqa/shapes"), list[str]()
    for i in range(COUNT):
        sample: Sample = env.reset(seed=FIRST_SEED + i)[1]["sample"]
        (image,) = sample.messages[-1].images
        name = f"images/{i + 1:03d}.png"
        image.to_pil().save(out / name, optimize=True)
        row = {"image": name, "question": sample.query, "answer": sample.reference, "kind": sample.meta["kind"]}
        lines.append(json.dumps(row))
    (out / "questions.jsonl").write_text("\n".join(lines) + "\n")
    (out / "README.md").write_text(CARD.format(first=FIRST_SEED, last=FIRST_SEED + COUNT - 1))


if __name__ == "__main__":
    main()
