"""Reward plugins for the suite over plugins: sound ones, and others that differ from them by one fault each."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import random
import re
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from mmrl import RewardPlugin, Score, Trajectory


def value_of(response: str) -> float:
    return len(response) % 7 / 7


class Sound(RewardPlugin):
    """Conforms.  Each broken plugin below changes one thing."""

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def compute(self, response: str) -> Any:
        return value_of(response)


class SoundAsync(Sound):
    async def compute(self, response: str) -> float:
        await asyncio.sleep(0)
        return value_of(response)


class SoundTurns(RewardPlugin):
    """Conforms, in batches and with shares."""

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def score(self, trajectories: Sequence[Trajectory]) -> Any:  # type: ignore[override]
        return [self.one(t) for t in trajectories]

    def one(self, trajectory: Trajectory) -> Score:
        values = [value_of(turn.response) / len(trajectory.turns) for turn in trajectory.turns]
        if not values:
            return Score.not_applicable(reason="the episode has no turns")
        return Score(math.fsum(values), info={"turns": len(values)}, turns=tuple(values))


class SoundPotential(RewardPlugin):
    potential: ClassVar[bool] = True

    def compute(self, trajectory: Trajectory) -> Score | None:
        return Score(0.0, turns=tuple(value_of(t.response) for t in trajectory.turns)) if trajectory.turns else None


class RaisesOnChinese(Sound):
    def compute(self, response: str) -> float:
        if "答" in response:
            raise UnicodeError("no Chinese here")
        return value_of(response)


class RaisesWhenNested(Sound):
    def compute(self, response: str) -> float:
        try:
            return float(isinstance(json.loads(response), dict))
        except ValueError:
            return 0.0


class RaisesWithoutReference(Sound):
    def compute(self, response: str, reference: Any = None) -> float:
        return float(str(response) == (reference if isinstance(reference, list | int) else reference.strip()))


class ReturnsText(Sound):
    def compute(self, response: str) -> Any:
        return "high" if response == "4" else 0.5


class SaysNoReason(Sound):
    def compute(self, response: str) -> Any:
        return Score(0.5) if response else Score.not_applicable()


class ValidAndNotApplicable(Sound):
    def compute(self, response: str) -> Any:
        return Score(0.5) if response else Score(0.5, True, {"reason": "empty"}, "not_applicable")


class AboveRange(Sound):
    def compute(self, response: str) -> float:
        return len(response) / 1000


class NotANumber(Sound):
    def compute(self, response: str) -> float:
        return value_of(response) if response else math.nan


class Infinite(SoundPotential):
    """Its range is open, its values are not finite."""

    potential: ClassVar[bool] = False

    def compute(self, trajectory: Trajectory) -> Any:
        return math.inf if len(trajectory.response) > 1000 else 1.0


class OneScoreTooFew(SoundTurns):
    def score(self, trajectories: Sequence[Trajectory]) -> Any:  # type: ignore[override]
        return super().score(trajectories)[: max(1, len(trajectories) - 1)]


class NoList(SoundTurns):
    def score(self, trajectories: Sequence[Trajectory]) -> Any:  # type: ignore[override]
        return self.one(trajectories[0])


class WrongKindInList(SoundTurns):
    def score(self, trajectories: Sequence[Trajectory]) -> Any:  # type: ignore[override]
        scores = super().score(trajectories)
        return scores if len(scores) == 1 else ["high", *scores[1:]]


class SharesAreValues(SoundTurns):
    def one(self, trajectory: Trajectory) -> Score:
        score = super().one(trajectory)
        return dataclasses.replace(score, turns=(score.value,) * len(trajectory.turns)) if score.valid else score


class OneShareTooMany(SoundTurns):
    def one(self, trajectory: Trajectory) -> Score:
        score = super().one(trajectory)
        return dataclasses.replace(score, turns=(*(score.turns or ()), 0.0)) if score.valid else score


class OnePotentialTooFew(SoundPotential):
    def compute(self, trajectory: Trajectory) -> Score:
        return Score(0.0, turns=(1.0,))


class Noise(Sound):
    def __init__(self) -> None:
        self.generator = random.Random()

    def compute(self, response: str) -> float:
        return self.generator.random()


class Clock(Sound):
    def compute(self, response: str) -> Any:
        return {"reward": 0.5, "info": {"at": time.perf_counter_ns()}}


class CountsCalls(Sound):
    calls = 0

    def compute(self, response: str) -> float:
        self.calls += 1
        return 1 / self.calls


class RemembersByQuestion(Sound):
    """A cache whose key lacks the answer."""

    def __init__(self) -> None:
        self.known: dict[str, float] = {}

    def compute(self, query: str, response: str) -> float:
        return self.known.setdefault(query, value_of(response))


class RanksItsBatch(SoundTurns):
    def score(self, trajectories: Sequence[Trajectory]) -> Any:  # type: ignore[override]
        scores = super().score(trajectories)
        best = max((s.value for s in scores if s.valid), default=1.0) or 1.0
        return [Score(s.value / best) if s.valid and len(scores) > 1 else s for s in scores]


class SortsItsBatch(SoundTurns):
    def score(self, trajectories: Sequence[Trajectory]) -> Any:  # type: ignore[override]
        return super().score(sorted(trajectories, key=lambda t: t.response))


class StacksItsBatch(SoundTurns):
    def score(self, trajectories: Sequence[Trajectory]) -> Any:  # type: ignore[override]
        if len({len(t.turns) for t in trajectories}) > 1:
            raise ValueError("all input arrays must have the same shape")
        return super().score(trajectories)


class Scratch(Sound):
    """What it computes with is shared by its threads."""

    def compute(self, response: str) -> float:
        self.text = response
        time.sleep(0.002)
        return value_of(self.text)


class AsyncScratch(Sound):
    async def compute(self, response: str) -> float:
        self.text = response
        await asyncio.sleep(0.002)
        return value_of(self.text)


class MarksTurns(Sound):
    def compute(self, trajectory: Trajectory) -> float:
        for turn in trajectory.turns:
            turn.info["seen"] = True  # type: ignore[index]
        return value_of(trajectory.response)


class SortsReferences(Sound):
    def compute(self, response: str, reference: Any) -> float:
        if isinstance(reference, list):
            reference.sort(reverse=True)
        return value_of(response)


class SetInInfo(Sound):
    def compute(self, response: str) -> Any:
        return {"reward": 0.5, "info": {"letters": {"a"}}}


class NanInInfo(Sound):
    def compute(self, response: str) -> Any:
        return {"reward": 0.5, "info": {"probability": math.nan}}


class HugeInfo(Sound):
    def compute(self, response: str) -> Any:
        return {"reward": 0.5, "info": {"answer": response}}


class GlobalRandom(Sound):
    def compute(self, response: str) -> float:
        random.random()
        return value_of(response)


class GlobalNumpy(Sound):
    def compute(self, response: str) -> float:
        return value_of(response) + 0 * np.random.rand()


class SeedsTorch(Sound):
    def __init__(self) -> None:
        torch.manual_seed(time.perf_counter_ns() % 2**31)


class NeverApplies(Sound):
    def compute(self, response: str) -> Any:
        return None


class Backtracks(Sound):
    def compute(self, response: str) -> float:
        return float(re.fullmatch(r"(a+)+", response[:40] + "!") is not None)


class HangsOnBlanks(Sound):
    async def compute(self, response: str) -> float:
        await asyncio.sleep(99 if response.isspace() else 0)
        return value_of(response)
