"""Batches drawn ahead: a thread samples the next ones while the learner learns from an earlier one.

Comes in: after every step, what the learner's weights are then.  Goes out: the batches, in their order.

The sampler never reads what the learner writes: it has a twin of the model, and changes weights between two batches
only.  With k = ``rollout.async_steps`` the batch of step b is drawn with the policy that has seen b - 1 - k updates
(none, in the first steps), whatever takes how long: the same config and seed give the same bits twice.  A checkpoint
holds the k versions before its own, so that a resumed run draws the same batches again.  Where
``rollout.deterministic`` is off, a batch is drawn with the newest version that there is when it begins, and never with
one older than that.
"""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import SimpleQueue

from mmrl.report import Reporter
from mmrl.reward import RewardSuite
from mmrl.run_state import newest
from mmrl.run_sync import Stoppable
from mmrl.trajectory import Trajectory
from mmrl_agents.drawn import Drawer, Drawn, Place
from mmrl_agents.forward import Forward
from mmrl_agents.image_tokens import image_tokens
from mmrl_agents.logprobs import Scorer
from mmrl_agents.probe import Probe
from mmrl_agents.run import Run
from mmrl_agents.sampler import make_sampler
from mmrl_agents.tasks import Plan
from mmrl_agents.twin import Weights, learned, take_on, twin
from mmrl_agents.vision import Vision

Shown = Callable[[], None]
"""Something that is to be shown to who waits, on the thread that waits."""


@dataclass(frozen=True)
class Handed:
    """A policy to sample with.

    Attributes:
        version: how many updates it has seen.
        weights: what of it learned.
        metrics: the newest value of every metric, as of its last update.
    """

    version: int
    weights: Weights
    metrics: Mapping[str, float]


def version_for(step: int, ahead: int) -> int:
    """How many updates the policy has seen that samples the batch of a step, if batches are drawn so many ahead."""
    return max(0, step - 1 - ahead)


class Ahead:
    """Draws batches in the background; see :class:`mmrl_agents.batches.Batches`."""

    def __init__(self, run: Run, suite: RewardSuite, sizes: Plan) -> None:
        r = run.config.rollout
        self._run, self._last, self._ahead, self._fixed = run, sizes.steps, r.async_steps, r.deterministic
        self._events: SimpleQueue[Drawn | BaseException | Shown] = SimpleQueue()
        later = _Later(run.reporter, self._events.put)
        beside = dataclasses.replace(run_beside(run), reporter=later)
        self._beside = beside
        self._loop, self._changed, self._closing = Stoppable(), threading.Condition(), False
        self._handed: deque[Handed] = deque(maxlen=self._ahead + 1)
        for version, weights in run.earlier.items():
            self._hand(Handed(version, weights, metrics_at(run, version)))
        learner = Scorer(beside.model, r.temperature, beside.vision, Forward(bfloat16=run.precision.update))
        self._sampler = make_sampler(beside)  # last of what may fail: it holds an engine, or servers
        self._drawer = Drawer(run, sizes, self._sampler, suite, later,
                              self._loop.run, Probe(learner, run.learner.limits.tokens))  # fmt: skip
        self._thread: threading.Thread | None = None

    def take(self) -> Drawn:
        """See :meth:`mmrl_agents.batches.Batches.take`."""
        run = self._run
        self._hand(Handed(run.progress.step, learned(run.model), run.metrics))
        if run.learner.vision is not None:
            run.learner.vision.forget()
        if self._thread is None:
            first = Place(run.progress.step + 1, run.progress.cursor, run.progress.success, run.metrics)
            self._thread = threading.Thread(target=self._work, args=(first,), name="mmrl-ahead", daemon=True)
            self._thread.start()
        while True:
            event = self._events.get()
            if isinstance(event, Drawn):
                return event
            if isinstance(event, BaseException):
                raise event
            event()

    def close(self) -> None:
        """Stop as soon as the sampler lets go of what it is at; see :class:`mmrl_agents.batches.Batches`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._loop.stop()
        try:
            self._sampler.stop()
            if self._thread is not None:
                self._thread.join()
        finally:
            self._sampler.close()

    def _hand(self, handed: Handed) -> None:
        """Give the sampler one more version; what a checkpoint may need is kept in the run."""
        with self._changed:
            self._handed.append(handed)
            self._changed.notify_all()
        self._run.earlier = {h.version: h.weights for h in self._handed} if self._fixed else {}

    def _work(self, place: Place) -> None:
        try:
            while place.step <= self._last and (handed := self._wait_for(place.step)) is not None:
                take_on(self._beside.model, handed.weights)
                if self._beside.vision is not None:
                    self._beside.vision.forget()
                self._sampler.updated(handed.version)
                drawn = self._drawer.draw(dataclasses.replace(place, metrics=handed.metrics))
                self._events.put(drawn)
                place = drawn.next
        except BaseException as error:  # it belongs to the thread that takes the batch
            self._events.put(error)

    def _wait_for(self, step: int) -> Handed | None:
        """The policy that the batch of a step is drawn with; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._find(step) is not None)
            return None if self._closing else self._find(step)

    def _find(self, step: int) -> Handed | None:
        wanted = version_for(step, self._ahead)
        right = [h for h in self._handed if (h.version == wanted if self._fixed else h.version >= wanted)]
        return right[-1] if right else None


def run_beside(run: Run) -> Run:
    """The run as its sampler sees it: with a model, a tokenizer and eyes that no other thread uses."""
    model, processing = twin(run.model), copy.deepcopy(run.processing)
    tokens = image_tokens(processing)
    vision = None if tokens is None else Vision(model, tokens)
    return dataclasses.replace(run, model=model, processing=processing, vision=vision)


def metrics_at(run: Run, version: int) -> dict[str, float]:
    """The newest value of every metric as of an earlier step of a run."""
    known: dict[str, float] = {}
    for line in run.store.metrics():
        if line["step"] <= version:
            known = newest(known, line)
    return known


@dataclass(frozen=True)
class _Later:
    """What the background reports, shown when the learner waits for a batch."""

    reporter: Reporter
    put: Callable[[Shown], None]

    @property
    def stopping(self) -> bool:
        return self.reporter.stopping

    def say(self, line: str) -> None:
        self.put(lambda: self.reporter.say(line))

    def begin(self, what: str, total: int) -> None:
        self.put(lambda: self.reporter.begin(what, total))

    def episode(self, trajectory: Trajectory) -> None:
        self.put(lambda: self.reporter.episode(trajectory))

    def tick(self) -> None:
        self.put(self.reporter.tick)

    def step(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        self.put(lambda: self.reporter.step(step, total, metrics))
