"""Starting a server that a run samples with.

Comes in: a configuration, from a learner that samples with servers.  Goes out: a command, its environment, and the same
as a line for a shell.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from mmrl.config_load import LoadedConfig


@dataclass(frozen=True)
class Launch:
    """How a server is started.

    Attributes:
        words: the command.
        environment: variables that it needs, and their values.
        secrets: variables that it needs, each with the one whose value it takes.
    """

    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    secrets: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def line(self) -> str:
        """The command for a shell; no secret is in it."""
        plain = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        hidden = [f'{name}="${source}"' for name, source in self.secrets.items()]
        return " ".join([*plain, *hidden, shlex.join(self.words)])


@dataclass(frozen=True)
class Place:
    """Where a server is to run.

    Attributes:
        host: the address that it listens on.
        port: its port; None: that of the first of the run's servers.
        cpu: whether it runs on a CPU; None: as this machine does.
        here: whether it is started at once, in this environment, or its command is for another machine.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    cpu: bool | None = None
    here: bool = True


@runtime_checkable
class Serves(Protocol):
    """A learner that samples with servers."""

    def server(self, loaded: LoadedConfig, place: Place) -> Launch:
        """How a server for this run is started.

        Raises:
            BadInput: if the configuration names none, or nothing that serves is installed here.
        """
        ...
