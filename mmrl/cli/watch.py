"""Watch one episode: an environment that shows each of its turns as it happens, and a person as a policy.

The episode itself runs through :func:`mmrl.episode.run_episode`, as everywhere.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from mmrl.batcher import PolicyError
from mmrl.cli.pictures import Pictures
from mmrl.conformance import named_actions
from mmrl.env import Env
from mmrl.episode import EpisodeLimits, EpisodeSpec, run_episode
from mmrl.policy import Completion, Policy, Request
from mmrl.sample import Content, Sample
from mmrl.trajectory import Trajectory

Say = Callable[[str], None]


class Quit(Exception):
    """The person at the keyboard wants no more."""


class Watched(Env):
    """Passes everything on to ``inner`` and shows it.

    Args:
        inner: the environment.
        say: prints a line.
        delay: seconds to wait after each turn.
        frames: gets a rendered frame of every state; None renders nothing.
    """

    def __init__(self, inner: Env, say: Say, delay: float = 0.0, frames: list[Any] | None = None) -> None:
        super().__init__()
        self.observation_space, self.action_space = inner.observation_space, inner.action_space
        self.render_mode = inner.render_mode
        self.actions: list[str] = []
        self._inner, self._say, self._delay, self._frames = inner, say, delay, frames
        self._pictures = Pictures()
        self._turn = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Content, dict[str, Any]]:
        """Begin, and show the conversation so far."""
        observation, info = self._inner.reset(seed=seed, options=options)
        self.actions, self._turn = named_actions(info), 0
        sample: Sample = info["sample"]
        for message in sample.messages:
            self._say(f"[{message.role}]\n{self._pictures.in_words(message.content)}")
        self._keep_frame()
        return observation, info

    def step(self, action: str) -> tuple[Content, float, bool, bool, dict[str, Any]]:
        """Act, and show what came of it."""
        observation, reward, terminated, truncated, info = self._inner.step(action)
        self._turn += 1
        odd = "" if info.get("valid_action", True) else "  (not an action)"
        self._say(f"\n[turn {self._turn}] {action!r}  reward {float(reward):g}{odd}")
        if observation:
            self._say(self._pictures.in_words(observation))
        self._keep_frame()
        time.sleep(self._delay)
        return observation, float(reward), terminated, truncated, info

    def expert_action(self) -> str:
        """What the environment's expert would do."""
        return self._inner.expert_action()

    def close(self) -> None:
        """Close the environment."""
        self._inner.close()

    def _keep_frame(self) -> None:
        if self._frames is not None:
            self._frames.append(self._inner.render())


class Human:
    """A person at the keyboard; actions by name, by number, or by the start of the name.

    Args:
        say: prints a line.
    """

    def __init__(self, say: Say) -> None:
        self._say = say

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Read a line for each request, on this very thread: Ctrl-C has to reach it."""
        return [Completion(self._ask(r)) for r in requests]

    def _ask(self, request: Request) -> str:
        actions = request.env.actions if isinstance(request.env, Watched) else []
        if request.turn == 0:
            named = "   ".join(f"{n} {a}" for n, a in enumerate(actions, 1))
            self._say(f"\n{named}   q quit" if actions else "\nType your answer; q quits.")
        try:
            with _interruptible():
                line = input("> ").strip()
        except EOFError:
            raise Quit from None
        if line.casefold() == "q":
            raise Quit
        return complete(line, actions)


def complete(line: str, actions: Sequence[str]) -> str:
    """What a person meant: the action of that number, the only one that begins so, or just what they wrote."""
    if line.isdecimal() and 1 <= int(line) <= len(actions):
        return actions[int(line) - 1]
    close = [a for a in actions if a.casefold().startswith(line.casefold())] if line else []
    return close[0] if len(close) == 1 else line


@contextmanager
def _interruptible() -> Generator[None]:
    """Let Ctrl-C end ``input()``; asyncio's handler would only note it and go on waiting for the line."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


async def watch(spec: EpisodeSpec, env: Env, policy: Policy, limits: EpisodeLimits) -> Trajectory:
    """Run one episode.

    Raises:
        Exception: whatever the policy raised, :class:`Quit` among it.
    """

    async def submit(request: Request) -> Completion:
        try:
            return (await policy.generate([request]))[0]
        except Exception as error:
            raise PolicyError(str(error), error) from error

    with ThreadPoolExecutor(1, "mmrl-env") as pool:
        try:
            return await run_episode(spec, env, submit, limits, pool)
        except PolicyError as error:
            raise error.cause from None


def run_watch(spec: EpisodeSpec, env: Env, policy: Policy, limits: EpisodeLimits) -> Trajectory:
    """:func:`watch`, from ordinary code."""
    return asyncio.run(watch(spec, env, policy, limits))
