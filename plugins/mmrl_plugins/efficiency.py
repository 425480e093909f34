"""How short a successful episode was, measured against an expert.

Comes in: success and number of turns, and how many steps the environment's own expert takes from the same seed.  Goes
out: expert steps / agent steps for a success, 0 for a failure.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import closing
from typing import Any, ClassVar

from mmrl.env import NoExpert
from mmrl.errors import BadInput
from mmrl.make import make
from mmrl.registry import find_env
from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.trajectory import Trajectory
from mmrl_plugins._arguments import whole

KEPT = 100_000
"""Expert runs that are remembered, at most."""


class Efficiency(RewardPlugin):
    """Was the task solved without detours?  In [0, 1]; an expert episode a seed, then microseconds.

    ``min(1, expert steps / turns)`` for a success and 0 for a failure, like SPL (arXiv 1807.06757) with steps for
    path lengths.  The expert's steps are ``info["expert_steps"]`` where the environment reports it; otherwise its
    expert plays the episode's seed, once for all episodes of that seed.  Not applicable where there is no expert,
    where the expert does not succeed, or where the environment reports no success.

    Failure modes: the expert need not be optimal, so that a better policy stays at 1; every turn counts as a step,
    an invalid action too.

    Args:
        env_kwargs: the environment's arguments, the same as in training, or the expert plays another level.
        env_id: the environment's id where it is a reference (``module:Class``, ``path/file.py:Class``): code is run
            because you name it here, never because a stored run does.
        max_steps: after so many steps the expert counts as failed.

    Raises:
        BadInput: for arguments of the wrong kind.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    cost: ClassVar[str] = "an expert episode a seed"

    def __init__(self, env_kwargs: Mapping[str, Any] | None = None, env_id: str | None = None,
                 max_steps: int = 10_000) -> None:
        if not isinstance(env_kwargs, Mapping | None):  # pyright: ignore[reportUnnecessaryIsInstance] - from YAML
            raise BadInput(f"env_kwargs is a mapping of the environment's arguments, not {env_kwargs!r}")
        self.env_kwargs, self.env_id = dict(env_kwargs or {}), env_id
        self.max_steps = whole("max_steps", max_steps, 1)
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int], int | str] = {}

    def compute(self, trajectory: Trajectory) -> Score:
        """Measure ``trajectory`` against the expert."""
        if not trajectory.turns:
            return Score.not_applicable(reason="the episode has no turns")
        cut_short = trajectory.truncated and trajectory.error is None
        if not cut_short and not any("success" in turn.info for turn in trajectory.turns):
            return Score.not_applicable(reason="the environment reports no success")
        expert = self._reported(trajectory) or self.expert_steps(trajectory.env_id, trajectory.seed)
        if isinstance(expert, str):
            return Score.not_applicable(reason=expert)
        taken = len(trajectory.turns)
        value = min(1.0, expert / taken) if trajectory.success else 0.0
        return Score(value, info={"expert_steps": expert, "steps": taken, "success": trajectory.success})

    def expert_steps(self, env_id: str, seed: int) -> int | str:
        """How many steps the expert takes, or why that cannot be said; played once for each seed."""
        with self._lock:
            if (env_id, seed) not in self._known:
                self._known[env_id, seed] = self._play(env_id, seed)
                while len(self._known) > KEPT:
                    del self._known[next(iter(self._known))]
            return self._known[env_id, seed]

    def _reported(self, trajectory: Trajectory) -> int | None:
        """The steps in the environment's own words; it may say so in any turn."""
        steps = next((t.info["expert_steps"] for t in reversed(trajectory.turns) if "expert_steps" in t.info), None)
        if steps is not None and not (isinstance(steps, int) and steps > 0):
            raise ValueError(f"the environment reports expert_steps of {steps!r}; it is a whole number above 0")
        return steps

    def _play(self, env_id: str, seed: int) -> int | str:
        if ":" in env_id and env_id != self.env_id:
            return f"'{env_id}' is a reference to code; give it as env_id to have its expert played"
        try:
            find_env(env_id)
        except BadInput as error:  # a stored run of an environment that is not installed here
            return str(error)
        with closing(make(env_id, **self.env_kwargs)) as env:
            env.reset(seed=seed)
            for steps in range(1, self.max_steps + 1):
                try:
                    action = env.expert_action()
                except NoExpert as error:
                    return f"no expert: {error}"
                _, _, terminated, truncated, info = env.step(action)
                if terminated or truncated:
                    return steps if info.get("success") else f"the expert does not solve seed {seed}"
        return f"the expert does not solve seed {seed} within {self.max_steps} steps"
