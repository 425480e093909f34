"""What is said of each episode of an evaluation: one JSON object a line, so that a figure can be checked case by case.

Comes in: evaluated trajectories.  Goes out: JSON Lines, and those as records again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from mmrl.errors import BadInput
from mmrl.trajectory import Trajectory


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode.

    Attributes:
        env: the environment's id.
        seed: the seed given to ``reset``.
        success: whether the environment called it a success.
        episode_return: the undiscounted sum of the environment's rewards.
        turns: its length.
        invalid: actions that the environment did not understand.
        error: the exception that ended it, or None.
    """

    env: str
    seed: int
    success: bool
    episode_return: float
    turns: int
    invalid: int
    error: str | None = None


def record_of(trajectory: Trajectory) -> EpisodeRecord:
    """What is said of an episode."""
    infos = [t.info for t in trajectory.turns]
    return EpisodeRecord(
        env=trajectory.env_id,
        seed=trajectory.seed,
        success=trajectory.success,
        episode_return=round(trajectory.env_return, 6),
        turns=len(infos),
        invalid=sum(not info.get("valid_action", True) for info in infos),
        error=trajectory.error,
    )


def to_lines(records: Iterable[EpisodeRecord]) -> bytes:
    """JSON Lines, one episode a line."""
    return "".join(json.dumps(asdict(r), ensure_ascii=False) + "\n" for r in records).encode()


def read_records(path: Path) -> list[EpisodeRecord]:
    """The records of a file that :func:`to_lines` made.

    Raises:
        BadInput: naming the line that is none.
    """
    out: list[EpisodeRecord] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):  # of text it would end at U+2028 too
        try:
            out.append(EpisodeRecord(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise BadInput(f"{path}:{number}: no record of an episode ({error}); mmrl eval --records writes "
                           "them") from error  # fmt: skip
    return out
