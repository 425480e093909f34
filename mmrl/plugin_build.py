"""From an entry of ``reward_plugins`` to a plugin: found, constructed, checked; wrong input is one line."""

from __future__ import annotations

import inspect
import numbers
from typing import Any, cast

from mmrl.errors import BadInput, one_line
from mmrl.plugin import FunctionPlugin, RewardPlugin, by_compute, needs
from mmrl.plugin_config import PluginConfig
from mmrl.registry import PLUGINS

ATTRIBUTES = ("range", "requires", "requires_any", "over_turns", "batch_size", "concurrency", "potential", "cost")


def build_plugin(config: PluginConfig, where: str = "") -> RewardPlugin:
    """Construct the plugin that an entry names.

    Args:
        config: the entry.
        where: ``file:line`` of it, for errors.

    Raises:
        BadInput: naming the plugin and what is wrong with it.
    """
    prefix = f"{where}: " if where else ""
    what = f"{prefix}plugin '{config.name}'"
    plugin = _construct(PLUGINS.get(config.name, where), config, what)
    if not isinstance(plugin, RewardPlugin):
        plugin = _adopt(plugin)
    if by_compute(plugin):
        if not callable(getattr(plugin, "compute", None)):
            raise BadInput(f"{what} has neither compute() nor score()")
        try:
            needs(plugin)
        except BadInput as error:
            raise BadInput(f"{prefix}{error}") from error
        if plugin.potential and "turn" in needs(plugin) and plugin.over_turns != "sum":
            raise BadInput(f"{what} gives potentials by turn: set over_turns = 'sum', lest they be averaged")
    _check_attributes(plugin, what)
    return plugin


def _construct(found: Any, config: PluginConfig, what: str) -> Any:
    if isinstance(found, RewardPlugin) or not callable(found):
        if config.kwargs:
            raise BadInput(f"{what} is registered as an instance; it takes no kwargs")
        return found
    try:
        return FunctionPlugin(found, config.kwargs) if inspect.isfunction(found) else found(**config.kwargs)
    except TypeError as error:
        raise BadInput(f"{what} does not take these kwargs: {error}{_accepted(found)}") from error
    except BadInput as error:
        raise BadInput(f"{what}: {error}") from error
    except Exception as error:  # a plugin is a user's code: whatever its constructor raises is one line
        raise BadInput(f"{what}: {one_line(error)}") from error


def _accepted(found: Any) -> str:
    try:
        names = [n for n in inspect.signature(found).parameters if n not in ("args", "kwargs")]
    except (TypeError, ValueError):
        return ""
    return f"; it takes {', '.join(names)}" if names else "; it takes none"


def _adopt(plain: Any) -> RewardPlugin:
    """A plugin made of an object that has ``compute`` or ``score`` without being a :class:`RewardPlugin`."""
    methods = {name: getattr(plain, name, None) for name in ("score", "compute", "load")}
    body: dict[str, Any] = {n: staticmethod(m) for n, m in methods.items() if callable(m)}
    body |= {n: getattr(plain, n, getattr(RewardPlugin, n)) for n in ATTRIBUTES}
    body["defined_by"] = type(plain)
    return type(type(plain).__name__, (RewardPlugin,), body)()


def _check_attributes(plugin: RewardPlugin, what: str) -> None:
    bounds = cast("Any", plugin.range)
    ordered = (
        isinstance(bounds, tuple | list)
        and len(cast("tuple[Any, ...]", bounds)) == 2
        and all(isinstance(b, numbers.Real) for b in bounds)
        and bounds[0] <= bounds[1]
    )
    if not ordered:
        raise BadInput(f"{what}: range is a pair (lowest, highest), not {bounds!r}")
