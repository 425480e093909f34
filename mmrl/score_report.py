"""What a second scoring says: plugin by plugin, of the reward, and of the rollouts that changed places.

Comes in: :class:`~mmrl.rescore.Rescored`.  Goes out: plain numbers and texts, as ``mmrl score --json`` prints them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mmrl.rescore import STATUSES, Rescored
from mmrl.score_stats import Reals, moves, no_spread, pearson, spearman, spearman_within, summary


def report(r: Rescored, top: int) -> dict[str, Any]:
    """All statistics of ``r``, JSON-able; None where a number is undefined.

    Args:
        r: the rollouts.
        top: how many of those that changed places to list.
    """
    return {
        "rollouts": len(r),
        "groups": len(np.unique(r.groups)),
        "broken": r.broken,
        "steps": [int(r.steps.min()), int(r.steps.max())] if len(r) else None,
        "plugins": {name: _plugin(r, name) for name in r.scores},
        "reward": _reward(r),
        "moved": _moved(r, top),
    }


def _plugin(r: Rescored, name: str) -> dict[str, Any]:
    counts = {status: int((r.status[name] == i).sum()) for i, status in enumerate(STATUSES)}
    return {
        **_column(r, r.scores[name]),
        "not_applicable": counts["not_applicable"],
        "failed": counts["failed"],
        "first_reason": {s: why for (plugin, s), why in r.reasons.items() if plugin == name},
        "correlation": {other: pearson(r.scores[name], r.scores[other]) for other in r.scores if other != name},
        "success": pearson(r.scores[name], r.success),
    }


def _column(r: Rescored, values: Reals) -> dict[str, Any]:
    found = summary(values)
    share, groups = no_spread(values, r.groups)
    return {"mean": found.mean, "spread": found.spread, "scored": found.count, "no_spread": share,
            "compared_groups": groups}  # fmt: skip


def _reward(r: Rescored) -> dict[str, Any]:
    within, groups = spearman_within(r.old, r.new, r.groups)
    return {
        "old": {**_column(r, r.old), "success": pearson(r.old, r.success)},
        "new": {**_column(r, r.new), "success": pearson(r.new, r.success)},
        "spearman": spearman(r.old, r.new),
        "spearman_within_groups": within,
        "ranked_groups": groups,
    }


def _moved(r: Rescored, top: int) -> dict[str, Any]:
    found = moves(r.old, r.new, r.groups)
    return {"rollouts": len(found.order), "top": [_move(r, int(i), found.old, found.new) for i in found.order[:top]]}


def _move(r: Rescored, i: int, old_ranks: Reals, new_ranks: Reals) -> dict[str, Any]:
    change = r.changed[i]
    return {
        "id": r.ids[i], "step": int(r.steps[i]),
        "old_rank": float(old_ranks[i]), "new_rank": float(new_ranks[i]),
        "old_reward": float(r.old[i]), "new_reward": float(r.new[i]),
        "plugin": None if change is None else change.plugin, "change": None if change is None else change.by,
    }  # fmt: skip
