"""A suite as reward functions of TRL's trainers (``GRPOTrainer``, ``RLOOTrainer``).

Comes in: what TRL hands to a reward function: prompts, completions, the dataset's columns and its own state.  Goes
out: one float a completion; None for one without a reward, which TRL then keeps out of its group's mean and deviation
and trains with advantage 0.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple, Protocol

from mmrl.bridges.columns import REFERENCE, references
from mmrl.bridges.conversation import Chat, Exchange, messages_of
from mmrl.bridges.record import numbers, why
from mmrl.bridges.trainer_state import TrainerState, run_state
from mmrl.errors import BadInput
from mmrl.reward import RewardSuite
from mmrl.score import RewardRecord
from mmrl.trajectory import Trajectory

OLDEST = (1, 6)
"""Before TRL 1.6 a completion without any reward counted as one with reward 0."""
_log = logging.getLogger(__name__)


class RewardFunc(Protocol):
    """A reward function as TRL calls it; ``columns`` are the dataset's, and what TRL adds."""

    __name__: str

    def __call__(self, prompts: Sequence[Chat], completions: Sequence[Chat], *,
                 completion_ids: Sequence[Sequence[int]] | None = None, trainer_state: TrainerState | None = None,
                 log_metric: Callable[[str, float], None] | None = None, **columns: Any) -> list[float | None]:
        """One reward a completion; None where there is none."""
        ...


class RewardFuncs(NamedTuple):
    """Reward functions, and the weights that TRL joins them by (``GRPOConfig(reward_weights=...)``)."""

    funcs: list[RewardFunc]
    weights: list[float]


def as_reward_func(suite: RewardSuite, reference: str = REFERENCE) -> RewardFunc:
    """The suite as one reward function, for ``GRPOTrainer(reward_funcs=...)``.

    A completion that a plugin failed on, or to which none applies, has the reward None; why is logged as a warning.
    Use it alone: beside another reward function TRL would count a None as 0.  TRL also logs ``reward/<plugin>``,
    ``failed/<plugin>`` and ``invalid``, and schedules may follow any metric that it logs.

    Args:
        suite: what scores.
        reference: the dataset's column with the ground truth.

    Raises:
        BadInput: if TRL is installed and older than 1.6; when called, if the column is missing and needed.
    """
    _check_version()
    return _named(_Scorer(suite, reference).rewards, "suite")


def as_reward_funcs(suite: RewardSuite, reference: str = REFERENCE) -> RewardFuncs:
    """The suite as a reward function, and one more for each plugin that TRL should log by itself.

    The first is :func:`as_reward_func` and has weight 1: the suite's own weights, gates and schedules are in it.  The
    others give the plugins' scores with weight 0, for ``rewards/<plugin>/mean`` and the table of completions.  Each
    completion is scored once.

    Args:
        suite: what scores.
        reference: the dataset's column with the ground truth.

    Raises:
        BadInput: as :func:`as_reward_func`.
    """
    _check_version()
    scorer = _Scorer(suite, reference)
    names = [m.name for m in suite.members]
    plugins = [_named(functools.partial(scorer.scores, name), name) for name in names]
    return RewardFuncs([_named(scorer.rewards, "suite"), *plugins], [1.0] + [0.0] * len(names))


class _Scorer:
    """Scores batches; the last one is remembered, because TRL shows it to every function in turn."""

    def __init__(self, suite: RewardSuite, reference: str) -> None:
        self.suite, self.reference = suite, reference
        self._last: tuple[Any, list[RewardRecord]] | None = None

    def rewards(self, prompts: Sequence[Chat], completions: Sequence[Chat], *,
                completion_ids: Sequence[Sequence[int]] | None = None, trainer_state: TrainerState | None = None,
                log_metric: Callable[[str, float], None] | None = None, **columns: Any) -> list[float | None]:
        how = "name another one, as in as_reward_func(suite, reference='answer')"
        truth = references(columns, self.reference, self.suite, len(completions), how)
        ids = completion_ids or [()] * len(completions)
        state = run_state(trainer_state, self.suite)
        rows = zip(prompts, completions, truth, ids, strict=True)
        records = self.suite.score([_trajectory(state.step, i, *row) for i, row in enumerate(rows)], state)
        self._last = (completions, records)
        if log_metric is not None:
            for name, value in numbers(records).items():
                log_metric(name, value)
        _warn(records)
        return [r.value if r.valid else None for r in records]

    def scores(self, plugin: str, /, prompts: Sequence[Chat], completions: Sequence[Chat],
               **columns: Any) -> list[float | None]:
        if self._last is None or self._last[0] is not completions:
            self.rewards(prompts, completions, **columns)
        assert self._last is not None
        # Where the suite has no reward, neither may a plugin have one: TRL would take the row for a scored one.
        return [s.value if r.valid and (s := r.scores[plugin]).valid else None for r in self._last[1]]


def _trajectory(step: int, i: int, prompt: Chat, completion: Chat, reference: Any, ids: Sequence[int]) -> Trajectory:
    shown = messages_of(prompt, "user", f"prompt {i}")
    said = messages_of(completion, "assistant", f"completion {i}")
    return Exchange(f"trl-{step}-{i}", "trl", shown, said, reference, [ids] if ids else ()).trajectory()


def _warn(records: Sequence[RewardRecord]) -> None:
    missing = [r for r in records if not r.valid]
    if missing:
        _log.warning("%d of %d completions have no reward, the first because %s", len(missing), len(records),
                     why(missing[0]))  # fmt: skip


def _named(call: Callable[..., list[float | None]], name: str) -> RewardFunc:
    """A function of that name, which is what TRL logs it by."""

    def reward_func(*args: Any, **kwargs: Any) -> list[float | None]:
        return call(*args, **kwargs)

    reward_func.__name__ = name
    return reward_func


def _check_version() -> None:
    try:
        found = version("trl")
    except PackageNotFoundError:
        return
    if tuple(int(n) for n in re.findall(r"\d+", found)[:2]) < OLDEST:
        raise BadInput(f"TRL {found} counts a completion without a reward as 0; install trl>={OLDEST[0]}.{OLDEST[1]}")
