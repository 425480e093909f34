"""A reward plugin on trial: asked as a run asks it, while everything that it does besides is watched.

Comes in: a way to make the plugin, and episodes.  Goes out: its scores, before the run's own checks of them, how long
each took, and what was changed meanwhile.
"""

from __future__ import annotations

import functools
import pickle
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mmrl.caller import LoopCaller, Overdue, ThreadCaller
from mmrl.plugin import RewardPlugin, as_score, by_compute, is_async, score_one, score_one_async, takes_state
from mmrl.plugin_config import DEFAULT_TIMEOUT_S
from mmrl.plugin_episodes import NOTHING, Own, hard, ordinary
from mmrl.run_state import START
from mmrl.score import Score
from mmrl.trajectory import Trajectory

Make = Callable[[], RewardPlugin]
LOADING = 3
"""How many times the time limit an answer may take that loads a model first."""


class Skipped(Exception):
    """A check has nothing to look at; the message says why."""


@dataclass(frozen=True)
class Pass:
    """What was seen while episodes were scored one by one.

    Attributes:
        scores: the answers by the episodes' names; an exception is a failed score.
        turns: how many turns each episode has.
        seconds: how long each answer took.
        changed: what of an episode is not as it was, by the episode's name.
        touched: the global random generators that were used.
        overdue: the episode at which the time limit was reached and the pass ended; empty if none.
    """

    scores: Mapping[str, Score] = field(default_factory=dict)
    turns: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    changed: Mapping[str, str] = field(default_factory=dict)
    touched: Sequence[str] = ()
    overdue: str = ""


class Trial:
    """One plugin under check.

    Args:
        make: makes a fresh instance.
        own: what the user wants asked.
        limit_s: how long one answer may take, in seconds: as long as in a run.
    """

    def __init__(self, make: Make, own: Own = NOTHING, limit_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.make, self.own, self.limit_s = make, own, limit_s
        self._loop = LoopCaller()

    @cached_property
    def plugin(self) -> RewardPlugin:
        """The instance that answers wherever a fresh one is not asked for."""
        return self.make()

    @cached_property
    def on_ordinary(self) -> Pass:
        """The plugin's answers for the ordinary episodes, each with time to load a model."""
        return self._watched(lambda: self.plugin, ordinary(self.own), LOADING * self.limit_s)

    @cached_property
    def on_hard(self) -> Pass:
        """Its answers for hard texts; none if it hangs on ordinary ones."""
        return Pass() if self.on_ordinary.overdue else self._watched(lambda: self.plugin, hard(self.own), self.limit_s)

    @cached_property
    def afresh(self) -> Pass:
        """The answers of a fresh instance for the ordinary episodes; its constructor is watched too.

        Raises:
            Skipped: if the plugin hangs on them.
        """
        self.not_hanging()
        return self._watched(self.make, ordinary(self.own), self.limit_s)

    def again(self, plugin: RewardPlugin, backwards: bool = False) -> Mapping[str, Score]:
        """Ask ``plugin`` for the ordinary episodes once more.

        Raises:
            Skipped: if the plugin hangs on them.
        """
        self.not_hanging()
        episodes = ordinary(self.own)
        names = list(episodes)[:: -1 if backwards else 1]
        return self._watched(lambda: plugin, {name: episodes[name] for name in names}, self.limit_s).scores

    def not_hanging(self) -> None:
        """Go on unless the plugin hangs on ordinary episodes.

        Raises:
            Skipped: if it does.
        """
        if self.on_ordinary.overdue:
            raise Skipped(f"the plugin hangs on the episode '{self.on_ordinary.overdue}'")

    def answers(self, plugin: RewardPlugin, trajectories: Sequence[Trajectory], limit_s: float) -> list[Score]:
        """What the plugin says of several episodes: one if it answers by ``compute``; ``limit_s`` is for async ones.

        Raises:
            Skipped: if it does not give one score an episode.
            Exception: whatever it raises.
        """
        if is_async(plugin):
            return [as_score(self._loop.call(lambda: score_one_async(plugin, trajectories[0]), limit_s))]
        if by_compute(plugin):
            return [score_one(plugin, trajectories[0])]
        scores = returned(plugin, trajectories)
        if not isinstance(scores, list) or len(scores) != len(trajectories):
            raise Skipped("score() does not give one score an episode: see one_score_each")
        return [as_score(s) for s in scores]

    def one(self, plugin: RewardPlugin, trajectory: Trajectory, limit_s: float) -> Score:
        """What the plugin says of one episode, in ``limit_s`` seconds; an exception is a failed score.

        Raises:
            Skipped: if it does not give one score an episode.
            Overdue: after the time limit.
        """
        ask = functools.partial(self.answers, plugin, [trajectory], limit_s)  # of async ones the loop keeps the limit
        try:
            return (ask() if is_async(plugin) else limited(ask, limit_s))[0]
        except (Skipped, Overdue):
            raise
        except Exception as error:
            return Score.failed(f"{type(error).__name__}: {error}")

    def _watched(self, make: Make, episodes: Mapping[str, Trajectory], limit_s: float) -> Pass:
        before, generators = pickle.loads(pickle.dumps(episodes)), _generators()
        plugin = make()
        scores, seconds, overdue = dict[str, Score](), dict[str, float](), ""
        for name, trajectory in episodes.items():
            start = time.perf_counter()
            try:
                scores[name] = self.one(plugin, trajectory, limit_s)
            except Overdue as error:
                scores[name], overdue = Score.failed(f"Overdue: {error}"), name
            seconds[name] = time.perf_counter() - start
            if overdue:
                break
        after = _generators()
        touched = tuple(name for name, state in generators.items() if after[name] != state)
        changed = {name: what for name, t in episodes.items() if (what := _changed(before[name], t))}
        return Pass(scores, {name: len(t.turns) for name, t in episodes.items()}, seconds, changed, touched, overdue)


def returned(plugin: RewardPlugin, trajectories: Sequence[Trajectory]) -> Any:
    """What the plugin's own ``score`` returns: a list, if what it returns can be made one."""
    state = {"state": START} if takes_state(plugin) else {}
    scores: Any = plugin.score(trajectories, **state)
    try:
        return list(scores)
    except TypeError:
        return scores


class _Rang(BaseException):
    """The alarm: no ``except Exception`` of a plugin's holds it."""


def limited(function: Callable[[], Any], limit_s: float) -> Any:
    """Call ``function`` with a time limit.

    A run calls plugins on other threads, where nothing can end a regular expression that backtracks: it holds Python's
    lock.  Here, in the main thread, a signal can.

    Raises:
        Overdue: after ``limit_s`` seconds.
        Exception: whatever it raises.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        with closing(ThreadCaller()) as caller:
            return caller.call(function, limit_s)

    def ring(*_: Any) -> None:
        raise _Rang

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        try:
            return function()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _Rang:
        raise Overdue(f"no answer after {limit_s:g} s") from None
    finally:
        signal.signal(signal.SIGALRM, before)


def _generators() -> dict[str, Any]:
    """The states of the global random generators; torch's if something has imported it."""
    numpy_state = tuple(x.tobytes() if isinstance(x, np.ndarray) else x for x in np.random.get_state())
    states: dict[str, Any] = {"random": random.getstate(), "numpy.random": numpy_state}
    torch = sys.modules.get("torch")
    return states if torch is None else {**states, "torch": torch.get_rng_state().numpy().tobytes()}


def _changed(before: Trajectory, after: Trajectory) -> str:
    """The first thing in an episode that is not as it was; empty if all is."""
    if before == after:
        return ""
    parts = [(f"sample.{name}", getattr(before.sample, name), getattr(after.sample, name))
             for name in ("reference", "meta", "messages")]  # fmt: skip
    turns = enumerate(zip(before.turns, after.turns, strict=False))
    parts += [(f"turns[{i}].info", a.info, b.info) for i, (a, b) in turns]
    return next((f"{name} was {a!r:.60} and is {b!r:.60}" for name, a, b in parts if a != b), "the trajectory")
