"""Stored trajectories as segments to imitate.

The text of each answer is rendered with the learner's own tokenizer, so that rollouts of any policy, the
expert's too, can be imitated.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmrl.episode import visible
from mmrl.image import Image
from mmrl.sample import Message
from mmrl.trajectory import Trajectory
from mmrl_agents.batch import Segment
from mmrl_agents.transcript import Transcript, shown


def imitation_segments(trajectory: Trajectory, index: int, transcript: Transcript, window: int | None,
                       keep: Sequence[bool] | None = None) -> list[Segment]:
    """Segments whose mask covers the answers.

    Args:
        trajectory: what to imitate.
        index: its index in the batch.
        transcript: renders with the learner's tokenizer.
        window: None: one whole transcript (if the template preserves prefixes); k: a segment a turn.
        keep: which turns to imitate; None: all.  The others stay in the context.
    """
    kept = list(keep) if keep is not None else [True] * len(trajectory.turns)
    if window is None and transcript.extends:
        return _whole(trajectory, index, transcript, kept)
    head = len(trajectory.sample.messages)
    out: list[Segment] = []
    for n, turn in enumerate(trajectory.turns):
        if kept[n]:
            seen = visible(trajectory.messages[: head + 2 * n], window)
            prompt, answer = transcript.answer(seen, turn.response)
            out.append(_segment([(prompt, False, n), (answer, True, n)], index, shown(seen)))
    return out


def _whole(trajectory: Trajectory, index: int, transcript: Transcript, keep: Sequence[bool]) -> list[Segment]:
    pieces: list[tuple[tuple[int, ...], bool, int]] = []
    ids: tuple[int, ...] = ()
    for n, turn in enumerate(trajectory.turns):
        prompt, answer = transcript.answer(trajectory.sample.messages, turn.response)
        if n > 0:
            prompt = transcript.extend_ended(ids, (Message("user", turn.observation),))
        pieces += [(prompt[len(ids) :], False, n), (answer, keep[n], n)]
        ids = (*prompt, *answer)
    seen = shown(trajectory.messages[:-1])  # the last message is an answer, or follows the last answer
    return [_segment(pieces, index, seen)] if any(keep) else []


def _segment(pieces: Sequence[tuple[tuple[int, ...], bool, int]], index: int, images: tuple[Image, ...]) -> Segment:
    ids = tuple(i for part, _, _ in pieces for i in part)
    mask = tuple(m for part, m, _ in pieces for _ in part)
    turn = tuple(n if m else -1 for part, m, n in pieces for _ in part)
    return Segment(ids, mask, (0.0,) * len(ids), turn, index, images)
