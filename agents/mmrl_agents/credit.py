"""From rewards to credit: which advantage each trajectory, and each of its turns, learns with.

Comes in: scored trajectories, group after group.  Goes out: an advantage for each valid trajectory and, with
turn-level credit, one for each of its turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mmrl.config import Config
from mmrl.errors import BadInput
from mmrl.trajectory import Trajectory
from mmrl_agents.advantage import ESTIMATORS, by_state, by_turn, gdpo


@dataclass(frozen=True)
class Credit:
    """What a batch learns with.

    Attributes:
        advantages: of each trajectory; None for invalid ones.
        turns: of each turn of each valid trajectory, in order; None if every turn shares its trajectory's.
    """

    advantages: list[float | None]
    turns: list[list[float]] | None


def credit(trajectories: Sequence[Trajectory], size: int, config: Config) -> Credit:
    """The advantages of a batch; groups are runs of ``size`` trajectories."""
    args = config.training_args
    if config.rewards.normalise == "normalise_then_sum":
        return Credit(decoupled(trajectories, size), None)
    advantages = grouped(trajectories, size, args.advantage)
    if args.turn_baseline == "state":
        return Credit(advantages, state_level(trajectories, size, args.turn_discount))
    turns = None if args.turn_discount == 1 else turn_level(trajectories, size, args.turn_discount, args.advantage)
    return Credit(advantages, turns)


def grouped(trajectories: Sequence[Trajectory], size: int, name: str) -> list[float | None]:
    """Compare rewards in each group with the estimator ``name``."""
    out: list[float | None] = []
    for group in _groups(trajectories, size):
        valid = torch.tensor([t.valid for t in group])
        rewards = torch.tensor([t.record.value if t.valid and t.record else 0.0 for t in group], dtype=torch.float64)
        values = ESTIMATORS[name](rewards, valid).tolist()
        out += [v if t.valid else None for t, v in zip(group, values, strict=True)]
    return out


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


def turn_level(trajectories: Sequence[Trajectory], size: int, discount: float, name: str) -> list[list[float]]:
    """The advantage of each turn of each valid trajectory: discounted return-to-go, compared in its group."""
    out: list[list[float]] = []
    for group in _groups(trajectories, size):
        valid = [t.valid for t in group]
        rows = by_turn([turn_rewards(t) for t in group], valid, discount, ESTIMATORS[name])
        out += [row for row, ok in zip(rows, valid, strict=True) if ok]
    return out


def state_level(trajectories: Sequence[Trajectory], size: int, discount: float) -> list[list[float]]:
    """The advantage of each turn of each valid trajectory: return-to-go, compared with that of the same state.

    Raises:
        BadInput: if an environment says nothing of its state.
    """
    out: list[list[float]] = []
    for group in _groups(trajectories, size):
        valid = [t.valid for t in group]
        rows = by_state([turn_rewards(t) for t in group], [_states(t) for t in group], valid, discount)
        out += [row for row, ok in zip(rows, valid, strict=True) if ok]
    return out


def _states(trajectory: Trajectory) -> list[str]:
    if not trajectory.valid:
        return [""] * len(trajectory.turns)
    for turn in trajectory.turns:
        if "state_key" not in turn.info:
            raise BadInput(f"training_args.turn_baseline is 'state', but {trajectory.env_id} reports no state_key; "
                           "take 'group'")  # fmt: skip
    return [str(turn.info["state_key"]) for turn in trajectory.turns]


def turn_rewards(trajectory: Trajectory) -> list[float]:
    """The reward of each turn: the shares that the plugins gave, or all of it at the last turn."""
    n, record = len(trajectory.turns), trajectory.record
    if not trajectory.valid or record is None:
        return [0.0] * n
    return list(record.turns) if record.turns is not None else [*[0.0] * (n - 1), record.value]


def _groups(trajectories: Sequence[Trajectory], size: int) -> list[Sequence[Trajectory]]:
    return [trajectories[i : i + size] for i in range(0, len(trajectories), size)]
