"""PPO: the same loop as GRPO's, with a critic in the place of groups."""

from __future__ import annotations

from pathlib import Path

from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.report import Reporter
from mmrl.serving import Launch, Place
from mmrl_agents.credit import METHODS, find_method
from mmrl_agents.memory import MemoryPlanner
from mmrl_agents.train import Grpo


class Ppo:
    """Proximal policy optimisation with a critic (``train_type: PPO``).

    What makes it PPO are defaults (``PRESETS`` in :mod:`mmrl.config`): each of them can be set.
    """

    def check(self, loaded: LoadedConfig) -> None:
        """Check that a critic is asked, and all that GRPO checks; see :class:`mmrl.trainer.Trainer`."""
        advantage, where = loaded.config.training_args.advantage, loaded.where("training_args", "advantage")
        if not find_method(advantage, where).critic:
            critics = " or ".join(name for name, method in METHODS.items() if method.critic)
            raise BadInput(f"{where}: PPO learns with a critic, and advantage '{advantage}' asks none; take {critics}, "
                           "or train_type GRPO")  # fmt: skip
        Grpo().check(loaded)

    def planner(self) -> MemoryPlanner:
        """Plan its memory; see :class:`mmrl.memory_plan.Plans`."""
        return Grpo().planner()

    def server(self, loaded: LoadedConfig, place: Place) -> Launch:
        """How a server to sample with is started; see :class:`mmrl.serving.Serves`."""
        return Grpo().server(loaded, place)

    def train(self, loaded: LoadedConfig, resume: bool, reporter: Reporter) -> Path:
        """Train; see :class:`mmrl.trainer.Trainer`."""
        return Grpo().train(loaded, resume, reporter)
