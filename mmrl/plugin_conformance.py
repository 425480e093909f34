"""The reward plugin conformance suite: what a plugin promises, as checks that can fail.

Comes in: a way to make a plugin, and what a user wants asked.  Goes out: one result a check, with a message that says
what was promised and what happened instead.  Used by the tests and by ``mmrl check plugin``.

A plugin whose ``cost`` is ``microseconds`` computes without a model, and its scores are compared exactly; others may
differ by rounding from call to call.
"""

from __future__ import annotations

import functools
import json
import math
import numbers
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mmrl.caller import Overdue
from mmrl.plugin import as_score, by_compute
from mmrl.plugin_compare import THREADS, at_once, compare, exact, none
from mmrl.plugin_config import DEFAULT_TIMEOUT_S
from mmrl.plugin_episodes import NOTHING, Own, ordinary
from mmrl.plugin_trial import LOADING, Make, Skipped, Trial, limited, returned
from mmrl.score import Score

ROUNDS = 5
MAX_INFO = 65_536
SLOW_S = 1.0


@dataclass(frozen=True)
class PluginCheck:
    """The outcome of one check; ``detail`` says what went wrong, why it was skipped, or what else is worth knowing."""

    name: str
    outcome: Literal["ok", "failed", "skipped"]
    detail: str = ""


def no_global_random(trial: Trial) -> str:
    """Making a plugin, and scoring, leave the global generators alone: random, numpy.random, torch."""
    # Not on_ordinary: packages draw from these as they are imported, which the first answers may do.
    touched = {name for p in (trial.afresh, trial.on_hard) for name in p.touched}
    assert not touched, f"the state of {' and '.join(sorted(touched))} changed: draw from a generator of your own"
    return ""


def one_score_each(trial: Trial) -> str:
    """One call gives a list with one score for each episode."""
    if by_compute(trial.plugin):
        return "compute answers one episode a call"
    episodes = list(ordinary(trial.own).values())
    for count in (1, 3, len(episodes)):
        try:
            scores = limited(functools.partial(returned, trial.plugin, episodes[:count]), LOADING * trial.limit_s)
        except Overdue as error:
            raise Skipped(f"{count} episodes at once: {error}") from error
        except Exception:  # the business of valid_or_says_why and same_in_a_batch
            continue
        assert isinstance(scores, list), f"score() returned a {type(scores).__name__}, not a list of scores"
        assert len(scores) == count, f"score() returned {len(scores)} scores for {count} episodes"
        for score in scores:
            try:
                as_score(score)
            except Exception as error:
                raise AssertionError(f"score() returned {score!r:.80} among the scores: {error}") from error
    return ""


def something_applies(trial: Trial) -> str:
    """At least one episode gets a value; else the other checks show nothing."""
    scores = trial.on_ordinary.scores
    valid, failed = (sum(s.status == status for s in scores.values()) for status in ("ok", "failed"))
    if failed and not valid:
        raise Skipped("no episode got a value, and some failed: see valid_or_says_why")
    assert valid, "no episode applied: the check has shown nothing; try --reference/--kwargs"
    slowest = max(trial.on_ordinary.seconds.values())
    loading = f"; one took {slowest:.2g} s, loading included" if slowest >= SLOW_S else ""
    return f"{valid} of {len(scores)} ordinary episodes{loading}"


def valid_or_says_why(trial: Trial) -> str:
    """Ordinary episodes, without turns, reference or images too, get a value or a reason why not; no exception."""
    scores = trial.on_ordinary.scores
    none(f"{name}: {s.info.get('error')}" for name, s in scores.items() if s.status == "failed")
    for p in (trial.on_ordinary, trial.on_hard):
        none(f"{name}: valid is {s.valid} and status is {s.status!r}" for name, s in p.scores.items()
              if s.status not in ("ok", "not_applicable", "failed") or s.valid != (s.status == "ok"))  # fmt: skip
        none(f"{name}: not applicable, and no info['reason'] says why" for name, s in p.scores.items()
              if s.status == "not_applicable" and not s.info.get("reason"))  # fmt: skip
    answered = scores["no turns"].valid if "no turns" in scores else False
    return "an episode without turns gets a value too; 'not applicable' would say more" if answered else ""


def stays_in_range(trial: Trial) -> str:
    """Every value is a finite number in the declared range."""
    low, high = trial.plugin.range
    values: dict[str, float] = {}
    for name, score in _valid(trial):
        value: Any = score.value
        assert isinstance(value, numbers.Real), f"{name}: the value is a {type(value).__name__}, not a number"
        values[name] = float(value)
    none(f"{name}: the value is {v}" for name, v in values.items() if not math.isfinite(v))
    none(f"{name}: the value {v:g} is outside the declared range [{low:g}, {high:g}]" for name, v in values.items()
         if not low <= v <= high)  # fmt: skip
    least, most = min(values.values(), default=0.0), max(values.values(), default=0.0)
    seen = f"seen: {least:g} to {most:g}" if least < most else f"seen: {least:g} everywhere"
    if math.isfinite(low) and math.isfinite(high):
        return seen
    return f"the declared range [{low:g}, {high:g}] is open: values that run wild there go unnoticed; {seen}"


def shares_add_up(trial: Trial) -> str:
    """Score.turns, where it is given, has one finite number a turn, and they add up to the value."""
    turns = {**trial.on_hard.turns, **trial.on_ordinary.turns}
    given = 0
    for name, score in _valid(trial):
        if score.turns is None:
            continue
        given += 1
        count = len(score.turns)
        assert count == turns[name], f"{name}: {count} shares for {turns[name]} turns"
        assert all(map(math.isfinite, score.turns)), f"{name}: the shares are {score.turns}"
        total = math.fsum(score.turns)
        same = trial.plugin.potential or math.isclose(total, score.value, rel_tol=1e-6, abs_tol=1e-6)
        assert same or not math.isfinite(score.value), f"{name}: the shares add up to {total:g}, not to {score.value:g}"
    if trial.plugin.potential:
        return "they are potentials, which need not add up"
    return "" if given else "none are given: with turn-level credit the value counts for the last turn"


def same_twice(trial: Trial) -> str:
    """An episode gets the same score twice, and from a fresh instance."""
    again = compare(trial, trial.again(trial.plugin), "the second time", with_info=True)
    fresh = compare(trial, trial.afresh.scores, "from a fresh instance", with_info=True)
    return _rounding(trial, again, fresh)


def same_in_a_batch(trial: Trial) -> str:
    """An episode gets the same score in a batch as alone."""
    if by_compute(trial.plugin):
        raise Skipped("compute answers one episode a call")
    trial.not_hanging()
    episodes, size = ordinary(trial.own), trial.plugin.batch_size
    names = list(episodes)
    together: dict[str, Score] = {}
    for batch in (names[i : i + size] for i in range(0, len(names), size)):
        if any(trial.on_ordinary.scores[name].status == "failed" for name in batch):
            raise Skipped("it fails on single episodes: see valid_or_says_why")
        try:
            trajectories = [episodes[name] for name in batch]
            scores = limited(functools.partial(trial.answers, trial.plugin, trajectories, trial.limit_s), trial.limit_s)
        except Skipped:
            raise
        except Exception as error:
            raise AssertionError(f"{len(batch)} episodes at once: {type(error).__name__}: {error}") from error
        together |= dict(zip(batch, scores, strict=True))
    return _rounding(trial, compare(trial, together, f"in a batch of {min(size, len(names))}"))


def same_in_any_order(trial: Trial) -> str:
    """An episode gets the same score whatever was scored before it."""
    scores = trial.again(trial.make(), backwards=True)
    return _rounding(trial, compare(trial, scores, "when the episodes come in reverse"))


def same_in_threads(trial: Trial) -> str:
    """Eight threads that score different episodes at once with one instance get the same scores."""
    trial.not_hanging()
    plugin, gaps = trial.make(), [0.0]
    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that threads do meet where they must not
    try:
        for _ in range(ROUNDS if exact(trial.plugin) else 1):
            gaps.append(compare(trial, at_once(trial, plugin), f"while {THREADS} threads score"))
    finally:
        sys.setswitchinterval(switch_interval)
    return _rounding(trial, *gaps)


def survives_hard_text(trial: Trial) -> str:
    """Empty, huge, deeply nested, multilingual and hostile texts are never an exception, and never take for ever."""
    trial.not_hanging()
    seen = trial.on_hard
    none(f"{name}: {s.info.get('error')}" for name, s in seen.scores.items() if s.status == "failed")
    slowest = max(seen.seconds, key=lambda name: seen.seconds[name])
    took = seen.seconds[slowest]
    return f"{'slow: ' if took >= SLOW_S else ''}at most {took:.2g} s, on {slowest}"


def changes_nothing(trial: Trial) -> str:
    """The episodes are as they were before."""
    none(f"{name}: {what}" for p in (trial.on_ordinary, trial.on_hard) for name, what in p.changed.items())
    return ""


def info_is_json(trial: Trial) -> str:
    """Score.info is JSON without NaN, and of at most 64 KiB, also for huge text."""
    largest = 0
    for name, score in [*trial.on_ordinary.scores.items(), *trial.on_hard.scores.items()]:
        if score.status == "failed":
            continue
        assert isinstance(score.info, Mapping), f"{name}: info is a {type(score.info).__name__}, not a dict"  # pyright: ignore[reportUnnecessaryIsInstance]
        for key, value in score.info.items():
            try:
                size = len(json.dumps({key: value}, allow_nan=False))
            except (TypeError, ValueError, RecursionError) as error:
                raise AssertionError(f"{name}: info[{key!r:.40}] is no JSON: {error}") from error
            assert size <= MAX_INFO, f"{name}: info[{key!r:.40}] takes {size} bytes; at most {MAX_INFO} are promised"
        largest = max(largest, len(json.dumps(dict(score.info))))
        assert largest <= MAX_INFO, f"{name}: info takes {largest} bytes; at most {MAX_INFO} are promised"
    return f"at most {largest} bytes"


CHECKS: dict[str, Callable[[Trial], str]] = {
    check.__name__: check
    for check in (
        no_global_random, one_score_each, something_applies, valid_or_says_why, stays_in_range, shares_add_up,
        same_twice, same_in_a_batch, same_in_any_order, same_in_threads, survives_hard_text, changes_nothing,
        info_is_json,
    )
}  # fmt: skip
"""Every check by name; it raises AssertionError with a message, or :class:`Skipped`, or returns a note."""


def run_check(name: str, trial: Trial) -> PluginCheck:
    """Run one check; an exception of the plugin's fails it."""
    try:
        return PluginCheck(name, "ok", CHECKS[name](trial))
    except Skipped as reason:
        return PluginCheck(name, "skipped", str(reason))
    except AssertionError as error:
        return PluginCheck(name, "failed", str(error) or "an assertion failed")
    except Exception as error:
        return PluginCheck(name, "failed", f"{type(error).__name__}: {error}")


def check_plugin(make: Make, own: Own = NOTHING, limit_s: float = DEFAULT_TIMEOUT_S) -> list[PluginCheck]:
    """Run every check over a plugin: some 300 calls, some with texts of 200,000 characters.

    Args:
        make: makes a fresh instance; see :func:`mmrl.reward.build_plugin`.
        own: what the user wants asked in place of the suite's own.
        limit_s: how long one answer may take, in seconds.
    """
    trial = Trial(make, own, limit_s)
    return [run_check(name, trial) for name in CHECKS]


def _valid(trial: Trial) -> Iterator[tuple[str, Score]]:
    for p in (trial.on_ordinary, trial.on_hard):
        yield from ((name, score) for name, score in p.scores.items() if score.status == "ok")


def _rounding(trial: Trial, *gaps: float) -> str:
    """The note on differences that are allowed."""
    return "" if exact(trial.plugin) else f"greatest difference {max(gaps):.1g}"
