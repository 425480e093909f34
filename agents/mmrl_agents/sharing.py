"""Whether, and how, the rows of an update share what they begin with.

Comes in: the segments of a step.  Goes out: passes over packs of them.  A model that can be shown a tree of tokens
computes a common beginning once; before it first does so, two real segments are scored both ways.  Where the two ways
do not agree, or cannot, segments share nothing but what one of them has whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch

from mmrl.errors import one_line
from mmrl_agents.batch import Segment, collate
from mmrl_agents.decoder import base_of, evaluating
from mmrl_agents.kv_cache import can_keep
from mmrl_agents.logprobs import Scorer
from mmrl_agents.packing import rows_to_read
from mmrl_agents.packs import PLAIN, Cost, Limits, Pack, Row, common, partition, passes
from mmrl_agents.reading import TOLERANCE


class Sharing:
    """Decides once, on the first segments that would share, and says so.

    Args:
        wanted: whether to share at all.
        say: is told the decision, in a line.
    """

    def __init__(self, wanted: bool = True, say: Callable[[str], None] = lambda line: None) -> None:
        self._say = say
        self._cost: Cost | None = None if wanted else PLAIN

    def passes(self, segments: Sequence[Segment], scorer: Scorer, limits: Limits) -> Iterator[
            tuple[list[Segment], tuple[tuple[int, ...], ...]]]:
        """Cut segments into passes.

        Args:
            segments: at least one.
            scorer: of the model that will compute them.
            limits: of a pass.

        Yields:
            Segments, and which of them are computed together, by their place among them.
        """
        rows = rows_to_read([s.ids for s in segments], [s.mask[1:] for s in segments], [s.images for s in segments],
                            scorer.feed)  # fmt: skip
        for held in passes(self._packs(segments, rows, scorer, limits), limits):
            members = [i for pack in held for i in pack.rows]
            place = {i: n for n, i in enumerate(members)}
            yield [segments[i] for i in members], tuple(tuple(place[i] for i in pack.rows) for pack in held)

    def _packs(self, segments: Sequence[Segment], rows: Sequence[Row], scorer: Scorer, limits: Limits) -> list[Pack]:
        packs = partition(rows, self._cost or cost_of(scorer.model), limits)
        branching = next((p for p in packs if p.branches), None)
        if self._cost is not None or branching is None:
            return packs
        apart, why = _check([segments[i] for i in _pair(branching, rows)], scorer)
        if why:
            self._cost = PLAIN
            self._say(f"prefix sharing: off: {why}")
            return partition(rows, PLAIN, limits)
        self._cost = cost_of(scorer.model)
        times = sum(len(r.ids) for r in rows) / sum(p.tokens for p in packs)
        fewer = f"{times:.1f} times fewer tokens" if times >= 1.05 else "which is hardly anything here"
        self._say(f"prefix sharing: on; what rows begin with in common is computed once, {fewer} "
                  f"(log-probabilities with it and without differ by {apart:.0e})")  # fmt: skip
        return packs


def cost_of(model: Any) -> Cost:
    """What a pack costs a model: a weight takes two operations a token, a pair of tokens four a channel a layer."""
    base = base_of(model)
    text, decoder = base.config.get_text_config(), base.get_decoder()
    ends = [part for part in (base.get_input_embeddings(), base.get_output_embeddings()) if part is not None]
    outside = {id(p) for part in ends for p in part.parameters()}
    weights = sum(p.numel() for p in decoder.parameters() if p.ndim > 1 and id(p) not in outside)
    return Cost(max(1.0, 2 * weights / (4 * text.num_hidden_layers * text.hidden_size)))


def _pair(pack: Pack, rows: Sequence[Row]) -> tuple[int, int]:
    """Two rows of a pack of which the second does not go on from the first."""
    symbols = {i: rows[i].symbols for i in pack.rows}
    return next((a, b) for a, b in pairwise(pack.rows) if common(symbols[a], symbols[b]) < len(symbols[a]))


@torch.no_grad()
def _check(pair: Sequence[Segment], scorer: Scorer) -> tuple[float, str]:
    """How far the two ways lie apart on two segments, and why they must not be taken for one; empty if they may.

    Log-probabilities suffice: both ways run the same modules on the same weights and differ in what is attended to and
    in positions alone, so a gradient that differs comes with values that differ.  They may lie apart by the tolerance
    times 1 + the size of the log-probability.
    """
    if not can_keep(scorer.model):
        return 0.0, "not every layer of the model attends to all earlier tokens"
    none = torch.zeros(1 + max(s.trajectory for s in pair))
    b = collate(pair, none, none).to(scorer.model.device)
    with evaluating(scorer.model):
        plain = scorer(b.ids, b.mask, b.images, [(0,), (1,)])[0]
        try:
            shared = scorer(b.ids, b.mask, b.images, [(0, 1)])[0]
        except Exception as error:  # whatever a model's own code raises on being fed in this way
            return 0.0, f"the model cannot be shown a tree of tokens ({one_line(error)})"
    apart = (shared - plain).abs()
    within = apart <= TOLERANCE[scorer.dtype] * (1 + plain.abs())
    worst = float(apart.max())
    return worst, "" if bool(within.all()) else f"the two paths differ by {worst:.0e} in a log-probability"
