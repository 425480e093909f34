"""What a run's YAML file says for commands that act in its environments: ``mmrl eval`` and ``mmrl play``.

Comes in: the path of a config file, or none.  Goes out: the defaults that options may override.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmrl.config import EvalConfig, RolloutConfig
from mmrl.config_load import load_config
from mmrl.load import RUN_POLICIES


@dataclass(frozen=True)
class Defaults:
    """What a config file says, or what holds without one.

    Attributes:
        environments: ids and arguments of what the run evaluates in: ``eval.environments``, or those it trains in.
        policy: the policy of a run's folder, if it has one; else the model that it starts from; None without a file.
        rollout: how it runs episodes.
        eval: how it evaluates.
    """

    environments: Sequence[tuple[str, dict[str, Any]]] = ()
    policy: str | None = None
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    def chosen(self, ids: Sequence[str], kwargs: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """The environments ``ids``, or all of the file's; one that the file has keeps the file's arguments.

        Args:
            ids: asked for by the user.
            kwargs: arguments that go to each of them, before the file's.
        """
        if not ids:
            return [(i, {**known, **kwargs}) for i, known in self.environments]
        found = dict(reversed(self.environments))
        return [(i, {**found.get(i, {}), **kwargs}) for i in ids]


def read_defaults(config: Path | None) -> Defaults:
    """Read the defaults of a config file.

    Raises:
        BadInput: if there is no such file, or something is wrong in it.
    """
    if config is None:
        return Defaults()
    c = load_config(config).config
    chosen = c.eval.environments or c.environments
    trained = any((config / folder).is_dir() for folder in RUN_POLICIES)
    policy = str(config) if trained else c.model_id
    return Defaults([(e.id, e.kwargs) for e in chosen], policy, c.rollout, c.eval)
