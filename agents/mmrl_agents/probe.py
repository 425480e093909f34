"""Compares sampler and learner on some tokens of a batch where the update cannot: its tokens have older samplers too.

Comes in: trajectories that were sampled just now.  Goes out: :class:`mmrl_agents.mismatch.Gaps`, of the learner's way
to log-probabilities and the sampler's, both with the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from mmrl.trajectory import Trajectory
from mmrl_agents.batch import Segment, collate, segments_of
from mmrl_agents.logprobs import Scorer
from mmrl_agents.mismatch import Gaps, gaps_of

ROWS, SHARE = 8, 8
"""Segments that are compared, spread over the batch: at most so many, and one of so many; but one at least."""


@dataclass(frozen=True)
class Probe:
    """Asks the learner's side.

    Attributes:
        scorer: of a model with the weights that the sampler has.
        tokens: of one pass, padding included, at most (one row always goes): no more than in an update.
    """

    scorer: Scorer
    tokens: int

    @torch.no_grad()
    def compare(self, trajectories: Sequence[Trajectory]) -> Gaps:
        """The sums over the sampled tokens of some segments."""
        self.scorer.model.eval()
        segments = [s for i, t in enumerate(t for t in trajectories if t.valid) for s in segments_of(t, i)]
        found = Gaps()
        count = max(1, min(ROWS, len(segments) // SHARE))
        for rows in _passes(segments[:: max(1, len(segments) // count)][:count], self.tokens):
            none = torch.zeros(1 + max(s.trajectory for s in rows))
            b = collate(rows, none, none).to(self.scorer.model.device)
            found += gaps_of(self.scorer(b.ids, b.mask, b.images)[0] - b.mu, b.mu, b.mask)
        return found


def _passes(segments: Sequence[Segment], tokens: int) -> Iterator[list[Segment]]:
    """Segments that go together, the shortest first."""
    held: list[Segment] = []
    for segment in sorted(segments, key=lambda s: len(s.ids)):
        if held and (len(held) + 1) * len(segment.ids) > tokens:
            yield held
            held = []
        held.append(segment)
    if held:
        yield held
