"""The policy contract: requests in, completions out.

One rollout loop serves every backend: a Hugging Face model, a server, a script, a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mmrl.env import Env
from mmrl.image import Image
from mmrl.sample import Message
from mmrl.trajectory import FinishReason, Turn


@dataclass(frozen=True)
class Request:
    """One turn that a policy is asked to speak.

    Attributes:
        episode: name of the episode, unique within a run; batches are ordered by it.
        turn: index of the turn in its episode, from 0.
        messages: what the policy may see, oldest first.
        previous: the turn before, when ``messages`` merely extends what that turn saw (whole-transcript
            context): its token ids are then the start of this prompt.  None means: a fresh prompt.
        added: how many of the last ``messages`` came after ``previous``'s own message.
        seed: the key of this turn's sampling noise, from (run seed, episode, turn) alone.
        env: the live environment, for experts and people; a model never looks at it.
    """

    episode: str
    turn: int
    messages: tuple[Message, ...]
    previous: Turn | None
    added: int
    seed: tuple[int, ...]
    env: Env


@dataclass(frozen=True)
class Completion:
    """What a policy said.

    Attributes:
        text: the spoken text, special tokens removed.
        prompt_ids: token ids that the policy was conditioned on (empty for policies without tokens).
        token_ids: the sampled ids, the end-of-turn token included where it was sampled.
        logprobs: log-probability of each sampled id under the sampling distribution (temperature included).
        finish_reason: ``"stop"`` (end of turn), ``"length"`` (token limit) or ``"context"`` (no room left).
        version: how many updates the weights had seen.
        images: the images that stand among ``prompt_ids``, in order.
        error: why there is no answer to this one request (the environment's expert gave up); it ends the episode
            as an error.  A policy that fails altogether raises instead.
    """

    text: str
    prompt_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish_reason: FinishReason = "stop"
    version: int = 0
    images: tuple[Image, ...] = ()
    error: str | None = None


@runtime_checkable
class Policy(Protocol):
    """Anything that speaks.  ``generate`` answers a batch of requests, in their order."""

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer each request."""
        ...


@runtime_checkable
class Overlapping(Policy, Protocol):
    """A policy that works together on all that it was asked, whenever it was asked: an engine, servers.

    Attributes:
        overlapping: whether ``generate`` may be called again before it has answered.
    """

    overlapping: bool


@runtime_checkable
class Remembering(Policy, Protocol):
    """A policy that keeps something of an episode from one turn to the next, and can drop it when the episode ends."""

    def ended(self, episodes: Sequence[str]) -> None:
        """Say that the episodes of these ids ask for nothing more; others may be answered at that moment."""
        ...


def overlaps(policy: Policy) -> bool:
    """Whether a policy may be asked again before it has answered."""
    return isinstance(policy, Overlapping) and policy.overlapping
