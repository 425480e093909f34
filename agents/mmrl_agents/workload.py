"""The worst moments of a run, in tokens: the heaviest micro-batch, the longest prompts, the fullest cache.

Comes in: played episodes.  Goes out: what :mod:`mmrl_agents.memory_plan` runs on a model of shapes.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from mmrl.config import Config
from mmrl.image import Image
from mmrl.trajectory import Trajectory, Turn
from mmrl_agents.batch import micro_batches, segments_of
from mmrl_agents.generate import CACHES, Row


@dataclass(frozen=True)
class Sampling:
    """The worst of sampling.

    Attributes:
        prompts: those that are computed at once; equal ones are computed once.
        rows: answers in one batch.
        batches: batches whose keys and values are kept.
        widths: tokens that a row's cache takes in, one forward pass after the other: a prompt, then an answer's tokens
            one by one, then what the environment said, and so on.
    """

    prompts: tuple[Row, ...]
    rows: int
    batches: int
    widths: tuple[int, ...]


@dataclass(frozen=True)
class Update:
    """The worst of an update.

    Attributes:
        segments: those of the heaviest micro-batch, each a trajectory of its own.
        micro_batches: how many there are; from the second on, gradients are there before it.
    """

    segments: tuple[Trajectory, ...]
    micro_batches: int


def update_of(config: Config, steps: Sequence[Sequence[Trajectory]], vocabulary: int, width: int) -> Update:
    """The heaviest micro-batch of some training steps.

    Args:
        config: the run's.
        steps: the trajectories of each.
        vocabulary: floats that a sampled token takes in the head's outputs, for the comparison.
        width: floats that a token takes in the layers, for the comparison.
    """
    args = config.training_args

    def weight(batch: Update) -> int:
        found = [segments_of(t, i)[0] for i, t in enumerate(batch.segments)]
        return max(len(s.ids) for s in found) * len(found) * width + sum(s.sampled for s in found) * vocabulary

    made: list[Update] = []
    for trajectories in steps:
        cut = [piece for t in trajectories for piece in _pieces(t)]
        segments = [segments_of(piece, i)[0] for i, piece in enumerate(cut)]
        batches = list(micro_batches(segments, args.per_device_train_batch_size, args.max_tokens_per_micro_batch))
        made += [Update(tuple(cut[s.trajectory] for s in batch), len(batches)) for batch in batches]
    return max(made, key=weight)


def _pieces(trajectory: Trajectory) -> list[Trajectory]:
    """A trajectory for each of its segments: the turns whose prompts go on from each other."""
    runs: list[list[Turn]] = []
    for turn in trajectory.turns:
        if runs and _goes_on(runs[-1][-1], turn):
            runs[-1].append(turn)
        else:
            runs.append([turn])
    return [dataclasses.replace(trajectory, id=f"{trajectory.id}.{i}", turns=tuple(r)) for i, r in enumerate(runs)]


def _goes_on(before: Turn, turn: Turn) -> bool:
    held = (*before.prompt_ids, *before.token_ids)
    return turn.prompt_ids[: len(held)] == held and turn.images[: len(before.images)] == before.images


def training_sampling(config: Config, steps: Sequence[Sequence[Trajectory]]) -> Sampling:
    """The worst of sampling some training steps' episodes: the longest cache, and the most tokens in fresh prompts."""
    rollout = config.rollout
    rows = min(rollout.concurrency, rollout.max_batch, max(map(len, steps)))
    turns = [t for trajectories in steps for t in _fresh(trajectories[:rows])]
    heaviest = max(turns, key=lambda prompts: len(set(prompts)) * max(len(ids) for ids, _ in prompts))
    made = tuple(Row(f"{i}", ids, (i,), 2, images) for i, (ids, images) in enumerate(heaviest))
    batches = -(-min(rollout.concurrency, max(map(len, steps))) // rollout.max_batch)
    return Sampling(made, rows, min(batches, CACHES), max((_longest(t) for t in steps), key=sum))


def _fresh(trajectories: Sequence[Trajectory]) -> list[list[tuple[tuple[int, ...], tuple[Image, ...]]]]:
    """The prompts that begin anew, turn by turn."""
    found: dict[int, list[tuple[tuple[int, ...], tuple[Image, ...]]]] = {}
    for t in trajectories:
        for n, turn in enumerate(t.turns):
            if n == 0 or not _goes_on(t.turns[n - 1], turn):
                found.setdefault(n, []).append((turn.prompt_ids, turn.images))
    return list(found.values())


def held_out_sampling(config: Config, trajectories: Sequence[Trajectory]) -> Sampling | None:
    """The worst of an evaluation: no two of its prompts are the same.  None if there is none."""
    count = max(config.eval.episodes, config.eval.final_episodes)
    if not count or not trajectories:
        return None
    rollout = config.rollout
    rows = min(rollout.concurrency, rollout.max_batch, count)
    longest = max((t.turns[0] for t in trajectories), key=lambda turn: len(turn.prompt_ids))
    # Ids of plain text in the places of the last three make the prompts different; images stay where they are.
    plain = sorted({i for t in trajectories for turn in t.turns for i in turn.token_ids})
    ends = itertools.islice(itertools.product(plain, repeat=3), rows)
    told = [(*longest.prompt_ids[:-3], *end) for end in ends]
    made = tuple(Row(f"{i}", ids, (i,), 2, longest.images) for i, ids in enumerate(told))
    batches = -(-min(rollout.concurrency, count) // rollout.max_batch)
    return Sampling(made, rows, min(batches, CACHES), _longest(trajectories))


def _longest(trajectories: Sequence[Trajectory]) -> tuple[int, ...]:
    """The longest course of a batch's cache."""
    return max((course(trajectories, n) for n in range(max(len(t.turns) for t in trajectories))), key=sum)


def course(trajectories: Sequence[Trajectory], begin: int) -> tuple[int, ...]:
    """What the cache of a batch takes in from a turn on, as long as prompts go on: each time the most of all rows.

    The last id of an answer goes in with what follows it.
    """
    widths: list[int] = []
    rows = [t.turns for t in trajectories if len(t.turns) > begin]
    for n in itertools.count(begin):
        turns = [r for r in rows if len(r) > n]
        goes_on = [len(r[n].prompt_ids) - len(r[n - 1].prompt_ids) - len(r[n - 1].token_ids) + 1 for r in turns
                   if n > begin and _goes_on(r[n - 1], r[n])]  # fmt: skip
        if not (goes_on or n == begin):
            return tuple(widths)
        widths.append(max(goes_on or [len(r[n].prompt_ids) for r in turns]))
        widths += [1] * (max(len(r[n].token_ids) for r in turns) - 1)
    return tuple(widths)


def growths(widths: Sequence[int]) -> list[int]:
    """The passes in which a cache that held nothing more than the first is given more room.

    Tokens that find no room make room for a quarter more (see :class:`mmrl_agents.kv_cache.SlabLayer`).
    """
    found, length, room = list[int](), widths[0], widths[0]
    for i, width in enumerate(widths[1:], 1):
        length += width
        if length > room:
            found.append(i)
            room = max(64, length + length // 4)
    return found
