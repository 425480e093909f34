"""How the processes of a run share out the passes of an update.

All cut the same segments into the same passes (the first one's, should a rounding error have made them differ), so that
what is computed together does not depend on who computes it; then the passes are dealt out.  Gradients are summed once,
after all passes, so that the processes need not have equally many.  Where weights are cut they must (a pass gathers
weights from all): who has fewer makes up for it with passes in which nothing is asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mmrl_agents.batch import Segment
from mmrl_agents.logprobs import Scorer
from mmrl_agents.packs import Limits
from mmrl_agents.processes import Processes
from mmrl_agents.shards import Shards
from mmrl_agents.sharing import Sharing

Passes = Sequence[tuple[Sequence[Segment], tuple[tuple[int, ...], ...]]]
"""Segments of one pass, and which of them are computed together."""
Table = list[list[float]]


def passes_of(segments: Sequence[Segment], sharing: Sharing, scorer: Scorer, limits: Limits, processes: Processes,
              shards: Shards) -> Passes:
    """One process's passes.

    Args:
        segments: of all processes, at least one.
        sharing: what they begin with in common.
        scorer: of the model that will compute them.
        limits: of a pass; with many processes fewer rows, so that hardly any is left without a pass.
        processes: that share the passes.
        shards: how they share the weights.
    """
    fewest = -(-len(segments) // processes.count)
    places = {id(s): i for i, s in enumerate(segments)}
    found = sharing.passes(segments, scorer, Limits(min(limits.rows, fewest), limits.tokens))
    cut = processes.of_first([([places[id(s)] for s in chunk], packs) for chunk, packs in found])
    mine = [([segments[i] for i in chunk], packs) for chunk, packs in processes.deal(cut)]
    missing = -(-len(cut) // processes.count) - len(mine) if shards.cut else 0
    return [*mine, *[([idle(segments[0])], ((0,),))] * missing]


def idle(segment: Segment) -> Segment:
    """The segment with nothing asked of it."""
    return dataclasses.replace(segment, mask=(False,) * len(segment.mask), turn=(-1,) * len(segment.turn))


def added(processes: Processes, tables: tuple[Table, Table, Table]) -> tuple[Table, Table, Table]:
    """Tables of which each process filled a part, the rest being 0."""
    first, second, third = zip(*processes.exchange(tables), strict=True)
    return _sum(first), _sum(second), _sum(third)


def _sum(parts: Sequence[Table]) -> Table:
    if len(parts) == 1:
        return parts[0]
    return [[sum(numbers) for numbers in zip(*rows, strict=True)] for rows in zip(*parts, strict=True)]
