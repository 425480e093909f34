"""Episodes and plugins for tests of rewards."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mmrl
from mmrl.plugin_config import PluginConfig
from mmrl.reward import Member, RewardPlugin, RewardSuite
from mmrl.score import Score
from mmrl.trajectory import Trajectory, Turn


def episode(*responses: str, reference: Any = None, id: str = "t", seed: int = 0, **kwargs: Any) -> Trajectory:
    sample = mmrl.Sample.ask("how long?", reference)
    return Trajectory(id, "e", seed, "g", sample, tuple(Turn((), r) for r in responses), True, False, **kwargs)


def plugin_of(returned: Any, low: float = -math.inf, high: float = math.inf) -> RewardPlugin:
    """A plugin that returns, or raises, the same every time."""

    class Made(RewardPlugin):
        range = (low, high)

        def compute(self) -> Any:
            if isinstance(returned, Exception):
                raise returned
            return returned

    return Made()


def batched(function: Callable[[Sequence[Trajectory]], Any]) -> RewardPlugin:
    """A plugin whose ``score`` is ``function``."""

    class Made(RewardPlugin):
        def score(self, trajectories: Sequence[Trajectory]) -> list[Score]:  # type: ignore[override]
            return function(trajectories)

    return Made()


def suite_of(plugins: Mapping[str, RewardPlugin], entries: Mapping[str, Mapping[str, Any]] | None = None,
             **kwargs: Any) -> RewardSuite:
    """A suite of plugin objects; ``entries`` holds further keys of their YAML entries."""
    given = entries or {}
    members = [
        Member(plugin, PluginConfig.model_validate({"name": name, **given.get(name, {})}))
        for name, plugin in plugins.items()
    ]
    return RewardSuite(members, **kwargs)
