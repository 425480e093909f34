"""From rewards to credit: which advantage each trajectory, turn or token learns with.

Comes in: scored trajectories, group after group.  Goes out: an advantage for each valid trajectory and, with finer
credit, one for each of its turns or sampled tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from mmrl.config import Config
from mmrl.errors import BadInput
from mmrl.registry import Registry
from mmrl.training_args import TrainingArgs
from mmrl.trajectory import Trajectory
from mmrl_agents.advantage import (
    ESTIMATORS,
    BatchEstimator,
    Estimator,
    batch_std,
    by_state,
    by_turn,
    gdpo,
    gigpo,
    in_groups,
    reinforce_pp,
)
from mmrl_agents.foresight import NOTHING, Foreseen, charged, charges_of
from mmrl_agents.gae import ToSteps, gae, returns, token_steps, turn_steps
from mmrl_agents.gae import whitened as whiten
from mmrl_agents.own_function import own_function

Row = TypeVar("Row")


@dataclass(frozen=True)
class Credit:
    """What a batch learns with.

    Attributes:
        advantages: of each trajectory; None for those without: invalid ones, and overlong ones if they are masked.
        turns: of each turn of each other trajectory, in order; None if every turn shares its trajectory's.
        tokens: of each sampled token of each other trajectory, in order; None if a turn's tokens share theirs.
        returns: what a critic should have said before each sampled token of each of them, None where it is not asked;
            None if there is no critic.
    """

    advantages: list[float | None]
    turns: list[list[float]] | None
    tokens: list[list[float]] | None = None
    returns: list[list[float | None]] | None = None


Assign = Callable[[Sequence[Trajectory], int, TrainingArgs, Foreseen], Credit]
"""``(trajectories, size of a group, args, what the model says of them) -> credit``."""


@dataclass(frozen=True)
class Method:
    """One way from rewards to credit.

    Attributes:
        assign: the credit of a batch whose groups are runs of so many trajectories.
        keys: the ``training_args`` that it reads, of those that only some methods read.
        groups: it compares the trajectories of a group, and so needs two at least.
        states: it compares turns in the same state, and so needs environments that report ``state_key``.
        critic: it asks a critic.
    """

    assign: Assign
    keys: tuple[str, ...]
    groups: bool = True
    states: bool = False
    critic: bool = False


def credit(trajectories: Sequence[Trajectory], size: int, config: Config, foreseen: Foreseen = NOTHING) -> Credit:
    """The advantages of a batch; groups are runs of ``size`` trajectories."""
    if config.rewards.normalise == "normalise_then_sum":
        earned = Credit(decoupled(trajectories, size), None)
    else:
        args = config.training_args
        earned = find_method(args.advantage).assign(trajectories, size, args, foreseen)
    return without_overlong(earned, trajectories) if config.training_args.mask_truncated_completions else earned


def overlong(trajectory: Trajectory) -> bool:
    """Whether the last answer was cut by its token limit, so that the reward says little of what was said."""
    return bool(trajectory.turns) and trajectory.turns[-1].finish_reason == "length"


def without_overlong(earned: Credit, trajectories: Sequence[Trajectory]) -> Credit:
    """The credit without overlong trajectories, from which then nothing is learned (DAPO, 2503.14476).

    Their rewards count in what the others were compared with.
    """
    kept = [not overlong(t) for t, a in zip(trajectories, earned.advantages, strict=True) if a is not None]
    advantages = [None if overlong(t) else a for t, a in zip(trajectories, earned.advantages, strict=True)]
    return Credit(advantages, _only(earned.turns, kept), _only(earned.tokens, kept), _only(earned.returns, kept))


def _only(rows: list[Row] | None, kept: Sequence[bool]) -> list[Row] | None:
    return None if rows is None else [row for row, ok in zip(rows, kept, strict=True) if ok]


def compared(estimator: BatchEstimator) -> Method:
    """Compare rewards by ``estimator``; the returns-to-go of turns too, if they have credit of their own."""

    def assign(trajectories: Sequence[Trajectory], size: int, args: TrainingArgs, foreseen: Foreseen) -> Credit:
        trajectories = charged(trajectories, foreseen)
        advantages = grouped(trajectories, size, estimator)
        if args.turn_baseline == "state":
            return Credit(advantages, state_level(trajectories, size, args.turn_discount))
        turns = None if args.turn_discount == 1 else turn_level(trajectories, size, args.turn_discount, estimator)
        return Credit(advantages, turns)

    return Method(assign, ("turn_discount", "turn_baseline"))


def grouped(trajectories: Sequence[Trajectory], size: int, estimator: BatchEstimator) -> list[float | None]:
    """Compare the rewards of trajectories."""
    valid = torch.tensor([t.valid for t in trajectories])
    values = estimator(torch.tensor(_rewards(trajectories), dtype=torch.float64), valid,
                       torch.tensor(_numbers(trajectories, size)))  # fmt: skip
    return [v if t.valid else None for t, v in zip(trajectories, values.tolist(), strict=True)]


def decoupled(trajectories: Sequence[Trajectory], size: int) -> list[float | None]:
    """Compare each plugin's scores in each group by themselves, then sum and scale over the batch (GDPO)."""
    names = list(dict.fromkeys(n for t in trajectories if t.record for n in t.record.scores))
    scores, applies, weights = [], [], []
    for t in trajectories:
        known = dict(t.record.scores) if t.valid and t.record else {}
        scores.append([known[n].value if n in known and known[n].valid else 0.0 for n in names])
        applies.append([n in known and known[n].valid for n in names])
        weights.append([t.record.weights.get(n, 0.0) if t.valid and t.record else 0.0 for n in names])
    values = gdpo(
        torch.tensor(scores, dtype=torch.float64), torch.tensor(applies), torch.tensor(weights, dtype=torch.float64),
        torch.tensor([t.valid for t in trajectories]), size,
    )  # fmt: skip
    return [v if t.valid else None for t, v in zip(trajectories, values.tolist(), strict=True)]


def turn_level(trajectories: Sequence[Trajectory], size: int, discount: float,
               estimator: BatchEstimator) -> list[list[float]]:
    """The advantage of each turn of each valid trajectory: discounted return-to-go, compared."""
    valid = [t.valid for t in trajectories]
    rows = by_turn([turn_rewards(t) for t in trajectories], valid, discount, estimator, _numbers(trajectories, size))
    return [row for row, ok in zip(rows, valid, strict=True) if ok]


def state_level(trajectories: Sequence[Trajectory], size: int, discount: float) -> list[list[float]]:
    """The advantage of each turn of each valid trajectory: return-to-go, compared with that of the same state.

    Raises:
        BadInput: if an environment says nothing of its state.
    """
    out: list[list[float]] = []
    for group in _groups(trajectories, size):
        valid = [t.valid for t in group]
        states = [_states(t, "turn_baseline", "state", "group") for t in group]
        rows = by_state([turn_rewards(t) for t in group], states, valid, discount)
        out += [row for row, ok in zip(rows, valid, strict=True) if ok]
    return out


def episode_and_step(trajectories: Sequence[Trajectory], size: int, args: TrainingArgs, foreseen: Foreseen) -> Credit:
    """GiGPO's credit for each turn; a trajectory's own is its episode's part.

    Raises:
        BadInput: if an environment says nothing of its state.
    """
    trajectories = charged(trajectories, foreseen)
    out: list[list[float]] = []
    for group in _groups(trajectories, size):
        valid = [t.valid for t in group]
        states = [_states(t, "advantage", "gigpo", "grpo") for t in group]
        rows = gigpo(_rewards(group), [turn_rewards(t) for t in group], states, valid, args.turn_discount,
                     args.gigpo_omega)  # fmt: skip
        out += [row for row, ok in zip(rows, valid, strict=True) if ok]
    return Credit(grouped(trajectories, size, in_groups(ESTIMATORS["dr_grpo"])), out)


def whitened(trajectories: Sequence[Trajectory], size: int, args: TrainingArgs, foreseen: Foreseen) -> Credit:
    """REINFORCE++'s credit for each sampled token; a trajectory's own is their mean."""
    valid = [t.valid for t in trajectories]
    rows = reinforce_pp([turn_rewards(t) for t in trajectories], [_lengths(t) for t in trajectories], valid,
                        args.token_discount, [charges_of(t, foreseen) for t in trajectories])  # fmt: skip
    means = [sum(row) / max(len(row), 1) if ok else None for row, ok in zip(rows, valid, strict=True)]
    return Credit(means, None, [row for row, ok in zip(rows, valid, strict=True) if ok])


def estimated(to_steps: ToSteps, discount: Callable[[TrainingArgs], float]) -> Assign:
    """GAE's credit over the steps of each trajectory, whitened over the batch; and what its critic should have said.

    A token's advantage is that of its step, a trajectory's own the mean of its steps'.
    """

    def assign(trajectories: Sequence[Trajectory], size: int, args: TrainingArgs, foreseen: Foreseen) -> Credit:
        steps = [to_steps(turn_rewards(t), _lengths(t), foreseen[t.id]) for t in trajectories if t.valid]
        rows = [gae(s.rewards, s.values, discount(args), args.gae_lambda) for s in steps]
        white = whiten(rows)
        means = iter([sum(row) / len(row) for row in white])
        return Credit(
            [next(means) if t.valid else None for t in trajectories], None,
            [s.on_tokens(row) for s, row in zip(steps, white, strict=True)],
            [s.on_first(returns(row, s.values)) for s, row in zip(steps, rows, strict=True)],
        )  # fmt: skip

    return assign


CRITIC_KEYS = ("gae_lambda", "critic_learning_rate", "value_coef", "value_clip")
METHODS: dict[str, Method] = {
    **{name: compared(in_groups(estimator)) for name, estimator in ESTIMATORS.items()},
    "batch_std": compared(batch_std),
    "reinforce_pp": Method(whitened, ("token_discount",), groups=False),
    "gigpo": Method(episode_and_step, ("turn_discount", "gigpo_omega"), states=True),
    "gae": Method(estimated(token_steps, lambda args: args.token_discount), ("token_discount", *CRITIC_KEYS),
                  groups=False, critic=True),
    "gae_turn": Method(estimated(turn_steps, lambda args: args.turn_discount), ("turn_discount", *CRITIC_KEYS),
                       groups=False, critic=True),
}
"""By ``training_args.advantage``."""

REGISTRY = Registry("advantage", "mmrl.advantages", dict(METHODS))


def find_method(ref: str, where: str = "") -> Method:
    """The method that ``ref`` names.

    Args:
        ref: one of :data:`METHODS`, an entry point of group ``mmrl.advantages``, ``module:function`` or
            ``path/file.py:function``; a function compares the rewards of one group, as those of
            :mod:`mmrl_agents.advantage` do.
        where: the place of the reference, for errors.

    Raises:
        BadInput: if there is no such advantage, or the function is no estimator.
    """
    found = REGISTRY.get(ref, where)
    return found if isinstance(found, Method) else compared(in_groups(_estimator(found, ref, where)))


def _estimator(found: object, ref: str, where: str) -> Estimator:
    probe = (torch.tensor([0.0, 1.0, 0.0, 3.0], dtype=torch.float64), torch.tensor([True, True, False, True]))
    what = f"{where}: " * bool(where) + f"advantage '{ref}'"
    return own_function(found, what, ("rewards", "valid"), probe, "the advantage of each trajectory of a group")


def no_states(env_id: str, key: str, value: str, instead: str) -> BadInput:
    """The error of an environment that says nothing of its state, where credit goes by state."""
    return BadInput(f"training_args.{key} is '{value}', but {env_id} reports no state_key; take '{instead}'")


def _states(trajectory: Trajectory, key: str, value: str, instead: str) -> list[str]:
    if not trajectory.valid:
        return [""] * len(trajectory.turns)
    if any("state_key" not in turn.info for turn in trajectory.turns):
        raise no_states(trajectory.env_id, key, value, instead)
    return [str(turn.info["state_key"]) for turn in trajectory.turns]


def turn_rewards(trajectory: Trajectory) -> list[float]:
    """The reward of each turn: the shares that the plugins gave, or all of it at the last turn."""
    n, record = len(trajectory.turns), trajectory.record
    if not trajectory.valid or record is None:
        return [0.0] * n
    return list(record.turns) if record.turns is not None else [*[0.0] * (n - 1), record.value]


def _lengths(trajectory: Trajectory) -> list[int]:
    """How many tokens were sampled in each turn."""
    return [len(turn.token_ids) for turn in trajectory.turns]


def _rewards(trajectories: Sequence[Trajectory]) -> list[float]:
    return [t.record.value if t.valid and t.record else 0.0 for t in trajectories]


def _numbers(trajectories: Sequence[Trajectory], size: int) -> list[int]:
    """The number of each trajectory's group."""
    return [i // size for i in range(len(trajectories))]


def _groups(trajectories: Sequence[Trajectory], size: int) -> list[Sequence[Trajectory]]:
    return [trajectories[i : i + size] for i in range(0, len(trajectories), size)]
