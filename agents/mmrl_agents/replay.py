"""Replay: successes of earlier steps that later steps learn from again.

Comes in: each step's trajectories with their advantages.  Goes out: references to the best of them, which stand in a
checkpoint, and the trajectories themselves, which stand in the run's stored rollouts.

A replayed trajectory keeps the advantage that it had in its group when it was sampled, and the log-probabilities of
the policy that sampled it: the importance correction w = pi_old/mu then weighs each of its tokens by how much likelier
or unlikelier it has become.  Mixing fresh rollouts with replayed successes is RLEP's (2507.07451); replay in
group-relative policy optimisation with a ratio to the older sampler is RePO's (2506.09340), which compares replayed
answers with each other where this keeps the advantage of their first group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmrl.config import Config
from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.sampling_config import Replay
from mmrl.store import RunStore, read_trajectories
from mmrl.trajectory import Trajectory
from mmrl_agents.credit import find_method
from mmrl_agents.tasks import NOISE_REPLAY, Plan


@dataclass(frozen=True)
class Remembered:
    """One trajectory worth learning from again.

    Attributes:
        entry: the place in the config of its environment.
        step: the step that sampled it; its rollouts hold it.
        id: its name there.
        reward: what it earned.
        advantage: in its group, when it was sampled; above 0.
    """

    entry: int
    step: int
    id: str
    reward: float
    advantage: float


def check_replay(loaded: LoadedConfig) -> None:
    """Refuse to replay without a correction for the older policies that sampled, or beside a critic.

    Raises:
        BadInput: naming its place and what would be right.
    """
    args = loaded.config.training_args
    if loaded.config.replay is None:
        return
    if find_method(args.advantage).critic:
        raise BadInput(f"{loaded.where('replay')}: a replayed trajectory keeps the advantage that it had in its group, "
                       f"and advantage '{args.advantage}' goes by a critic; leave 'replay' out, or take an advantage "
                       "that compares groups, such as grpo")  # fmt: skip
    if args.importance_correction == "none":
        where = loaded.where("training_args", "importance_correction")
        raise BadInput(f"{where}: replay learns from what older policies sampled, and importance_correction 'none' "
                       "ignores that; take token, icepop or geometric, or leave 'replay' out")  # fmt: skip


def worth_remembering(step: int, trajectories: Sequence[Trajectory], advantages: Sequence[float | None],
                      entries: Sequence[int], size: int) -> list[Remembered]:
    """The valid successes of a step whose advantage is above 0.

    Args:
        step: the step.
        trajectories: all that ran, task after task.
        advantages: one each; None for invalid ones.
        entries: the place in the config of each task's environment.
        size: episodes of one task.
    """
    return [
        Remembered(entries[i // size], step, t.id, t.record.value, a)
        for i, (t, a) in enumerate(zip(trajectories, advantages, strict=True))
        if a is not None and a > 0 and t.success and t.record is not None
    ]


def best(known: Sequence[Remembered], replay: Replay | None) -> tuple[Remembered, ...]:
    """Each environment's ``size`` of highest reward, the newest first among equals; none without replay."""
    if replay is None:
        return ()
    ranked = sorted(sorted(known, key=lambda r: (r.step, r.id), reverse=True), key=lambda r: -r.reward)
    by_entry = ([r for r in ranked if r.entry == e] for e in sorted({r.entry for r in known}))
    return tuple(r for rows in by_entry for r in rows[: replay.size])


def replayed(known: Sequence[Remembered], config: Config, sizes: Plan, step: int) -> list[Remembered]:
    """Those that a step learns from again, drawn without replacement.

    Of a step of B = groups * size fresh trajectories there are ``round(B * share / (1 - share))``, so that they are
    ``share`` of a full update, or all that are known if these are fewer.
    """
    replay, seed = config.replay, config.training_args.seed
    if replay is None:
        return []
    wanted = round(sizes.groups * sizes.size * replay.share / (1 - replay.share))
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((NOISE_REPLAY, seed, step))))
    return [known[i] for i in rng.permutation(len(known))[:wanted]]


def replay_metrics(replay: Replay | None, known: Sequence[Remembered], again: Sequence[object]) -> dict[str, float]:
    """``replay/known`` and ``replay/used``: trajectories remembered before a step, and learned from again in it."""
    return {} if replay is None else {"replay/known": float(len(known)), "replay/used": float(len(again))}


class Library:
    """Fetches what is remembered from the run's stored rollouts, and keeps it at hand.

    Args:
        store: the run's.
    """

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._kept: dict[str, Trajectory] = {}

    def fetch(self, wanted: Sequence[Remembered]) -> list[tuple[Trajectory, float]]:
        """The trajectories with their advantages, in order.

        Raises:
            BadInput: if the run's rollouts lack one.
        """
        for step in sorted({r.step for r in wanted if r.id not in self._kept}):
            self._kept |= {t.id: t for t in read_trajectories(self._store.rollouts_of(step))}
        lost = next((r for r in wanted if r.id not in self._kept), None)
        if lost is not None:
            raise BadInput(f"{self._store.rollouts_of(lost.step)} lacks the episode {lost.id}, which is to be replayed")
        return [(self._kept[r.id], r.advantage) for r in wanted]

    def keep(self, trajectories: Sequence[Trajectory], known: Sequence[Remembered]) -> None:
        """Keep what is remembered at hand, fresh trajectories among it, and let go of the rest."""
        ids = {r.id for r in known}
        self._kept = {i: t for i, t in {**self._kept, **{t.id: t for t in trajectories}}.items() if i in ids}
