"""BALROG's five BabyAI tasks: the table of an evaluation, and how it compares with the committed one.

Comes in: what ``mmrl eval --records`` wrote for the five tasks.  Goes out: success by task and over all, which episodes
ended otherwise than in the committed record; exit code 1 below 95% over all or below 90% on putnext.

    python scripts/balrog_figure.py RECORDS                 # against docs/data/balrog.jsonl
    python scripts/balrog_figure.py RECORDS --commit        # makes RECORDS the committed record
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmrl.episode_record import EpisodeRecord, read_records, to_lines
from mmrl.evaluate import wilson
from mmrl_envs import balrog

COMMITTED = Path(__file__).resolve().parents[1] / "docs" / "data" / "balrog.jsonl"
TASKS = tuple(f"babyai/balrog-{name}" for name in balrog.TASKS)
SEEDS = range(500)
"""The held-out seeds of each task."""
OVERALL, PUTNEXT = 0.95, 0.90


def share(records: Sequence[EpisodeRecord]) -> float:
    """Success of ``records``, in [0, 1]."""
    return sum(r.success for r in records) / len(records)


def missing(records: Sequence[EpisodeRecord]) -> list[str]:
    """The episodes that the figure is of and ``records`` has not exactly once, in words."""
    counts = Counter((r.env, r.seed) for r in records)
    wanted = {(task, seed) for task in TASKS for seed in SEEDS}
    wrong = sorted((wanted - set(counts)) | {key for key, n in counts.items() if n != 1 or key not in wanted})
    return [f"{env} seed {seed}: {counts[env, seed]} times" for env, seed in wrong]


def table(records: Sequence[EpisodeRecord]) -> list[str]:
    """Success by task, and over all episodes, with 95% intervals."""
    parts = {task: [r for r in records if r.env == task] for task in TASKS} | {"all": list(records)}
    lines = ["| task | success | 95% interval | mean turns | episodes |", "|---|---|---|---|---|"]
    for name, part in parts.items():
        low, high = wilson(sum(r.success for r in part), len(part))
        turns = sum(r.turns for r in part) / len(part)
        task = name.removeprefix("babyai/balrog-")
        lines.append(f"| {task} | {share(part):.1%} | {low:.1%} - {high:.1%} | {turns:.1f} | {len(part)} |")
    return lines


def different(ours: Sequence[EpisodeRecord], committed: Sequence[EpisodeRecord]) -> list[str]:
    """The episodes that ended otherwise, in words."""
    before = {(r.env, r.seed): r for r in committed}
    return [f"{r.env} seed {r.seed}: success {r.success} in {r.turns} turns, committed {was.success} in {was.turns}"
            for r in ours if (was := before.get((r.env, r.seed))) is not None and r != was]  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    """Print the table and the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path)
    parser.add_argument("--commit", action="store_true", help=f"write them to docs/data/{COMMITTED.name}")
    args = parser.parse_args(words)
    records = read_records(args.records)
    if wrong := missing(records):
        print(f"not the {len(TASKS)} x {len(SEEDS)} episodes of the figure; first: {wrong[0]}", file=sys.stderr)
        return 1
    print("\n".join(table(records)))
    if args.commit:
        COMMITTED.parent.mkdir(exist_ok=True)
        COMMITTED.write_bytes(to_lines(records))
    elif COMMITTED.is_file():
        changed = different(records, read_records(COMMITTED))
        said = f"{len(changed)} of {len(records)} episodes went otherwise than in docs/data/{COMMITTED.name}"
        print(said, *changed[:5], sep="\n  ")
    putnext = share([r for r in records if r.env.endswith("putnext")])
    parts = (("over all", share(records), OVERALL), ("on putnext", putnext, PUTNEXT))
    below = [f"{got:.1%} {name}, which is to be at least {bound:.0%}" for name, got, bound in parts if got < bound]
    sys.stderr.writelines(f"{line}\n" for line in below)
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main())
