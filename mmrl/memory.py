"""How much memory a run will take, and what would make it less (frozen data)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Phase:
    """One phase of a run.

    Attributes:
        name: what happens.
        parts: bytes held at its worst moment, by what they hold.
    """

    name: str
    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        """Bytes at its worst moment."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Turned:
    """A setting turned.

    Attributes:
        settings: the overrides, as ``key.path=value`` words.
        peak: bytes of the run's worst moment with it, and with those turned before it.
        price: what it costs.
    """

    settings: tuple[str, ...]
    peak: int
    price: str


@dataclass(frozen=True)
class MemoryPlan:
    """What a run will take on its device.

    Attributes:
        device: where.
        phases: of the run.
        basis: what the figures rest on, a line each.
        turned: settings that bring the peak under a given limit, in order; empty if it is, or none was given.
    """

    device: str
    phases: tuple[Phase, ...]
    basis: tuple[str, ...] = ()
    turned: tuple[Turned, ...] = ()

    @property
    def peak(self) -> int:
        """Bytes at the worst moment of all phases."""
        return max(phase.total for phase in self.phases)
