"""Write docs/plugins.md: every built-in reward plugin, from its class.

Comes in: the installed entry points of mmrl_plugins.  Goes out: one table with range, needs, cost and arguments, and
each plugin's own docstring.

    python scripts/plugin_docs.py
"""

from __future__ import annotations

import inspect
import math
from pathlib import Path

from mmrl.plugin import RewardPlugin, required_of_env
from mmrl.plugin_fields import ENV_FIELDS
from mmrl.registry import PLUGINS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "plugins.md"
INTRO = """\
<!-- Written by scripts/plugin_docs.py (`make docs`) from the plugins' classes: change them, not this. -->

# Built-in reward plugins

Any of them goes into `reward_plugins` by its name; how they join is on [rewards.md](rewards.md), how to write one of
your own on [write_a_reward_plugin.md](write_a_reward_plugin.md). *Needs* is what a sample must have; without it the
score is not applicable, and a configuration in which no environment has it is refused. `mmrl check plugin NAME` runs
the conformance suite on one and shows what it gives.

| name | what it pays | range | needs | cost | arguments |
|---|---|---|---|---|---|
"""


def built_in() -> dict[str, type[RewardPlugin]]:
    """The plugins of mmrl_plugins, by name."""
    points = PLUGINS.points()
    return {name: points[name].load() for name in sorted(points) if points[name].value.startswith("mmrl_plugins.")}


def needs(made: type[RewardPlugin]) -> str:
    """The fields that a sample must have, in words."""
    if made.score is not RewardPlugin.score:
        fields = made.requires
    else:
        blank: RewardPlugin = object.__new__(made)  # no constructor: it may want arguments
        fields = required_of_env(blank)
    either = [" or ".join(sorted(made.requires_any))] if made.requires_any else []
    return ", ".join([*sorted(fields & ENV_FIELDS), *either]) or "-"


def bounds(made: type[RewardPlugin]) -> str:
    """The range in words."""
    low, high = made.range
    if math.isinf(low) and math.isinf(high):
        return "any"
    if math.isinf(low):
        return f"up to {high:g}"
    return f"from {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"


def arguments(made: type[RewardPlugin]) -> str:
    """The constructor's arguments with their defaults."""
    known = [p for p in inspect.signature(made).parameters.values() if p.name not in ("args", "kwargs")]
    return ", ".join(f"`{p.name}`" + ("" if p.default is p.empty else f" ({p.default!r})") for p in known) or "-"


def summary(made: type[RewardPlugin]) -> str:
    """The first sentence of the class's docstring."""
    paragraph = (inspect.getdoc(made) or "").split("\n\n")[0]
    return _cell(" ".join(paragraph.split()))


def _cell(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


def page() -> str:
    """The whole page."""
    plugins = built_in()
    rows = [
        f"| [`{name}`](#{name}) | {summary(made)} | {bounds(made)} | {needs(made)} | {_cell(made.cost)} "
        f"| {_cell(arguments(made))} |"
        for name, made in plugins.items()
    ]
    parts = [f"## {name}\n\n```text\n{inspect.getdoc(made) or ''}\n```\n" for name, made in plugins.items()]
    return INTRO + "\n".join(rows) + "\n\n" + "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
