"""What the model says of a batch of trajectories before it learns from it: some credit needs to know.

Comes in: log-probabilities and values of sampled tokens, from one pass.  Goes out: the KL charge of each token, and
trajectories whose rewards are less by it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from mmrl.trajectory import Trajectory
from mmrl_agents.token_reward import by_turn


@dataclass(frozen=True)
class Foresight:
    """What is known of one trajectory; a number for each of its sampled tokens.

    Attributes:
        old: log-probabilities under the policy as it stands.
        values: what the critic expects from before the token on; empty without a critic.
        divergence: ``log pi_old - log ref`` (k1); empty unless KL is taken off the reward.
        charges: what that costs: ``kl_coef`` times the divergence; empty likewise.
    """

    old: tuple[float, ...]
    values: tuple[float, ...] = ()
    divergence: tuple[float, ...] = ()
    charges: tuple[float, ...] = ()


Foreseen = Mapping[str, Foresight]
"""By the id of the trajectory; empty if no credit asks for it, and without those that are not valid."""
NOTHING: Foreseen = {}


def foresight(old: Sequence[float], values: Sequence[float], ref: Sequence[float], kl_coef: float) -> Foresight:
    """What is known of one trajectory; its tokens are charged ``kl_coef (log pi_old - log ref)``, without one nothing.

    Args:
        old: log-probabilities of its sampled tokens under the policy.
        values: the critic's; empty without one.
        ref: log-probabilities under the reference; unused if ``kl_coef`` is 0.
        kl_coef: 0 or more.
    """
    divergence = tuple(o - r for o, r in zip(old, ref, strict=True)) if kl_coef > 0 else ()
    return Foresight(tuple(old), tuple(values), divergence, tuple(kl_coef * d for d in divergence))


def charges_of(trajectory: Trajectory, foreseen: Foreseen) -> tuple[float, ...]:
    """What each sampled token of a trajectory is charged; empty: nothing."""
    return foreseen[trajectory.id].charges if trajectory.id in foreseen else ()


def charged(trajectories: Sequence[Trajectory], foreseen: Foreseen) -> list[Trajectory]:
    """The trajectories, their rewards less what their tokens are charged.

    A trajectory's reward loses the sum over all of its sampled tokens, the share of each turn that over its own.
    """
    return [_less(t, charges_of(t, foreseen)) for t in trajectories]


def _less(trajectory: Trajectory, charges: Sequence[float]) -> Trajectory:
    record = trajectory.record
    if not charges or record is None:
        return trajectory
    own = [math.fsum(row) for row in by_turn(charges, [len(turn.token_ids) for turn in trajectory.turns])]
    shares = record.turns if record.turns is not None else (*[0.0] * (len(own) - 1), record.value)
    turns = tuple(share - charge for share, charge in zip(shares, own, strict=True))
    less = dataclasses.replace(record, value=record.value - math.fsum(charges), turns=turns)
    return dataclasses.replace(trajectory, record=less)


def kl_metrics(foreseen: Foreseen) -> dict[str, float]:
    """``kl``, the mean divergence of a token, and ``kl_charge``, the mean charge of a trajectory; {} without any."""
    rows = [f for f in foreseen.values() if f.divergence]
    if not rows:
        return {}
    return {"kl": fmean(d for f in rows for d in f.divergence), "kl_charge": fmean(math.fsum(f.charges) for f in rows)}
