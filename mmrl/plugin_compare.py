"""Whether a plugin on trial scores as it did at first.

Comes in: scores of the ordinary episodes, from another call.  Goes out: by how much they differ, or an AssertionError.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress

from mmrl.plugin import RewardPlugin
from mmrl.plugin_episodes import ordinary
from mmrl.plugin_trial import Trial
from mmrl.score import Score
from mmrl.trajectory import Trajectory

ROUNDING = 1e-5
"""How far two scores of a model for one episode may be apart, relative where they are above 1."""
THREADS = 8


def none(problems: Iterable[str]) -> None:
    """Fail with the first of ``problems``, and how many more there are."""
    found = list(problems)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    assert not found, f"{found[0]}{more}"


def exact(plugin: RewardPlugin) -> bool:
    """Whether scores are compared exactly: no model computes them."""
    return plugin.cost == RewardPlugin.cost


def compare(trial: Trial, scores: Mapping[str, Score], when: str, with_info: bool = False) -> float:
    """Fail if a score is not what it was at first; else the greatest difference."""
    first, strictly = trial.on_ordinary.scores, exact(trial.plugin)
    apart = {name: _apart(first[name], score) for name, score in scores.items()}
    worst = max(apart, key=lambda name: apart[name])
    said = f"{worst}: {_said(first[worst])} at first, {_said(scores[worst])} {when}"
    if strictly and 0.0 < apart[worst] <= ROUNDING:
        said += "; if a model computes it, say in `cost` what it costs, and rounding is allowed"
    assert apart[worst] <= (0.0 if strictly else ROUNDING), said
    if strictly and with_info:
        none(f"{name}: info was {dict(first[name].info)!r:.80} and is {dict(s.info)!r:.80} {when}"
              for name, s in scores.items() if _shown(first[name]) != _shown(s))  # fmt: skip
    return apart[worst]


def _apart(a: Score, b: Score) -> float:
    """How far two scores of one episode are apart; infinitely if they are of different kinds."""
    if (a.status, a.valid) != (b.status, b.valid) or len(a.turns or ()) != len(b.turns or ()):
        return math.inf
    pairs = zip((a.value, *(a.turns or ())), (b.value, *(b.turns or ())), strict=True) if a.valid else ()
    return max((_gap(x, y) for x, y in pairs), default=0.0)


def _gap(x: float, y: float) -> float:
    if x == y or (math.isnan(x) and math.isnan(y)):
        return 0.0
    gap = abs(x - y) / max(1.0, abs(x), abs(y))
    return math.inf if math.isnan(gap) else gap


def _said(score: Score) -> str:
    shares = f" by turns {score.turns}" if score.turns else ""
    why = score.info.get("error") or score.info.get("reason") or ""
    return f"{score.value:.10g}{shares:.80}" if score.valid else f"{score.status} ({why})"


def _shown(score: Score) -> str:
    return json.dumps(dict(score.info), default=lambda value: type(value).__name__, sort_keys=True)


def at_once(trial: Trial, plugin: RewardPlugin) -> dict[str, Score]:
    """Score the ordinary episodes, eight at a time, each on a thread of its own."""
    episodes = list(ordinary(trial.own).items())
    barrier = threading.Barrier(THREADS + 1)
    scores: dict[str, Score] = {}

    def score(name: str, trajectory: Trajectory) -> None:
        try:
            scores[name] = trial.answers(plugin, [trajectory], trial.limit_s)[0]
        except Exception as error:
            scores[name] = Score.failed(f"{type(error).__name__}: {error}")

    def work(k: int) -> None:
        with suppress(threading.BrokenBarrierError):  # another thread hangs
            for start in range(k, len(episodes) + k, THREADS):
                barrier.wait()
                for name, trajectory in episodes[start : start + 1]:
                    score(name, trajectory)
            barrier.wait()

    for k in range(THREADS):
        threading.Thread(target=work, args=(k,), name="mmrl-check", daemon=True).start()
    try:
        for _ in range(0, len(episodes) + THREADS, THREADS):
            barrier.wait(trial.limit_s)
    except threading.BrokenBarrierError:
        raise AssertionError(f"{THREADS} answers at once took longer than {trial.limit_s:g} s") from None
    return scores
