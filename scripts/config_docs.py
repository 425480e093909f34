"""Write docs/configuration.md: every key of the YAML, from the docstrings in mmrl/config.py and its sections.

Comes in: the pydantic models.  Goes out: one table a section, with type, default and meaning.

    python scripts/config_docs.py
"""

from __future__ import annotations

import re
import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mmrl.config import (
    Config,
    EnvironmentConfig,
    EvalConfig,
    LoggedConfig,
    RewardsConfig,
    RolloutConfig,
    Seeds,
    SftConfig,
    WarmStart,
)
from mmrl.plugin_config import Gate, PluginConfig
from mmrl.sampling_config import Curriculum, Replay
from mmrl.schedule import ByMetric, Cosine, Linear, Steps
from mmrl.training_args import GaloreArgs, LoraArgs, TrainingArgs

PAGE = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
SECTIONS: dict[str, type[BaseModel]] = {
    "The whole file": Config,
    "environments, one entry": EnvironmentConfig,
    "environments, seeds": Seeds,
    "reward_plugins, one entry": PluginConfig,
    "reward_plugins, gate": Gate,
    "reward_plugins, weight: linear": Linear,
    "reward_plugins, weight: cosine": Cosine,
    "reward_plugins, weight: steps": Steps,
    "reward_plugins, weight: metric": ByMetric,
    "rewards": RewardsConfig,
    "training_args": TrainingArgs,
    "training_args.lora": LoraArgs,
    "training_args.galore": GaloreArgs,
    "rollout": RolloutConfig,
    "curriculum": Curriculum,
    "replay": Replay,
    "eval": EvalConfig,
    "warm_start": WarmStart,
    "sft": SftConfig,
    "logged": LoggedConfig,
}
INTRO = """\
<!-- Written by scripts/config_docs.py (`make docs`) from the docstrings in mmrl/config.py and its parts: edit them. -->

# Configuration

A run is one YAML file. `mmrl check config FILE` reads it as training would, loads no model, and says what would run;
a mistake costs one line that names the file, the line, the key and the nearest right name, and exit code 2. Any key
can be overridden on the command line, list items by their number:

    mmrl train configs/babyai_goto.yaml training_args.learning_rate=1e-4 environments.0.weight=2

The resolved configuration, every default written out, is stored as `config.yaml` in the run's folder.
Keys in **bold** have no default. An environment that needs no more may be written as its id alone, a reward plugin as
its name: `environments: [text/arithmetic]`.
"""

LIMITS = {"Ge": ">= {ge}", "Gt": "> {gt}", "Le": "<= {le}", "Lt": "< {lt}"}


def type_words(annotation: Any) -> str:
    """A type in the words of YAML."""
    plain: dict[Any, str] = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path",
                             Any: "anything", types.NoneType: "`null`"}  # fmt: skip
    if annotation in plain:
        return plain[annotation]
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_words(inner[0]) + limits(inner[1:])
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_words(a) for a in inner))
    if origin is list:
        return f"list of {type_words(inner[0])}s"
    if origin is tuple:
        return f"[{', '.join(type_words(a) for a in inner)}]"
    if origin is dict:
        return "mapping"
    return "section" if issubclass(annotation, BaseModel) else str(annotation.__name__)


def limits(metadata: typing.Iterable[Any]) -> str:
    """The bounds in a field's metadata."""
    words = [LIMITS[type(m).__name__].format(**vars_of(m)) for m in metadata if type(m).__name__ in LIMITS]
    return f" {', '.join(words)}" if words else ""


def vars_of(bound: Any) -> dict[str, Any]:
    """The attributes of a bound by name."""
    return {name: getattr(bound, name) for name in ("ge", "gt", "le", "lt") if hasattr(bound, name)}


def prose(docstring: str) -> str:
    """A docstring in the words of YAML and in Markdown, on one line."""
    text = " ".join(docstring.replace("``", "`").split()).replace("|", "\\|")
    return re.sub(r"\b(None|True|False)\b", lambda m: f"`{'null' if m[0] == 'None' else m[0].lower()}`", text)


def default_words(field: FieldInfo) -> str:
    """A default as it would stand in the YAML."""
    if field.default is PydanticUndefined:
        return ""
    value = field.default
    if isinstance(value, BaseModel):
        return "its own"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return "`null`" if value is None else f"`{value}`"


def row(name: str, field: FieldInfo) -> str:
    """One key as a row of a table."""
    written = field.alias or name
    key = f"`{written}`" if field.default is not PydanticUndefined else f"**`{written}`**"
    words = prose(field.description or "")
    kind, bounds = type_words(field.annotation), limits(field.metadata)
    kind = kind.replace(" or `null`", f"{bounds} or `null`") if " or `null`" in kind else kind + bounds
    return f"| {key} | {kind} | {default_words(field)} | {words} |"


def page() -> str:
    """The whole page."""
    parts = [INTRO]
    for title, model in SECTIONS.items():
        about = prose(model.__doc__ or "")
        rows = [row(name, field) for name, field in model.model_fields.items()]
        table = "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows])
        parts.append(f"## {title}\n\n{about}\n\n{table}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")
