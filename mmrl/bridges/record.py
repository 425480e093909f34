"""What a suite's records come to: how many there are of which kind, and in words why a reward is missing."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from mmrl.score import RewardRecord


class NoReward(RuntimeError):
    """A completion has no reward, and the trainer would take anything else for one."""


def why(record: RewardRecord) -> str:
    """Why a record that is not valid has no value, in one line."""
    failed = [f"{n} failed: {s.info.get('error', '')}" for n, s in record.scores.items() if s.status == "failed"]
    if failed:
        return "; ".join(failed)
    silent = [f"{n}: {s.info.get('reason', 'not applicable')}" for n, s in record.scores.items()]
    return f"no plugin applies ({'; '.join(silent)})"


def value_of(record: RewardRecord, what: str) -> float:
    """The reward.

    Raises:
        NoReward: if there is none; it says why, and ``what`` names the completion.
    """
    if not record.valid:
        raise NoReward(f"{what} has no reward: {why(record)}")
    return record.value


def numbers(records: Sequence[RewardRecord]) -> dict[str, float]:
    """``reward/<plugin>`` (mean where valid), ``failed/<plugin>`` and ``invalid`` (counts), as in ``metrics.jsonl``."""
    out = {"invalid": float(sum(not r.valid for r in records))}
    for name in dict.fromkeys(n for r in records for n in r.scores):
        scores = [r.scores[name] for r in records]
        values = [s.value for s in scores if s.valid]
        if values:
            out[f"reward/{name}"] = fmean(values)
        out[f"failed/{name}"] = float(sum(s.status == "failed" for s in scores))
    return out
