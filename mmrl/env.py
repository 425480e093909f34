"""Environments: true Gymnasium environments that show content and take text.

``Env`` is the contract.  ``SingleTurnEnv`` makes one from a way to draw a sample and a way to grade an
answer; ``GymTextEnv`` makes one from any Gymnasium environment, a description and an action parser.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium

from mmrl.sample import Content, Message, Part, Sample, Text, as_content
from mmrl.spaces import ContentSpace, UnicodeText


class NoExpert(RuntimeError):
    """The environment knows no expert action."""


class Env(gymnasium.Env[Content, str]):
    """A Gymnasium environment whose observation is content and whose action is a string.

    Promises, checked by ``mmrl check env``: ``reset(seed=s)`` fixes the whole episode; randomness comes
    from ``self.np_random`` only; ``terminated`` and ``truncated`` stay apart; an invalid action is
    answered in words, never by an exception.

    ``reset`` puts the episode's :class:`~mmrl.Sample` into ``info["sample"]``; its last message's content
    is the first observation.  ``info`` may carry ``success`` (bool, at the end), ``valid_action`` (bool),
    ``action_cost`` (float, 1.0 is a plain step), ``state_key`` (str, a hash of the full state) and ``potential``
    (float, how promising the state is, for the plugin ``potential``).
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - gymnasium declares it as an instance field

    def __init__(self) -> None:
        self.observation_space = ContentSpace()
        self.action_space = UnicodeText()
        self.render_mode = None

    @property
    def table_rows(self) -> int | None:
        """How many rows the episodes are drawn from, if they come from a table; None: they are made on the spot."""
        return None

    def expert_action(self) -> str:
        """Say what an expert would do in the present state.

        Raises:
            NoExpert: if the environment has none.
        """
        raise NoExpert(f"{type(self).__name__} has no expert; define expert_action(self) -> str")

    def expert_reasoning(self) -> str:
        """What the expert says before its action, whichever that is: the start of :meth:`expert_action`."""
        return ""


@dataclass(frozen=True)
class EnvFamily:
    """Many environment ids behind one entry point.

    Attributes:
        ids: lists every id of the family (``"babyai/GoToLocal"``, ...).
        make: builds the environment of one id: ``make(env_id, **kwargs)``.
        takes: the callable that ``make`` hands the ``kwargs`` of one id on to; None: ``make`` itself names them.
        about: a line on one id; None, or an empty line: the docstring's first line of what builds it.
    """

    ids: Callable[[], Sequence[str]]
    make: Callable[..., Env]
    takes: Callable[[str], Callable[..., Env]] | None = None
    about: Callable[[str], str] | None = None


class SingleTurnEnv(Env):
    """One question, one answer: define :meth:`draw`, and :meth:`grade` if equality is not enough."""

    def __init__(self) -> None:
        super().__init__()
        self._sample: Sample | None = None

    @abstractmethod
    def draw(self) -> Sample:
        """Draw the next sample with ``self.np_random`` (``Sample.ask(question, reference)``)."""

    def grade(self, sample: Sample, response: str) -> float:
        """Grade an answer in [0, 1]; 1 counts as success.  By default: equal to the reference, case folded."""
        return float(response.strip().casefold() == str(sample.reference).strip().casefold())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Content, dict[str, Any]]:
        """Draw a sample; its last message is the observation."""
        super().reset(seed=seed)
        drawn: Any = self.draw()
        if not isinstance(drawn, Sample):
            raise TypeError(f"draw() returned {drawn!r:.60}; return a sample: mmrl.Sample.ask(question, reference)")
        self._sample = drawn
        return self._sample.messages[-1].content, {"sample": self._sample}

    def step(self, action: str) -> tuple[Content, float, bool, bool, dict[str, Any]]:
        """Grade the answer; the episode ends."""
        if self._sample is None:
            raise RuntimeError("call reset() before step(), and once more after the episode has ended")
        sample, self._sample = self._sample, None
        reward = float(self.grade(sample, action))
        return (), reward, True, False, {"success": reward >= 1.0, "valid_action": True, "action_cost": 1.0}

    def expert_action(self) -> str:
        """The reference answer."""
        if self._sample is None or self._sample.reference is None:
            return super().expert_action()
        return str(self._sample.reference)


class GymTextEnv(Env):
    """Any Gymnasium environment in words: define :meth:`describe` and :meth:`parse`.

    Args:
        env: a Gymnasium environment or its registered id.
        **kwargs: passed to ``gymnasium.make`` when ``env`` is an id.

    Attributes:
        instructions: the system message: the task and the actions that :meth:`parse` understands.
        patience: after so many answers that are no action the episode is truncated; without it, a policy that
            never names one would go on for ever, since the wrapped environment's own limit counts its steps alone.
    """

    instructions: ClassVar[str] = ""
    patience: ClassVar[int] = 64
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 - as in Env

    def __init__(self, env: str | gymnasium.Env[Any, Any], **kwargs: Any) -> None:
        super().__init__()
        if isinstance(env, str):
            options: dict[str, Any] = {"render_mode": "rgb_array", **kwargs}
            env = gymnasium.make(env, **options)
        self.env = env
        self.render_mode = env.render_mode
        self._last: Content = ()
        self._misses = 0

    @abstractmethod
    def describe(self, observation: Any, info: dict[str, Any]) -> str | Part | Sequence[Part]:
        """Say what the wrapped environment shows."""

    @abstractmethod
    def parse(self, text: str) -> Any | None:
        """Turn the policy's text into the wrapped environment's action, or None if it is not one."""

    def success(self, reward: float, terminated: bool, info: dict[str, Any]) -> bool:
        """Whether an episode that ends like this was solved; by default: it terminated with a positive reward."""
        return terminated and reward > 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Content, dict[str, Any]]:
        """Reset the wrapped environment and describe it."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        observation, info = self.env.reset(seed=seed, options=options)
        self._last, self._misses = as_content(self.describe(observation, info)), 0
        head = (Message("system", (Text(self.instructions),)),) if self.instructions else ()
        sample = Sample(f"seed-{seed}", (*head, Message("user", self._last)))
        return self._last, {**info, "sample": sample}

    def step(self, action: str) -> tuple[Content, float, bool, bool, dict[str, Any]]:
        """Parse the text and step; text that is no action changes nothing and is answered in words."""
        parsed = self.parse(action)
        if parsed is None:
            complaint = Text(f"Invalid action: {action[:80]!r}. {self.instructions}")
            self._misses += 1
            given_up = self._misses >= self.patience
            out = {"valid_action": False, "action_cost": 1.0, **({"success": False} if given_up else {})}
            return (complaint, *self._last), 0.0, False, given_up, out
        observation, reward, terminated, truncated, info = self.env.step(parsed)
        self._last = as_content(self.describe(observation, info))
        out = {**info, "valid_action": True, "action_cost": 1.0}
        if terminated or truncated:
            out["success"] = self.success(float(reward), terminated, info)
        return self._last, float(reward), terminated, truncated, out

    def render(self) -> Any:
        """The wrapped environment's RGB frame."""
        return self.env.render()

    def close(self) -> None:
        """Close the wrapped environment."""
        self.env.close()
