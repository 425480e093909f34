"""What a policy that is paid for has used: requests, tokens, and their price.

Comes in: tokens of each answer.  Goes out: one line, or a JSON object, at the end of a command.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True)
class Usage:
    """What was used.

    Attributes:
        requests: that were answered.
        prompt_tokens: that were read; ``completion_tokens``: that were written, thoughts included.
        cost: of them, in the currency of the prices; None where no price is known.
    """

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """A JSON-able dict."""
        return asdict(self)

    def __str__(self) -> str:
        said = (f"{self.requests:,} requests, {self.prompt_tokens:,} prompt tokens, {self.completion_tokens:,} "
                "completion tokens")  # fmt: skip
        return said if self.cost is None else f"{said}, cost {self.cost:.4f}"


@runtime_checkable
class Metered(Protocol):
    """A policy that counts what it uses."""

    @property
    def usage(self) -> Usage:
        """What it has used so far."""
        ...
