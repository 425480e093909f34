"""A knowledge base: facts from a JSONL file, found again by their sentence embeddings.

Comes in: a file of ``{"fact": "...", "id": "...", "source": "..."}`` lines, of which only ``fact`` must be there.  Goes
out: the facts nearest to a text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from mmrl.errors import BadInput
from mmrl_plugins._embedding import Vectors, embedder
from mmrl_plugins._lazy import Once

SAMPLE = "sample"
"""The name of the small knowledge base that comes with mmrl."""


@dataclass(frozen=True)
class Fact:
    """One line of a knowledge base; ``id`` is its line number where the line gives none."""

    text: str
    id: str
    source: str = ""


def read_facts(knowledge: Any) -> tuple[Fact, ...]:
    """Read a knowledge base.

    Args:
        knowledge: a file, or ``sample``.

    Raises:
        BadInput: with file and line of what is wrong.
    """
    if not isinstance(knowledge, str | Path):
        raise BadInput(f"knowledge is a JSONL file, or '{SAMPLE}', not {knowledge!r}")
    if knowledge == SAMPLE:
        path = Path(str(resources.files("mmrl_assets").joinpath("checks", "facts.jsonl")))
    else:
        path = Path(knowledge)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"knowledge: {path} cannot be read as UTF-8 text: {error}") from error
    facts = [_fact(line, f"{path}:{i}", i) for i, line in enumerate(lines, start=1) if line.strip()]
    if not facts:
        raise BadInput(f'knowledge: {path} holds no facts; a line is {{"fact": "Paris is the capital of France."}}')
    seen: set[str] = set()
    for fact in facts:
        if fact.id in seen:
            raise BadInput(f"knowledge: {path}: two facts have the id {fact.id!r}")
        seen.add(fact.id)
    return tuple(facts)


def _fact(line: str, where: str, number: int) -> Fact:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise BadInput(f"{where}: not JSON: {error}") from error
    if not isinstance(row, Mapping) or not isinstance(row.get("fact"), str) or not row["fact"].strip():
        raise BadInput(f'{where}: a line is {{"fact": "some text", "id": "...", "source": "..."}}, not {line[:60]}')
    for key in ("id", "source"):
        if not isinstance(row.get(key, ""), str | int):
            raise BadInput(f"{where}: {key} is text, not {row[key]!r:.60}")
    return Fact(row["fact"].strip(), str(row.get("id", number)), str(row.get("source", "")))


class Knowledge:
    """Facts with their embeddings.

    Args:
        facts: at least one.
        vectors: their embeddings; shape (facts, dimensions).
    """

    def __init__(self, facts: Sequence[Fact], vectors: Vectors) -> None:
        self.facts, self.vectors = facts, vectors

    def nearest(self, query: Vectors, top_k: int, min_similarity: float) -> list[tuple[Fact, float]]:
        """The facts nearest to a text.

        Args:
            query: the text's embedding; shape (dimensions,).
            top_k: how many at most.
            min_similarity: facts below this cosine are left out.

        Returns:
            Facts with cosine, nearest first; earlier lines first among equals.
        """
        cosines = np.round(np.clip(self.vectors @ query, -1.0, 1.0).astype(np.float64), 4)
        order = np.argsort(-cosines, kind="stable")[:top_k]
        return [(self.facts[i], float(cosines[i])) for i in order if cosines[i] >= min_similarity]


_INDEXED: Once[Knowledge] = Once()


def knowledge_of(facts: Sequence[Fact], model: str, device: str) -> Knowledge:
    """The facts with embeddings; made at the first call, then shared by the process."""
    digest = hashlib.sha256(repr(facts).encode("utf-8", "surrogatepass")).digest()

    def embed() -> Knowledge:
        return Knowledge(facts, embedder(model, device).encode_once([fact.text for fact in facts]))

    return _INDEXED.get((digest, model, device), embed)
