"""Where the tokens of packed rows stand.

Comes in: rows, and which of them are computed together.  Goes out: ids, one line a pack, in which what rows begin with
in common stands once; for every token of every row its slot; and which slots may see which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mmrl.image import Image
from mmrl_agents.packs import Row, common


@dataclass(frozen=True)
class Layout:
    """Packed rows.

    Attributes:
        ids: right-padded with 0.
        images: of each pack, in the order of their tokens; empty if no pack has any.
        depth: the place in its row of each slot's token; 0 in the padding.
        sees: which slots (last) each slot attends to: its row's up to itself; None if each simply sees all before it.
        pack: of each row.
        slot: of each token of each row; right-padded with 0.
        rows: what was packed.
    """

    ids: Int[Tensor, "packs slots"]
    images: tuple[tuple[Image, ...], ...]
    depth: Int[Tensor, "packs slots"]
    sees: Bool[Tensor, "packs slots slots"] | None
    pack: Int[Tensor, " rows"]
    slot: Int[Tensor, "rows length"]
    rows: tuple[Row, ...]


def lay_out(rows: Sequence[Row], packs: Sequence[Sequence[int]], device: torch.device) -> Layout:
    """Pack rows.

    Args:
        rows: what to pack.
        packs: the rows of each pack, sorted by symbols; together all rows, each once.
        device: of the tensors.
    """
    trees = [_Tree([rows[i] for i in members]) for members in packs]
    width, length = max(t.size for t in trees), max(len(r.ids) for r in rows)
    place = {row: (p, n) for p, members in enumerate(packs) for n, row in enumerate(members)}
    slots = [trees[p].paths[n] for p, n in (place[i] for i in range(len(rows)))]
    sees = torch.stack([t.sees(width) for t in trees]).to(device) if any(t.branches for t in trees) else None
    return Layout(
        ids=torch.tensor([_padded(t.ids, width) for t in trees], device=device),
        images=tuple(tuple(t.images) for t in trees) if any(t.images for t in trees) else (),
        depth=torch.tensor([_padded(t.depth, width) for t in trees], device=device),
        sees=sees,
        pack=torch.tensor([place[i][0] for i in range(len(rows))], device=device),
        slot=torch.tensor([_padded(s, length) for s in slots], device=device),
        rows=tuple(rows),
    )


class _Tree:
    """The rows of one pack, walked in order.

    Attributes:
        paths: the slots of each row.
        ids: of each slot; ``depth``: its place in its row.
        images: those that stand in the slots.
        branches: whether a row does not go on from the one before.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.paths: list[list[int]] = []
        self.ids: list[int] = []
        self.depth: list[int] = []
        self.images: list[Image] = []
        self.branches = False
        before: Row | None = None
        for row in rows:
            both = 0 if before is None else common(before.symbols, row.symbols)
            path = self.paths[-1][:both] if self.paths else []
            self.branches |= before is not None and both < len(before.symbols)
            self.paths.append([*path, *range(self.size, self.size + len(row.ids) - both)])
            self.ids += row.ids[both:]
            self.depth += range(both, len(row.ids))
            self.images += row.images[sum(start < both for start in row.starts) :]
            before = row

    @property
    def size(self) -> int:
        """Tokens so far."""
        return len(self.ids)

    def sees(self, width: int) -> Bool[Tensor, "width width"]:
        """Which slots each slot attends to; those of the padding see themselves."""
        seen = torch.eye(width, dtype=torch.bool)
        done = 0
        for path in self.paths:
            new = [n for n, slot in enumerate(path) if slot >= done]
            if new:
                causal = torch.arange(len(path)) <= torch.tensor(new)[:, None]
                seen[path[new[0]] : path[new[-1]] + 1, torch.tensor(path)] = causal
                done = path[-1] + 1
        return seen


def _padded(items: Sequence[int], width: int) -> list[int]:
    return [*items, *[0] * (width - len(items))]
