"""The environment conformance suite: what ``Env`` promises, as checks that can fail.

Comes in: an environment id, or a factory of environments.  Goes out: one result a check, with a message that
says what was promised and what happened instead.  Used by the tests and by ``mmrl check env``.

Actions are drawn from the line ``Actions: a, b, c`` of the sample's system message, as the ``random`` policy
does, or else from the action space.  An environment may declare two exceptions in its ``metadata``:
``endless`` (no episode ends by itself) and ``one_episode`` (every seed gives the same episode).
"""

from __future__ import annotations

import math
import pickle
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, SupportsFloat

import numpy as np
from gymnasium.utils import env_checker
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from mmrl.env import Env, NoExpert
from mmrl.make import make
from mmrl.sample import Content, Sample, text_of

EnvFactory = Callable[[], Env]
Step = tuple[Content, SupportsFloat, bool, bool, dict[str, Any]]

LONGEST = 10_000  # steps after which an episode counts as endless
SHORT = 20  # steps that are compared where whole episodes would take long
_ODD_ACTIONS = ("no such action \u2603", "", "\x00", " \n\t", "x" * 10_000)
_FACTS = ("success", "valid_action", "action_cost", "state_key")


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check; ``detail`` says what went wrong and is empty if it passed."""

    name: str
    passed: bool
    detail: str = ""


def named_actions(info: dict[str, Any]) -> list[str]:
    """The actions that the system message of ``info``'s sample lists after ``Actions:``."""
    sample = info.get("sample")
    if not isinstance(sample, Sample):
        return []
    lines = [line for m in sample.messages if m.role == "system" for line in m.text.splitlines()]
    found = next((line for line in lines if line.startswith("Actions:")), "Actions:")
    return [action.strip() for action in found.removeprefix("Actions:").split(",") if action.strip()]


def play(env: Env, seed: int | None, limit: int = SHORT, actions_seed: int = 0) -> Iterator[Step]:
    """Play one episode of random actions; the same ``actions_seed`` draws the same actions.

    Yields:
        The reset, as a step without reward, and then every step.
    """
    observation, info = env.reset(seed=seed)
    yield observation, 0.0, False, False, info
    rng = np.random.default_rng(actions_seed)
    named = named_actions(info)
    env.action_space.seed(actions_seed)
    for _ in range(limit):
        action = named[int(rng.integers(len(named)))] if named else env.action_space.sample()
        step = env.step(action)
        yield step
        if step[2] or step[3]:
            return


def record(env: Env, seed: int | None, limit: int = SHORT) -> list[tuple[Any, ...]]:
    """What an episode shows and pays, for comparison; ids and other info may differ."""
    return [(*step[:4], *(step[4].get(fact) for fact in _FACTS)) for step in play(env, seed, limit)]


def gymnasium_contract(factory: EnvFactory) -> None:
    """``gymnasium.utils.env_checker.check_env`` accepts it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice, for instance that the environment is not in Gymnasium's registry
        env_checker.check_env(factory())


def same_seed_same_episode(factory: EnvFactory) -> None:
    """``reset(seed=s)`` fixes the whole episode, in one environment and across two."""
    for seed in (0, 7):
        with closing(factory()) as one, closing(factory()) as two:
            first = record(one, seed)
            assert record(two, seed) == first, f"two environments played seed {seed} with the same actions and differ"
            assert record(one, seed) == first, f"seed {seed} played twice in one environment differs"


def _whole(env: Env, seed: int) -> tuple[Any, ...]:
    """An episode with the answer that its sample asks for, which no observation need show."""
    return env.reset(seed=seed)[1]["sample"].reference, *record(env, seed)


def seeds_differ(factory: EnvFactory) -> None:
    """At least two of several seeds give different episodes."""
    with closing(factory()) as env:
        if env.metadata.get("one_episode"):
            return
        first = _whole(env, 0)
        assert any(_whole(env, seed) != first for seed in range(1, 16)), (
            "seeds 0 to 15 give the same episode: draw from self.np_random (and report what is hidden as the sample's "
            "reference or info['state_key']), or declare metadata['one_episode']"
        )


def seeds_survive(factory: EnvFactory) -> None:
    """A reset without a seed neither spoils a later seed nor is itself left to chance after an earlier one."""
    with closing(factory()) as one, closing(factory()) as two:
        first = record(one, 3)
        unseeded = record(one, None)
        record(one, None)
        assert record(one, 3) == first, "seed 3 gives another episode after resets without a seed"
        record(two, 3)
        assert record(two, None) == unseeded, "reset() after reset(seed=3) is not fixed by seed 3: use self.np_random"


def no_global_random(factory: EnvFactory) -> None:
    """The states of ``random`` and ``numpy.random`` are the same after an episode as before."""
    before = random.getstate(), pickle.dumps(np.random.get_state())
    with closing(factory()) as env:
        for _ in play(env, 5):
            pass
        env.reset(seed=5)
        with suppress(NoExpert):
            env.step(env.expert_action())
    assert random.getstate() == before[0], "an episode changed the state of random: draw from self.np_random"
    assert pickle.dumps(np.random.get_state()) == before[1], (
        "an episode changed the state of numpy.random: draw from self.np_random"
    )


def sample_in_info(factory: EnvFactory) -> None:
    """``reset`` reports the sample; its last message is the first observation; it survives pickling."""
    with closing(factory()) as env:
        observation, info = env.reset(seed=1)
    sample = info.get("sample")
    assert isinstance(sample, Sample), f"reset's info['sample'] must be an mmrl.Sample, not {type(sample).__name__}"
    assert sample.messages, "the sample has no messages"
    assert sample.messages[-1].content == observation, "the sample's last message is not the first observation"
    assert sample.id, "the sample's id is empty"
    assert pickle.loads(pickle.dumps(sample)) == sample, "the sample changes when it is pickled and read back"


def stays_in_spaces(factory: EnvFactory) -> None:
    """Every observation lies in the observation space; sampled actions lie in the action space."""
    with closing(factory()) as env:
        for number, step in enumerate(play(env, 2)):
            assert step[0] in env.observation_space, f"observation {number} is not in its space: {step[0]!r:.200}"
        assert env.action_space.sample() in env.action_space, f"{env.action_space} does not contain its own sample"


def invalid_action_in_words(factory: EnvFactory) -> None:
    """Text that is no action is answered by an observation in words, never by an exception."""
    with closing(factory()) as env:
        for action in _ODD_ACTIONS:
            _, start = env.reset(seed=4)
            try:
                observation, _, terminated, truncated, info = env.step(action)
            except Exception as error:
                raise AssertionError(f"step({action!r:.40}) raised {type(error).__name__}: {error}") from error
            if terminated or truncated:
                continue
            assert text_of(observation).strip(), f"step({action!r:.40}) was answered without a word"
            if named_actions(start):
                assert info.get("valid_action") is False, f"{action!r:.40} is not listed, but valid_action is not False"


def episode_ends(factory: EnvFactory) -> None:
    """Flags are bools, rewards finite numbers, ``success`` a bool, and the episode ends unless declared endless."""
    with closing(factory()) as env:
        limit = SHORT if env.metadata.get("endless") else LONGEST
        for _, reward, terminated, truncated, info in play(env, 6, limit):
            assert type(terminated) is bool, f"terminated is a {type(terminated).__name__}, not a bool"
            assert type(truncated) is bool, f"truncated is a {type(truncated).__name__}, not a bool"
            assert isinstance(reward, int | float | np.floating), f"the reward is a {type(reward).__name__}"
            assert math.isfinite(reward), f"the reward is {reward}"
            if terminated or truncated:
                assert type(info.get("success", False)) is bool, f"success is {info['success']!r}, not a bool"
                return
        assert env.metadata.get("endless"), f"no end after {limit} steps: truncate, or declare metadata['endless']"


def _runs_vectorised(factory: EnvFactory, vector: SyncVectorEnv | AsyncVectorEnv) -> None:
    """Two copies, two seeds, one step: the same as each copy alone."""
    seeds = (1, 2)
    with closing(vector), closing(factory()) as alone:
        together, _ = vector.reset(seed=list(seeds))
        singles = [alone.reset(seed=seed)[0] for seed in seeds]
        assert list(together) == singles, "reset(seed=...) in a vector shows something else than alone"
        action = "no such action"
        together, rewards, *_ = vector.step((action, action))
        for index, seed in enumerate(seeds):
            alone.reset(seed=seed)
            observation, reward, *_ = alone.step(action)
            assert together[index] == observation, "a step in a vector shows something else than alone"
            assert rewards[index] == reward, "a step in a vector pays something else than alone"


def runs_in_sync_vector(factory: EnvFactory) -> None:
    """It runs in ``gymnasium.vector.SyncVectorEnv``."""
    _runs_vectorised(factory, SyncVectorEnv([factory, factory]))


def runs_in_async_vector(factory: EnvFactory) -> None:
    """It runs in ``gymnasium.vector.AsyncVectorEnv``, in processes of its own."""
    with warnings.catch_warnings():
        # A process that fails warns with its traceback, and then raises the error.
        warnings.filterwarnings("ignore", r"(\x1b\[\d+m)*ERROR", UserWarning)
        _runs_vectorised(factory, AsyncVectorEnv([factory, factory], shared_memory=False))


def renders(factory: EnvFactory) -> None:
    """If ``rgb_array`` is its render mode, ``render`` gives an RGB frame of bytes."""
    with closing(factory()) as env:
        assert env.render_mode is None or env.render_mode in env.metadata.get("render_modes", []), (
            f"render_mode {env.render_mode!r} is not in metadata['render_modes']"
        )
        if env.render_mode != "rgb_array":
            return
        env.reset(seed=0)
        frame: Any = env.render()
        assert isinstance(frame, np.ndarray), f"render gave a {type(frame).__name__}, not an array"
        assert frame.dtype == np.uint8, f"the frame is {frame.dtype}, not uint8"
        assert frame.ndim == 3, f"the frame's shape is {frame.shape}, not (height, width, 3)"
        assert frame.shape[2] == 3, f"the frame's shape is {frame.shape}, not (height, width, 3)"


CHECKS: dict[str, Callable[[EnvFactory], None]] = {
    check.__name__: check
    for check in (
        gymnasium_contract, same_seed_same_episode, seeds_differ, seeds_survive, no_global_random, sample_in_info,
        stays_in_spaces, invalid_action_in_words, episode_ends, runs_in_sync_vector, runs_in_async_vector, renders,
    )
}  # fmt: skip
"""Every check by name; a check raises AssertionError with a message, or passes."""


def run_check(name: str, factory: EnvFactory) -> CheckResult:
    """Run one check; an exception of the environment fails it."""
    try:
        CHECKS[name](factory)
    except AssertionError as error:
        return CheckResult(name, False, str(error) or "an assertion failed")
    except Exception as error:
        return CheckResult(name, False, f"{type(error).__name__}: {error}")
    return CheckResult(name, True)


def check_env(env_id: str, **kwargs: Any) -> list[CheckResult]:
    """Run every check over an environment.

    Args:
        env_id: as in :func:`mmrl.make`.
        **kwargs: the environment's own arguments.

    Raises:
        BadInput: if there is no such environment or the arguments do not fit.
    """
    make(env_id, **kwargs).close()
    return [run_check(name, lambda: make(env_id, **kwargs)) for name in CHECKS]
