"""What the person who waits sees: bars on a terminal, one line a step in a log file.

Comes in: the calls of :class:`mmrl.report.Reporter`, or finished episodes.  Goes out: rich bars or plain lines.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from mmrl.trajectory import Trajectory

SILENCE = 30.0
"""Seconds after which a log says how far the work has come, that of a step or any other."""


def clock(seconds: float) -> str:
    """``3:12`` or ``1:02:09``."""
    minutes, s = divmod(max(0, round(seconds)), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"


def _columns() -> tuple[ProgressColumn, ...]:
    """What every bar shows: label, bar, count, note."""
    return (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))


class _Pace:
    """How long a step takes, evaluations and checkpoints included, and so how long the rest will take."""

    def __init__(self, minutes: float | None) -> None:
        self._limit = float("inf") if minutes is None else minutes * 60
        self._mark = time.monotonic()
        self.steps = 0
        self.total = 0.0
        self.last = 0.0
        self._trained: float | None = None

    def restart(self, now: float) -> None:
        """Begin to count now; only before the first step, so that loading and the first evaluation do not count."""
        if self.steps == 0:
            self._mark = now

    def tick(self, minutes: float | None) -> None:
        """Count one step; ``minutes`` of the limit are used up by it and all before, of earlier processes too."""
        self._trained = None if minutes is None else minutes * 60
        now = time.monotonic()
        self.last, self._mark = now - self._mark, now
        self.total += self.last
        self.steps += 1

    def left(self, steps: int) -> float:
        """Seconds that ``steps`` more steps take, or fewer where the limit in minutes comes first."""
        used = self.total if self._trained is None else self._trained
        return min(steps * self.total / max(self.steps, 1), max(0.0, self._limit - used))


class _Log:
    """The bar of a log file: a line whenever :data:`SILENCE` has passed.

    Args:
        what: the work's name.
        total: how much of it there is.
        now: when it began.
    """

    def __init__(self, what: str, total: int, now: float) -> None:
        self.what, self._total, self._done, self._mark = what, total, 0, now

    def tick(self, note: str = "") -> str | None:
        """Count one piece of work; returns the line, if it is time for one."""
        self._done += 1
        now = time.monotonic()
        if now - self._mark < SILENCE:
            return None
        self._mark = now
        return f"{self.what} {self._done}/{self._total}  {note}".rstrip()


class TrainReporter:
    """The command line's reporter; use it as a context manager.

    Args:
        console: where to print; a terminal gets bars, anything else one line a step, and one now and then within.
        minutes: the run's limit of training minutes, for the time left.

    Attributes:
        stopping: whether the work should end after the step in progress.
        steps: training steps finished so far in this process.
    """

    def __init__(self, console: Console, minutes: float | None = None) -> None:
        self.stopping = False
        self._console = console
        self._pace = _Pace(minutes)
        self._eval: float | None = None
        self._wins = 0
        self._bars = Progress(*_columns(), console=console, refresh_per_second=4) if console.is_terminal else None
        self._main: TaskID | None = None
        self._sub: TaskID | None = None
        self._ready: TaskID | None = None
        self._log: _Log | None = None

    @property
    def steps(self) -> int:
        """Training steps finished so far in this process."""
        return self._pace.steps

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
            self._ready = self._bars.add_task("getting ready", total=None, note="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bars is not None:
            for task in (self._ready, self._sub):
                self._drop(task)
            self._bars.stop()

    def stop(self) -> None:
        """Ask the work to end after the step in progress."""
        self.stopping = True

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def begin(self, what: str, total: int) -> None:
        """Start the bar of ``total`` episodes, in the place of the one before."""
        now = time.monotonic()
        self._pace.restart(now)
        self._wins = 0
        if self._bars is None:
            self._log = _Log(what, total, now)
        else:
            self._begun()
            self._drop(self._sub)
            self._sub = self._bars.add_task(what, total=total, note="")

    def episode(self, trajectory: Trajectory) -> None:
        """Count an episode, and the successes: no share of those that are over, since successes are over sooner."""
        self._wins += trajectory.success
        self._count(f"successes {self._wins}")

    def tick(self) -> None:
        """Count one piece of work that is no episode."""
        self._count()

    def _count(self, note: str = "") -> None:
        if self._bars is not None and self._sub is not None:
            self._bars.update(self._sub, advance=1, note=note)
        elif self._log is not None and (line := self._log.tick(note)):
            self.say(line)

    def step(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Count a step, on the main bar or as a line."""
        self._pace.tick(metrics.get("time/minutes"))
        left = "left " + clock(self._pace.left(total - step))
        note = "  ".join([*self._figures(metrics), f"{self._pace.last:.1f} s", left])
        if self._bars is None:
            self.say(f"step {step}/{total}  {note}")
        elif self._main is None:
            self._begun()
            self._main = self._bars.add_task("training", total=total, completed=step, note=note)
        else:
            self._bars.update(self._main, completed=step, note=note)

    def _begun(self) -> None:
        """The first work has begun."""
        self._drop(self._ready)
        self._ready = None

    def _drop(self, task: TaskID | None) -> None:
        if self._bars is not None and task is not None:
            self._bars.remove_task(task)

    def _figures(self, metrics: Mapping[str, float]) -> list[str]:
        """Reward and success, or the loss where there are no episodes (SFT); what went wrong; the step's evaluation.

        A bar keeps the last evaluation in sight; a line says it once.
        """
        out: list[str] = []
        if "reward" in metrics:
            out += [f"reward {metrics['reward']:.2f}", f"success {metrics.get('success', 0.0):.0%}"]
        elif "loss" in metrics:
            out.append(f"loss {metrics['loss']:.3f}")
        for name, what in (("errors", "broken episodes"), ("failed_scores", "failed scores")):
            if metrics.get(name):
                out.append(f"{metrics[name]:.0f} {what}")
        self._eval = metrics.get("eval/success", self._eval if self._bars is not None else None)
        return [*out, f"eval {self._eval:.0%}"] if self._eval is not None else out


class EpisodeBar:
    """One bar over plain episodes on stderr, or now and then a line in a log; use it as a context manager.

    Args:
        what: the bar's label.
        total: how many episodes.
    """

    def __init__(self, what: str, total: int) -> None:
        self._console = Console(stderr=True)
        columns, off = (*_columns(), TimeRemainingColumn()), not self._console.is_terminal
        self._log = _Log(what, total, time.monotonic()) if off else None
        self._bars = Progress(*columns, console=self._console, disable=off, transient=True)
        self._task = self._bars.add_task(what, total=total, note="")
        self._wins = 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def label(self, what: str) -> None:
        """Change the bar's label."""
        self._bars.update(self._task, description=what)
        if self._log is not None:
            self._log.what = what

    def episode(self, trajectory: Trajectory) -> None:
        """Count an episode, and the successes."""
        self._wins += trajectory.success
        note = f"successes {self._wins}"
        self._bars.update(self._task, advance=1, note=note)
        if self._log is not None and (line := self._log.tick(note)):
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
