"""Training steps of two sides, compared: the update alone and the whole step."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from results import append


@dataclass(frozen=True)
class Step:
    """Seconds of a step, and of the update in it: losses, backward passes, clipping, optimiser."""

    whole: float
    update: float


def compare(name: str, ours: Sequence[Step], theirs: Sequence[Step], keep: bool) -> dict[str, float]:
    """Print how many times as fast ours is, by the median over pairs of steps, and keep it in the table if asked.

    Returns:
        The ratios of ``update`` and ``whole``.
    """
    ratios: dict[str, float] = {}
    for what, title in (("update", "update"), ("whole", "step")):
        mine, peer = ([getattr(s, what) for s in steps] for steps in (ours, theirs))
        ratios[what] = statistics.median(p / o for p, o in zip(peer, mine, strict=True))
        report(f"GRPO {title}, {name}", f"{statistics.median(mine):.2f} s", f"{statistics.median(peer):.2f} s",
               ratios[what], keep)  # fmt: skip
    return ratios


def report(what: str, ours: str, peer: str, ratio: float, keep: bool, than: str | None = None) -> None:
    """Print a row against TRL (or another peer) and, if asked, append it to the table."""
    what = f"{what}, vs {than or 'TRL ' + version('trl')}"
    print(f"{what}: ours {ours}, theirs {peer}, {ratio:.2f} times as good", flush=True)
    if keep:
        append(what, ours, peer, ratio)


def arguments(doc: str | None, repeats: int, sides: Sequence[str] = ("ours", "trl")) -> argparse.ArgumentParser:
    """The arguments that every comparison takes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--dry-run", action="store_true", help="measure and print, append nothing to RESULTS.md")
    parser.add_argument("--memory", choices=list(sides), help="run this side alone, for its peak memory")
    return parser
