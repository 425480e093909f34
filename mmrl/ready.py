"""Reward plugins made ready before a run: their models loaded while nothing else has been.

Comes in: a configuration and its suite.  Goes out: nothing, or one line that names the plugin which cannot be used.
"""

from __future__ import annotations

from mmrl.caller import Overdue
from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput, one_line
from mmrl.plugin import RewardPlugin
from mmrl.report import Reporter
from mmrl.reward import RewardSuite


def loads(plugin: RewardPlugin) -> bool:
    """Whether the plugin has something to load before its first score."""
    return type(plugin).load is not RewardPlugin.load


def make_ready(loaded: LoadedConfig, suite: RewardSuite, reporter: Reporter) -> None:
    """Let every plugin load what it needs, one after the other; what is loaded already is not loaded again.

    Args:
        loaded: the configuration that ``suite`` was built of.
        suite: its plugins, in the order of ``reward_plugins``.
        reporter: told which one loads.

    Raises:
        BadInput: naming the entry's place, the plugin and what went wrong.
    """
    for i, member in enumerate(suite.members):
        if not loads(member.plugin):
            continue
        reporter.say(f"loading plugin '{member.name}' ...")
        what = f"{loaded.where('reward_plugins', i)}: plugin '{member.name}'"
        try:
            suite.load(member.name)
        except BadInput as error:
            raise BadInput(f"{what}: {error}") from error
        except Overdue as error:
            raise BadInput(f"{what} cannot be loaded: {error}") from error
        except Exception as error:  # a plugin is a user's code: whatever its load() raises is one line
            raise BadInput(f"{what} cannot be loaded: {one_line(error)}") from error
