"""What a run takes of memory: parts that lie there all the time, and what its phases put on top.

Comes in: bytes, from a learner that can tell before it loads a model.  Goes out: peaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mmrl.config_load import LoadedConfig


@dataclass(frozen=True)
class MemoryPlan:
    """The memory of one device, in bytes.

    Attributes:
        weights: of the policy.
        reference: of the frozen reference policy; 0 where there is none, or it is the policy without its adapter.
        optimizer: the optimiser's state.
        gradients: of all that learns.
        activations: what a pass of an update keeps for its backward pass, the head's logits included, at its peak.
        kept: how much of the gradients is there at that peak: all where a step has several passes, 0 where it has one,
            whose gradients come as its activations go.
        cache: keys and values while sampling.
        work: what sampling takes beside them, at its peak.
        best: a second set of weights: the best checkpoint, evaluated after the last step.
        base: of the process before it holds any of that; 0 where it is not on the device.
        notes: each of these in words, by its name.
        tokens: of the largest pass of an update; ``rows``: answers sampled at once; ``length``: tokens of the longest.
        sampler: weights of its own and, on the host, earlier versions of them, where a run samples while it learns; 0
            where it does one after the other.
    """

    weights: int
    reference: int
    optimizer: int
    gradients: int
    activations: int
    kept: int
    cache: int
    work: int
    best: int
    base: int
    notes: dict[str, str]
    tokens: int
    rows: int
    length: int
    sampler: int = 0

    @property
    def phases(self) -> dict[str, int]:
        """The peak of each phase.

        ``sampling``, ``learning``, ``evaluating the best``; ``sampling and learning`` in the place of the first two
        where they go on at the same time.
        """
        resident = self.base + self.weights + self.sampler + self.reference + self.optimizer
        sampling, learning = self.cache + self.work, max(self.kept + self.activations, self.gradients)
        phases = {"sampling": resident + sampling if sampling else 0, "learning": resident + learning}
        if self.sampler:  # an evaluation samples beside the sampler, while nothing is learned
            phases = {"sampling and learning": resident + sampling + max(learning, sampling)}
        phases["evaluating the best"] = resident + self.best + sampling if self.best else 0
        return {name: size for name, size in phases.items() if size}

    @property
    def peak(self) -> int:
        """The most memory that the run holds at once."""
        return max(self.phases.values())


class Planner(Protocol):
    """Tells what a run will take."""

    def plan(self, loaded: LoadedConfig, gpu: bool = False) -> MemoryPlan:
        """Plan a run's memory without loading its model.

        Args:
            loaded: the run's configuration.
            gpu: for a GPU, whatever this machine has.

        Raises:
            BadInput: if that cannot be told.
        """
        ...


@runtime_checkable
class Plans(Protocol):
    """A learner whose memory can be planned."""

    def planner(self) -> Planner:
        """A planner of its runs; asked for variants of one run, it remembers what they have in common."""
        ...
