"""Draw the README's picture from a run: its learning curve, and one episode of its best policy.

python scripts/readme_picture.py runs/babyai_goto docs/first_light.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

import mmrl
from mmrl.episode import EpisodeLimits, EpisodeSpec
from mmrl.rollout import Scheduler, run_sync

SEED = 7


def frames_of(policy: Any, seed: int) -> tuple[mmrl.Trajectory, list[Any]]:
    """An episode on a held-out seed, and the frame before each turn and after the last."""
    spec = EpisodeSpec("picture", "babyai/balrog-goto", seed, "picture", (0, seed))
    trajectory: mmrl.Trajectory = run_sync(Scheduler(EpisodeLimits()).run([spec], policy))[0]
    env = mmrl.make(spec.env_id)
    env.reset(seed=seed)
    frames = [env.render()]
    for turn in trajectory.turns:
        env.step(turn.response)
        frames.append(env.render())
    return trajectory, frames


def curve(axis: Any, run: Path) -> None:
    """Success by training step."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    axis.plot([r["step"] for r in rows], [r["success"] for r in rows], color="#7aa6c2", label="training episodes")
    held = [(r["step"], r["eval/success"]) for r in rows if "eval/success" in r]
    ends = {p.stem.partition("-")[0]: json.loads(p.read_text()) for p in (run / "eval").glob("*-babyai-*.json")}
    if "before" in ends:
        held.insert(0, (0, ends["before"]["success"]))
    axis.plot(*zip(*held, strict=True), "o-", color="#d1495b", label="held-out seeds, 64-step limit")
    if "after" in ends:
        best = max(held[1:] or held, key=lambda h: h[1])[0]
        axis.plot([best], [ends["after"]["success"]], "*", ms=11, color="#8a1c2c",
                  label="best checkpoint, 200 other seeds")  # fmt: skip
    axis.set(xlabel="GRPO step (64 episodes each)", ylabel="success", ylim=(0, 1.03), title="babyai/balrog-goto")
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right", fontsize=8)


def main() -> None:
    """Draw and save."""
    run, out = Path(sys.argv[1]), Path(sys.argv[2])
    trajectory, frames = frames_of(mmrl.load_policy(str(run / "best"), max_new_tokens=8), SEED)
    shown = frames[:5] if len(frames) <= 5 else [*frames[:4], frames[-1]]
    words = [t.response for t in trajectory.turns]
    if len(frames) > 5:  # some are left out behind the fourth
        words[3] += " ..."
    captions = [*(words[:4] if len(frames) > 5 else words[: len(shown) - 1]), "done" if trajectory.success else "end"]
    figure, axes = plt.subplots(1, 1 + len(shown), figsize=(4 + 1.7 * len(shown), 2.9),
                                gridspec_kw={"width_ratios": [2.4] + [1] * len(shown)})  # fmt: skip
    curve(axes[0], run)
    for axis, frame, caption in zip(axes[1:], shown, captions, strict=True):
        axis.imshow(frame)
        axis.set_axis_off()
        axis.set_title(caption, fontsize=9)
    figure.suptitle(f"one episode: {trajectory.sample.meta['mission']}", x=0.72, y=0.98, fontsize=10)
    figure.tight_layout()
    figure.savefig(out, dpi=110)
    print(out)


if __name__ == "__main__":
    main()
