"""The mix of environments, and how it follows their success.

Comes in: the environments' weights and how often episodes of each have succeeded.  Goes out: the weights of the next
step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mmrl.config import Config, EnvironmentConfig
from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.sampling_config import Curriculum


def check_curriculum(loaded: LoadedConfig) -> None:
    """Refuse a curriculum over a single environment.

    Raises:
        BadInput: naming its place and what would be right.
    """
    if loaded.config.curriculum is not None and len(loaded.config.environments) < 2:
        raise BadInput(f"{loaded.where('curriculum')}: a curriculum weighs environments against each other; list two "
                       "or more in 'environments' (one id with other kwargs will do), or leave it out")  # fmt: skip


def learnability(success: float | None, floor: float) -> float:
    """``max(floor, 4 p (1 - p))``: how much an environment of success p teaches, in [floor, 1].

    ``p (1 - p)`` is the variance of success; it is what sampling for learnability goes by (2408.15099, for language
    models 2502.12272).  An environment that is not known yet (None) counts in full.
    """
    return 1.0 if success is None else max(floor, 4 * success * (1 - success))


def mix_weights(config: Config, success: Sequence[float | None]) -> list[float]:
    """The weight of each environment: its own or, with a curriculum, that times its :func:`learnability`."""
    own = [e.weight for e in config.environments]
    if config.curriculum is None:
        return own
    floor = config.curriculum.floor
    return [w * learnability(p, floor) for w, p in zip(own, success, strict=True)]


def followed(curriculum: Curriculum | None, before: Sequence[float | None],
             now: Sequence[float | None]) -> tuple[float | None, ...]:
    """The smoothed success of each environment after a step: ``p = smoothing * p + (1 - smoothing) * now``.

    The first success that is known is taken as it is; an environment that had no episodes (None) stays as it was.
    """
    if curriculum is None:
        return tuple(before)
    s = curriculum.smoothing
    return tuple(
        p if x is None else x if p is None else s * p + (1 - s) * x for p, x in zip(before, now, strict=True)
    )


def success_by_entry(entries: Sequence[int], wins: Sequence[bool], size: int, count: int) -> list[float | None]:
    """The share of successes of each environment in a step; None where it had no episodes.

    Args:
        entries: the place in the config of each task's environment.
        wins: whether each episode succeeded, task after task.
        size: episodes of one task.
        count: environments of the config.
    """
    by_entry: list[list[bool]] = [[] for _ in range(count)]
    for i, won in enumerate(wins):
        by_entry[entries[i // size]].append(won)
    return [sum(row) / len(row) if row else None for row in by_entry]


def mix_metrics(environments: Sequence[EnvironmentConfig], weights: Sequence[float],
                success: Sequence[float | None]) -> dict[str, float]:
    """Numbers of each environment of a mix.

    Returns:
        ``mix/<env id>`` (the probability that a task of this step was of it) and, where it had episodes,
        ``success/<env id>``; nothing where there is only one environment.
    """
    if len(environments) < 2:
        return {}
    names, total = entry_names(environments), sum(weights)
    known = {f"success/{name}": p for name, p in zip(names, success, strict=True) if p is not None}
    return {f"mix/{name}": w / total for name, w in zip(names, weights, strict=True)} | known


def entry_names(environments: Sequence[EnvironmentConfig]) -> list[str]:
    """A name for each environment: its id, numbered from the second of an id on."""
    seen = Counter[str]()
    out: list[str] = []
    for e in environments:
        seen[e.id] += 1
        out.append(e.id if seen[e.id] == 1 else f"{e.id}#{seen[e.id]}")
    return out
