"""Names of samples, and which of them are held out: by a hash, so the same on every machine and in any order.

Comes in: a question and its images, or an id.  Goes out: a name; a place in [0, 1); a part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

from mmrl.errors import BadInput

Part = Literal["all", "train", "eval"]
PARTS: tuple[Part, ...] = ("all", "train", "eval")


def image_name(source: Any, root: Path | None = None) -> str:
    """What an image of a row is called: its path from ``root``, its address, or the hash of its bytes.

    Raises:
        BadInput: if it is none of these.
    """
    if isinstance(source, Mapping):
        source = source.get("bytes") or source.get("path")
    if isinstance(source, bytes | bytearray | memoryview):
        return f"sha256:{hashlib.sha256(source).hexdigest()}"
    if not isinstance(source, str):
        holds = "neither bytes nor a path" if source is None else f"a {type(source).__name__}"
        raise BadInput(f"an image is a path, an address, base64 or bytes, not {holds}")
    if source.startswith("data:") or len(source) > 1024:
        return f"sha256:{hashlib.sha256(source.encode('utf-8', 'surrogatepass')).hexdigest()}"
    if "://" in source:
        return source
    path = PurePath(source)
    # The same data in another folder keeps its names.
    if root is not None and path.is_absolute() and path.is_relative_to(root.resolve()):
        path = path.relative_to(root.resolve())
    return path.as_posix()


def content_id(question: str, images: Sequence[str]) -> str:
    """A name that follows from the question and the images' names: 16 hex digits."""
    return hashlib.sha256(json.dumps([question, *images]).encode()).hexdigest()[:16]


def place(sample_id: str) -> float:
    """Where a sample stands in [0, 1): uniform over ids, and fixed for each."""
    return int.from_bytes(hashlib.sha256(f"split:{sample_id}".encode("utf-8", "surrogatepass")).digest()[:6]) / 2**48


@dataclass(frozen=True)
class Split:
    """One part of a table.

    Attributes:
        part: ``all``, or ``eval`` for the samples placed below ``eval_share``, or ``train`` for the others.
        eval_share: the share of samples that is held out, above 0 and below 1.
    """

    part: Part = "all"
    eval_share: float = 0.1

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise BadInput(f"part is one of {', '.join(PARTS)}, not {self.part!r}")
        if not 0 < self.eval_share < 1:
            raise BadInput(f"eval_share is a number between 0 and 1, not {self.eval_share!r}")

    def holds(self, sample_id: str) -> bool:
        """Whether the sample belongs to the part."""
        return self.part == "all" or (place(sample_id) < self.eval_share) == (self.part == "eval")


WHOLE = Split()
