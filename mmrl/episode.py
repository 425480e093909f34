"""One episode: reset, then turns of asking the policy and stepping the environment, to a trajectory.

The three endings stay apart: a turn cut by its token limit (``finish_reason == "length"``), an episode cut
by ``max_turns`` (``truncated``), and a full context (``finish_reason == "context"``, ``truncated``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, cast

from mmrl.batcher import PolicyError
from mmrl.env import Env
from mmrl.policy import Completion, Request
from mmrl.sample import Content, Message, Part, Sample, Text
from mmrl.trajectory import Trajectory, Turn

Submit = Callable[[Request], Awaitable[Completion]]
STATE_FACTS = ("state_key", "potential")
"""What ``info`` says of the state that it comes with; a turn carries that of the state in which the policy spoke."""


@dataclass(frozen=True)
class EpisodeSpec:
    """What to run.

    Attributes:
        id: unique within the run; batches are ordered by it.
        env_id: the environment's id.
        seed: passed to ``reset``.
        group: name of the group that the episode is compared in.
        key: names the episode's sampling noise; (run seed, step, index) or the like.
        kwargs: the environment's arguments.
    """

    id: str
    env_id: str
    seed: int
    group: str
    key: tuple[int, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EpisodeLimits:
    """How far an episode may go and how much of it the policy sees.

    Attributes:
        max_turns: turns before the episode is truncated; None leaves it to the environment.
        window: None shows the whole transcript; k shows the system message and the last k observations with
            the answers between them, each turn a fresh prompt.
    """

    max_turns: int | None = None
    window: int | None = None


def visible(messages: tuple[Message, ...], window: int | None) -> tuple[Message, ...]:
    """The messages that the policy sees: all, or the system messages and the last ``window`` exchanges."""
    if window is None:
        return messages
    head = tuple(m for m in messages if m.role == "system")
    rest = tuple(m for m in messages if m.role != "system")
    return head + rest[-(2 * window - 1) :]


async def run_episode(spec: EpisodeSpec, env: Env, submit: Submit, limits: EpisodeLimits, pool: Executor) -> Trajectory:
    """Run one episode; the environment works on ``pool``, an exception of its own becomes ``error``.

    Raises:
        PolicyError: if the policy fails.
    """
    loop = asyncio.get_running_loop()
    state = _State(spec)
    try:
        observation, info = await loop.run_in_executor(pool, lambda: env.reset(seed=spec.seed))
        state.begin(observation, info)
        while not state.done:
            completion = await submit(state.request(env, limits.window))
            if completion.error is not None:
                state.error = completion.error
                break
            if completion.finish_reason == "context":
                state.truncated = True
                break
            out = await loop.run_in_executor(pool, env.step, completion.text)
            state.advance(completion, *out)
            if limits.max_turns is not None and len(state.turns) >= limits.max_turns and not state.terminated:
                state.truncated = True
    except PolicyError:
        raise
    except Exception as error:
        state.error = f"{type(error).__name__}: {error}"
    return state.trajectory()


def _of_state(info: Mapping[str, Any]) -> dict[str, Any]:
    return {name: info[name] for name in STATE_FACTS if name in info}


def _checked(observation: Content, by: str) -> Content:
    """An observation as content: a tuple of parts.

    Raises:
        TypeError: if it is anything else, such as a string.
    """
    given: Any = observation
    if isinstance(given, tuple | list) and all(isinstance(part, Part) for part in cast("Sequence[Any]", given)):
        return tuple(cast("Sequence[Part]", given))
    raise TypeError(f"{by} returned {given!r:.60} as its observation; return a tuple of parts: (mmrl.Text('...'),)")


class _State:
    """The episode while it grows."""

    def __init__(self, spec: EpisodeSpec) -> None:
        self.spec = spec
        self.sample = Sample(spec.id, ())
        self.messages: tuple[Message, ...] = ()
        self.turns: list[Turn] = []
        self.observation: Content = ()
        self.facts: dict[str, Any] = {}
        self.terminated = self.truncated = False
        self.error: str | None = None

    @property
    def done(self) -> bool:
        return self.terminated or self.truncated

    def begin(self, observation: Content, info: Mapping[str, Any]) -> None:
        self.sample = info["sample"]
        self.messages = self.sample.messages
        self.observation = _checked(observation, "reset()")
        self.facts = _of_state(info)

    def request(self, env: Env, window: int | None) -> Request:
        previous = self.turns[-1] if self.turns and window is None else None
        return Request(
            episode=self.spec.id,
            turn=len(self.turns),
            messages=visible(self.messages, window),
            previous=previous,
            added=1 if previous else 0,
            seed=(*self.spec.key, len(self.turns)),
            env=env,
        )

    def advance(self, said: Completion, observation: Content, reward: Any, terminated: bool, truncated: bool,
                info: Mapping[str, Any]) -> None:
        seen = _checked(observation, "step()")
        kept = {k: v for k, v in info.items() if k not in ("sample", *STATE_FACTS)} | self.facts
        self.turns.append(
            Turn(self.observation, said.text, said.prompt_ids, said.token_ids, said.logprobs, said.finish_reason,
                 float(reward), kept, said.version, said.images)
        )  # fmt: skip
        self.terminated, self.truncated = bool(terminated), bool(truncated)
        self.observation, self.facts = seen, _of_state(info)
        self.messages += (Message("assistant", (Text(said.text),)), Message("user", seen))

    def trajectory(self) -> Trajectory:
        s = self.spec
        return Trajectory(s.id, s.env_id, s.seed, s.group, self.sample, tuple(self.turns), self.terminated,
                          self.truncated, self.observation, self.error)  # fmt: skip
