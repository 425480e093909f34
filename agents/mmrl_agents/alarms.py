"""Early signs that a run goes wrong, in words.

Comes in: the metrics of the steps so far.  Goes out: a line when a sign appears; none while it stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from mmrl_agents.mismatch import LIMIT, likeliest

Step = Mapping[str, float]
MISMATCH = ("mismatch/kl", "mismatch/spread", "mismatch/slope", "mismatch/fit")
KEYS = ("step", "reward", "reward_spread", "grad_norm", "answer_length", *MISMATCH)
"""The metrics that the signs are read from."""
RECENT = 5
"""Steps that count as now: one step's batch is too small to tell a sign from noise."""
BEFORE = 20
"""Steps that now is compared with: those just before, since rewards and gradients drift over a long healthy run."""
ENOUGH = 10
"""Steps that there must be to compare with, and that count as the beginning of a run."""
CLOSER, APART = 0.5, 0.75
"""A spread at half of what it was is a fall; at three quarters of it the fall is over."""
JUMP, CALM = 3.0, 1.5
"""Gradient norms double from step to step in healthy runs; three times the usual is a spike, half of that is none."""
LONGER, SHORTER = 2.0, 1.5
"""Answers of twice the length they began with are long; at one and a half they are long no more."""
TOKENS = 8.0
"""Fewer tokens more are no running away, however short the answers were."""
GROWS = 1.1
"""A tenth longer than just before: the answers are growing still."""
LAST = 3
"""Steps whose median says how far sampler and learner are apart: one rare token may fill the mean of a step."""


@dataclass(frozen=True)
class Reading:
    """What a sign says of a history.

    Attributes:
        on: whether it shows.
        over: whether it is gone for sure; in between it stays as it was.
        words: what it says when it appears.
    """

    on: bool = False
    over: bool = False
    words: str = ""


def collapse(history: Sequence[Step]) -> Reading:
    """The rewards of a group come closer together, at no gain, while the gradient spikes.

    Where everything succeeds, rewards come closer too, and their small rest makes large gradients where advantages are
    scaled: there the reward has risen.
    """
    spread, norm = _series(history, "reward_spread"), _series(history, "grad_norm")
    reward = _series(history, "reward")
    if min(len(spread), len(norm), len(reward)) < ENOUGH + RECENT:
        return Reading()
    wide, usual = median(_before(spread)), median(_before(norm))
    now, peak = fmean(spread[-RECENT:]), max(norm[-RECENT:])
    gained, worth = fmean(reward[-RECENT:]), fmean(_before(reward))
    return Reading(
        on=wide > 0 and now <= CLOSER * wide and peak >= JUMP * usual and gained <= worth,
        over=now >= APART * wide or peak <= CALM * usual,
        words=f"the rewards within a group have come closer (spread {now:.3g}, before {wide:.3g}) at no gain (reward "
        f"{gained:.3g}, before {worth:.3g}) while the gradient jumped (norm {peak:.3g}, before {usual:.3g}): the "
        "policy may be collapsing; consider a lower training_args.learning_rate, or training_args.kl_coef",
    )


def runaway(history: Sequence[Step]) -> Reading:
    """Answers are much longer than at first and still growing, and the reward gains nothing by it."""
    length, reward = _series(history, "answer_length"), _series(history, "reward")
    if min(len(length), len(reward)) < ENOUGH + RECENT:
        return Reading()
    first, now = fmean(length[:ENOUGH]), fmean(length[-RECENT:])
    gained, worth = fmean(reward[-RECENT:]), fmean(_before(reward))
    long = now >= LONGER * first and now - first >= TOKENS
    return Reading(
        on=long and now >= GROWS * fmean(_before(length)) and gained <= worth,
        over=now <= SHORTER * first,
        words=f"answers run away in length ({now:.0f} tokens, {first:.0f} at first) and the reward does not follow "
        f"({gained:.3g}, before {worth:.3g}): consider the plugin 'length', or fewer rollout.max_new_tokens",
    )


def unlike(history: Sequence[Step]) -> Reading:
    """Sampler and learner give the same tokens other log-probabilities, though their weights should be the same."""
    apart = _series(history, "mismatch/kl")
    if not apart:
        return Reading()
    now, first = median(apart[-LAST:]), median(apart[:LAST])
    newest = next(step for step in reversed(history) if all(key in step for key in MISMATCH))
    return Reading(
        on=now > LIMIT,
        over=now <= LIMIT / 2,
        words=f"sampler and learner disagree on the same tokens (mismatch/kl {now:.2g} nats a token, at most "
        f"{LIMIT:g} is well); {likeliest(newest, first)}",
    )


SIGNS: dict[str, Callable[[Sequence[Step]], Reading]] = {
    "collapse": collapse, "runaway": runaway, "unlike": unlike,
}  # fmt: skip


def appearing(history: Sequence[Step], showing: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """The words of the signs that appear with the last step, and the names of those that show after it.

    Args:
        history: the metrics of every step so far, oldest first.
        showing: names of the signs that showed after the step before.
    """
    readings = {name: sign(history) for name, sign in SIGNS.items()}
    new = [name for name, reading in readings.items() if reading.on and name not in showing]
    stay = {name for name in showing if not readings[name].over}
    return [f"step {history[-1]['step']:.0f}: {readings[name].words}" for name in new], frozenset(new) | stay


class Alarms:
    """Keeps what the signs are read from."""

    def __init__(self) -> None:
        self._history: list[Step] = []
        self._showing: frozenset[str] = frozenset()

    def note(self, metrics: Mapping[str, Any]) -> list[str]:
        """Take the metrics of one more step, as logged or as read back; returns what is to be said."""
        self._history.append({k: float(metrics[k]) for k in KEYS if metrics.get(k) is not None})
        said, self._showing = appearing(self._history, self._showing)
        return said


def _series(history: Sequence[Step], key: str) -> list[float]:
    """The finite values of a metric; a step without an update has no gradient."""
    return [step[key] for step in history if math.isfinite(step.get(key, math.nan))]


def _before(values: Sequence[float]) -> Sequence[float]:
    return values[-BEFORE - RECENT : -RECENT]
