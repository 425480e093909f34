"""A table of questions about images, every row and every image of it checked before the first episode.

Comes in: where the rows come from, how they are read, and what images may be.  Goes out: the rows that are sound, or
one line that names the first that is not.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from weakref import WeakValueDictionary

from mmrl.errors import BadInput
from mmrl.image import Image
from mmrl.image_rules import ImageRules, open_image
from mmrl_envs.rows import Numbered
from mmrl_envs.tables import shared
from mmrl_envs.vqa_item import Item, Layout, read_item
from mmrl_envs.vqa_source import Source
from mmrl_envs.vqa_split import WHOLE, Split, image_name

OnBadSample = Literal["error", "skip"]
ON_BAD_SAMPLE: tuple[OnBadSample, ...] = ("error", "skip")
BLOCK = 32
"""Rows that one thread checks at a time."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """Sound rows.

    Attributes:
        rows: all rows of the source.
        layout: how a row is read.
        rules: what images may be.
        sound: index into ``rows`` and sample id of each row that may be drawn, at least one.
        repeated: ids that several rows have.
        skipped: how many rows were left out because something is wrong with them.
    """

    rows: Sequence[Numbered]
    layout: Layout
    rules: ImageRules
    sound: tuple[tuple[int, str], ...]
    repeated: frozenset[str] = frozenset()
    skipped: int = 0
    _alive: WeakValueDictionary[str, Image] = field(default_factory=WeakValueDictionary, repr=False, compare=False)

    def item(self, index: int) -> tuple[int, Item]:
        """The number and the content of a row; ``index`` is one into ``rows``."""
        number, row = self.rows[index]
        return number, read_item(row, self.layout)

    def image(self, source: Any) -> Image:
        """The image of a row.  Episodes that show it at the same time share one, decoded and hashed once."""
        name = image_name(source, self.layout.root)
        image = self._alive.get(name)
        if image is None:
            image = self._alive[name] = open_image(source, self.rules)
        return image


@dataclass(frozen=True)
class _Verdict:
    """What the check of a row found: its id, or what is wrong."""

    id: str = ""
    problem: str = ""


def checked(source: Source, layout: Layout, rules: ImageRules, on_bad_sample: OnBadSample = "error",
            split: Split = WHOLE) -> Table:  # fmt: skip
    """The table of ``source``, read and checked once for all copies of the environment and all parts.

    Every row is read and every image decoded, in threads; nothing of the images is kept.

    Raises:
        BadInput: for the first row at fault, with its number, unless ``on_bad_sample`` is ``skip``; if no row is sound,
            or none is in the part.
    """
    key = ("vqa", source.key, layout.key, rules, on_bad_sample)
    if split.part == "all":
        return shared(key, lambda: _checked(source, layout, rules, on_bad_sample))

    def part() -> Table:
        table = checked(source, layout, rules, on_bad_sample)
        sound = tuple(entry for entry in table.sound if split.holds(entry[1]))
        if not sound:
            raise BadInput(f"{source.name}: part '{split.part}' holds none of its {len(table.sound):,} rows "
                           f"(eval_share {split.eval_share:g})")  # fmt: skip
        return replace(table, sound=sound)

    return shared((key, split), part)


def _checked(source: Source, layout: Layout, rules: ImageRules, on_bad_sample: OnBadSample) -> Table:
    rows = source.read()
    seen: dict[str, str] = {}
    blocks = [range(start, min(start + BLOCK, len(rows))) for start in range(0, len(rows), BLOCK)]
    with ThreadPoolExecutor(min(32, 2 * (os.cpu_count() or 1)), "mmrl-vqa") as pool:
        verdicts = [v for block in pool.map(lambda b: [_check(rows[i][1], layout, rules, seen) for i in b], blocks)
                    for v in block]  # fmt: skip
    bad = [i for i, verdict in enumerate(verdicts) if verdict.problem]
    sound = tuple((i, verdict.id) for i, verdict in enumerate(verdicts) if not verdict.problem)
    if bad and (on_bad_sample == "error" or not sound):
        first = f"{source.name}: row {rows[bad[0]][0]} of {len(rows):,}: {verdicts[bad[0]].problem}"
        if not sound:
            raise BadInput(first + (f" (no row of {len(rows):,} is sound)" if len(rows) > 1 else ""))
        more = f"{len(bad):,} rows are bad" if len(bad) > 1 else "the other rows are sound"
        raise BadInput(f"{first} ({more}; on_bad_sample: skip goes on without)")
    if bad:
        _log.warning("%s: %s of %s rows are skipped; the first is row %s: %s", source.name, f"{len(bad):,}",
                     f"{len(rows):,}", rows[bad[0]][0], verdicts[bad[0]].problem)  # fmt: skip
    repeated = frozenset(name for name, count in Counter(name for _, name in sound).items() if count > 1)
    return Table(rows, layout, rules, sound, repeated, len(bad))


def _check(row: Any, layout: Layout, rules: ImageRules, seen: dict[str, str]) -> _Verdict:
    """Read a row and decode its images; ``seen`` remembers what was found of each image."""
    try:
        item = read_item(row, layout)
        for source, name in zip(item.images, item.names, strict=True):
            if name not in seen:
                seen[name] = _problem_of(source, rules)
            if seen[name]:
                return _Verdict(problem=seen[name])
        return _Verdict(item.id)
    except BadInput as error:
        return _Verdict(problem=str(error))


def _problem_of(source: Any, rules: ImageRules) -> str:
    try:
        _ = open_image(source, rules).pixels
    except BadInput as error:
        return str(error)
    return ""
