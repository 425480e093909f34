"""Which rows are computed together, so that what they begin with in common is computed once.

Comes in: rows of ids, with the images among them.  Goes out: packs.  A pack is a run of rows in sorted order, which is
a tree of ids walked depth first: of every row only what goes beyond the row before it is new.  A pack in which every
row goes on from the one before is a chain, and plain causal attention serves it; in a pack that branches each token
must be shown its own row alone, which costs attention between all of the pack's tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mmrl.image import Image

MASK_TOKENS = 4096
"""Tokens of a pack that branches, at most: its mask has this many squared entries."""


@dataclass(frozen=True)
class Row:
    """What of a row the model reads.

    Attributes:
        ids: all ids before the last one that is asked for; at least one.
        images: those among the ids, in order.
        symbols: the ids, but in the place of an image's tokens a negative number that names the image; two rows begin
            alike where their symbols do.
        starts: the place of each image's first token.
    """

    ids: tuple[int, ...]
    images: tuple[Image, ...]
    symbols: tuple[int, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True)
class Pack:
    """Rows that are computed together.

    Attributes:
        rows: their indices, sorted by symbols.
        tokens: how many tokens are computed.
        new: how many of the rows have a token that no row before them has.
        branches: whether a row does not go on from the one before.
    """

    rows: tuple[int, ...]
    tokens: int
    new: int
    branches: bool


@dataclass(frozen=True)
class Limits:
    """How much one pass holds: rows that differ, and tokens, padding included.  One row always goes."""

    rows: int
    tokens: int


@dataclass(frozen=True)
class Cost:
    """What a pack costs, in the time of one token.

    Attributes:
        pairs: how many pairs of tokens attention can compare in that time.
        widest: tokens of a pack that branches, at most; 0: none may.
    """

    pairs: float
    widest: int = MASK_TOKENS

    def of(self, pack: Pack) -> float:
        """``tokens + tokens^2 / pairs``, the square halved where attention is plainly causal."""
        return pack.tokens + pack.tokens**2 / (self.pairs if pack.branches else 2 * self.pairs)


PLAIN = Cost(float("inf"), widest=0)
"""For models that cannot be shown a tree: chains alone."""


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """With how many equal items two sequences begin."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def partition(rows: Sequence[Row], cost: Cost, limits: Limits) -> list[Pack]:
    """Cut the rows, sorted by symbols, into the runs that cost least together.

    The tokens of a run are the lengths of its rows, less what each has in common with the row before it.

    Args:
        rows: in any order, which does not change what is computed with what.
        cost: of a pack.
        limits: of a pack.
    """
    order = sorted(range(len(rows)), key=lambda i: rows[i].symbols)
    best: list[tuple[float, Pack | None]] = [(0.0, None)]
    shared = [0, *(common(rows[a].symbols, rows[b].symbols) for a, b in pairwise(order))]
    for end in range(1, len(order) + 1):
        runs = _runs(rows, order, shared, end, cost, limits)
        best.append(min(((best[end - len(p.rows)][0] + cost.of(p), p) for p in runs), key=lambda found: found[0]))
    packs: list[Pack] = []
    end = len(order)
    while (pack := best[end][1]) is not None:
        packs.append(pack)
        end -= len(pack.rows)
    return packs[::-1]


def _runs(rows: Sequence[Row], order: Sequence[int], shared: Sequence[int], end: int, cost: Cost,
          limits: Limits) -> Iterator[Pack]:  # fmt: skip
    """The runs that end before ``end``, shortest first, as long as they are within the limits."""
    pack = Pack((order[end - 1],), len(rows[order[end - 1]].symbols), 1, False)
    yield pack
    for at in range(end - 2, -1, -1):
        row, follower, both = rows[order[at]].symbols, rows[order[at + 1]].symbols, shared[at + 1]
        pack = Pack(
            rows=(order[at], *pack.rows),
            tokens=pack.tokens + len(row) - both,
            new=pack.new + (len(follower) > both),
            branches=pack.branches or both < len(row),
        )
        too_wide = pack.branches and pack.tokens > min(limits.tokens, cost.widest)  # a chain is as long as its last row
        if not both or pack.new > limits.rows or too_wide:
            return
        yield pack


def passes(packs: Sequence[Pack], limits: Limits) -> Iterator[list[Pack]]:
    """Put packs, longest first, into passes within the limits; those that branch apart from the others."""
    held: list[Pack] = []
    for pack in sorted(packs, key=lambda p: (not p.branches, -p.tokens)):
        more = [*held, pack]
        fits = sum(p.new for p in more) <= limits.rows and len(more) * more[0].tokens <= limits.tokens
        if held and not (fits and pack.branches == held[0].branches):
            yield held
            more = [pack]
        held = more
    if held:
        yield held
