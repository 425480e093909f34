"""Trajectories: what happened in an episode, turn by turn (frozen data)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mmrl.image import Image
from mmrl.sample import Content, Message, Sample, Text
from mmrl.score import RewardRecord

FinishReason = Literal["stop", "length", "context"]


@dataclass(frozen=True)
class Turn:
    """One exchange: what the policy newly saw, what it said, what the environment made of it.

    Attributes:
        observation: the content shown before this turn's answer.
        response: the policy's text.
        prompt_ids: token ids that the policy was conditioned on; empty for policies without tokens.
        token_ids: sampled ids.
        logprobs: log-probability of each sampled id under the sampler.
        finish_reason: how the answer ended: ``stop``, ``length`` (token limit) or ``context`` (no room).
        reward: the environment's reward for this step.
        info: the environment's info for this step (``valid_action``, ``action_cost``, ``state_key``, ...);
            ``state_key`` and ``potential`` here are those of the state in which the policy spoke.
        version: how many updates the policy had seen.
        images: the images that stand among ``prompt_ids``, in order.
    """

    observation: Content
    response: str
    prompt_ids: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish_reason: FinishReason = "stop"
    reward: float = 0.0
    info: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0
    images: tuple[Image, ...] = ()


@dataclass(frozen=True)
class Trajectory:
    """A whole episode.

    Attributes:
        id: unique within the run.
        env_id: the environment's id.
        seed: the seed given to ``reset``.
        group: episodes of one group share environment and seed, and are compared with each other.
        sample: what the episode started from.
        turns: in order.
        terminated: the environment ended it.
        truncated: cut short: by the environment's own limit, by ``max_turns`` or by a full context.
        final_observation: what the environment showed last.
        error: the exception that ended the episode, or None; such a trajectory is never trained on.
        record: the reward suite's answer, once scored.
    """

    id: str
    env_id: str
    seed: int
    group: str
    sample: Sample
    turns: tuple[Turn, ...]
    terminated: bool
    truncated: bool
    final_observation: Content = ()
    error: str | None = None
    record: RewardRecord | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation, the policy's answers included."""
        out = list(self.sample.messages)
        for i, turn in enumerate(self.turns):
            if i > 0:
                out.append(Message("user", turn.observation))
            out.append(Message("assistant", (Text(turn.response),)))
        return tuple(out)

    @property
    def response(self) -> str:
        """The last answer's text."""
        return self.turns[-1].response if self.turns else ""

    @property
    def success(self) -> bool:
        """Whether the environment called the episode a success."""
        return bool(self.turns and self.turns[-1].info.get("success", False))

    @property
    def env_return(self) -> float:
        """The undiscounted sum of the environment's rewards."""
        return float(sum(t.reward for t in self.turns))

    @property
    def valid(self) -> bool:
        """Whether the trajectory may be learned from: no error, and no reward that failed."""
        return self.error is None and bool(self.turns) and (self.record is None or self.record.valid)


@dataclass(frozen=True)
class Group:
    """Episodes of one task, compared with each other."""

    id: str
    trajectories: tuple[Trajectory, ...]
