"""What one update learns from: fresh trajectories and replayed ones, each with its advantage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmrl.trajectory import Trajectory
from mmrl_agents.credit import Credit


@dataclass(frozen=True)
class Lesson:
    """Trajectories to learn from and what they learn with; see :meth:`mmrl_agents.learner.Learner.update`.

    Attributes:
        trajectories: those with credit.
        advantages: one each.
        turns: of each turn of each trajectory; None if every turn shares its trajectory's.
        tokens: of each sampled token of each trajectory; None if a turn's tokens share theirs.
        returns: what a critic should have said before each of them; None without a critic.
    """

    trajectories: list[Trajectory]
    advantages: list[float]
    turns: list[list[float]] | None
    tokens: list[list[float]] | None
    returns: list[list[float | None]] | None = None


def lesson_of(batch: Sequence[Trajectory], earned: Credit) -> Lesson:
    """The trajectories of a batch that have credit, with it."""
    kept = [(t, a) for t, a in zip(batch, earned.advantages, strict=True) if a is not None]
    return Lesson([t for t, _ in kept], [a for _, a in kept], earned.turns, earned.tokens, earned.returns)


def without_advantage(ran: Sequence[Trajectory]) -> Lesson:
    """All valid trajectories, with nothing to learn from them but an entropy bonus."""
    valid = [t for t in ran if t.valid]
    return Lesson(valid, [0.0] * len(valid), None, None)


def with_replays(lesson: Lesson, replays: Sequence[tuple[Trajectory, float]]) -> Lesson:
    """The lesson with replayed trajectories after the fresh ones; all turns and tokens of one share its advantage.

    A critic knows nothing of replays: with one there are none (see :func:`mmrl_agents.replay.check_replay`).
    """
    turns = [[a] * len(t.turns) for t, a in replays]
    tokens = [[a] * sum(len(turn.token_ids) for turn in t.turns) for t, a in replays]
    return Lesson(
        [*lesson.trajectories, *(t for t, _ in replays)],
        [*lesson.advantages, *(a for _, a in replays)],
        None if lesson.turns is None else [*lesson.turns, *turns],
        None if lesson.tokens is None else [*lesson.tokens, *tokens],
        lesson.returns,
    )
