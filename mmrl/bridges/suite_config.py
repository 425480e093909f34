"""What makes a suite, as text that another trainer's plugin file carries, and that file.

Comes in: a run's configuration, or entries of ``reward_plugins``.  Goes out: YAML, the suite that it describes, and a
Python file around it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, ValidationError
from pydantic_core import PydanticSerializationError

from mmrl.config import Config, RewardsConfig
from mmrl.errors import BadInput
from mmrl.files import atomic_write
from mmrl.plugin_config import PluginConfig, read_entry
from mmrl.registry import load_file
from mmrl.reward import NO_CLIP, RewardSuite
from mmrl.section import Section

Source = Config | Sequence[Mapping[str, Any] | PluginConfig]
"""A run's configuration, or the entries of its ``reward_plugins``."""
TAKEN = frozenset({"mmrl", "swift", "verl", "trl", "torch", "transformers", "vllm", *sys.stdlib_module_names})
"""Names that a file must not have: the trainer puts its folder first where Python looks for modules."""


class SuiteConfig(Section):
    """The part of a configuration that makes the suite."""

    reward_plugins: list[PluginConfig] = Field(min_length=1)
    """What is good."""
    rewards: RewardsConfig = RewardsConfig()
    """How scores become one reward."""
    plugin_files: list[Path] = Field(default_factory=list[Path])
    """Python files that are run first; looked for from the folder that the trainer runs in."""

    @classmethod
    def of(cls, source: Source) -> Self:
        """Take it out of a configuration, or make it of entries.

        Raises:
            BadInput: if there are no entries, one is wrong, or rewards are to be normalised plugin by plugin, for
                which one number a completion is too few.
        """
        if isinstance(source, Config):
            entries, rewards, files = source.reward_plugins, source.rewards, source.plugin_files
        else:
            entries, rewards, files = [read_entry(e) for e in source], RewardsConfig(), list[Path]()
        if not entries:
            raise BadInput("there are no reward_plugins to export")
        if rewards.normalise != "sum_then_normalise":
            raise BadInput(f"rewards.normalise: {rewards.normalise} compares each plugin's scores by themselves, but "
                           "the other trainer sees one reward a completion; use sum_then_normalise")  # fmt: skip
        return cls(reward_plugins=list(entries), rewards=rewards, plugin_files=list(files))

    @classmethod
    def from_yaml(cls, text: str) -> Self:
        """Read what :meth:`yaml` wrote, or what someone made of it.

        Raises:
            BadInput: naming the key and what is wrong with it.
        """
        try:
            return cls.model_validate(yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise BadInput(f"the suite is not valid YAML: {error}") from error
        except ValidationError as error:
            wrong = error.errors()[0]
            raise BadInput(f"the suite: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from error

    def yaml(self) -> str:
        """The configuration as YAML, without what is as it always is.

        Raises:
            BadInput: if an argument of a plugin is an object that YAML does not know.
        """
        try:
            tree = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        except PydanticSerializationError as error:
            raise BadInput(f"a plugin's kwargs cannot be written down: {error}") from error
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)

    def build(self) -> RewardSuite:
        """Make the suite.

        Raises:
            BadInput: for a plugin that is unknown or does not take its arguments.
        """
        for path in self.plugin_files:
            load_file(path, "plugin file")
        return RewardSuite.from_config(self.reward_plugins, self.rewards.clip or NO_CLIP)


def literal(text: str) -> str:
    """``text`` as a Python literal that keeps its lines."""
    body = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    plain = all(c == "\n" or c.isprintable() for c in text) and not text.endswith('"')
    return f'"""\\\n{body}"""' if plain else repr(text)


def write_file(path: Path, source: str, force: bool) -> None:
    """Write a Python file that a trainer will import.

    Args:
        path: its name.
        source: what is in it.
        force: whether an existing file is replaced.

    Raises:
        BadInput: if there is a file already, or a module of that name could not be imported.
        OSError: if it cannot be written.
    """
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise BadInput(f"{path}: the file is imported as a module; name it like mmrl_reward.py")
    if path.stem in TAKEN:
        raise BadInput(f"{path}: '{path.stem}' is another module's name; name it like mmrl_reward.py")
    if path.exists() and not force:
        raise BadInput(f"{path} exists; --force (in Python: force=True) replaces it")
    atomic_write(path, source.encode())
