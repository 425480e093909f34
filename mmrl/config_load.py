"""Read a configuration: YAML with line numbers, overrides, and errors that point at the line.

Comes in: a path and ``key.path=value`` words.  Goes out: a :class:`LoadedConfig`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mmrl.config import Config
from mmrl.config_keys import KeyPath, keys_at, meant, section_at
from mmrl.errors import BadInput, nearest
from mmrl.schedule import untagged

OVERRIDE = "override "
"""How the place of a key from the command line begins."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 5e-6 as a string; this reads it as the number that it is in YAML 1.2."""


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration and where each of its keys came from.

    Attributes:
        config: the validated configuration.
        path: the YAML file.
        lines: key path -> place (``file:line`` or the override's own words).
    """

    config: Config
    path: Path
    lines: dict[KeyPath, str] = field(repr=False)

    def where(self, *key: str | int) -> str:
        """The place of the key, or of the nearest key above it, and the overrides of keys below it."""
        below = [v for k, v in self.lines.items() if k[: len(key)] == key != k and v.startswith(OVERRIDE)]
        return " with ".join([_where(self.lines, key, str(self.path)), *below])

    @property
    def output_dir(self) -> Path:
        """The run's folder."""
        return self.config.training_args.output_dir or Path("runs") / self.path.stem


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Read and validate a YAML file, or that of a run's folder, with ``key.path=value`` overrides.

    Raises:
        BadInput: one line: file and line (or the override), the key, what is wrong, what would be right.
    """
    path = Path(path)
    if (path / "config.yaml").is_file():  # the folder of a run
        path /= "config.yaml"
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else [])
        what = "a folder without a config.yaml" if path.is_dir() else "no such file"
        raise BadInput(f"config {path}: {what}{near}")
    tree, lines = _read(path)
    for word in overrides:
        _override(tree, lines, word)
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise BadInput(_explain(error.errors()[0], lines, str(path))) from None
    return LoadedConfig(config, path, lines)


def dump_config(config: Config) -> str:
    """The configuration as YAML, every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def _read(path: Path) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, _Loader)
        tree = yaml.load(text, _Loader)  # a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise BadInput(f"{path}{line}: not valid YAML: {problem}") from error
    if not isinstance(tree, dict):
        raise BadInput(f"{path}:1: a config is a mapping with train_type, model_id, environments, ...")
    lines: dict[KeyPath, str] = {}
    _mark(node, (), lines, str(path))
    return cast("dict[str, Any]", tree), lines


def _mark(node: Any, key: KeyPath, lines: dict[KeyPath, str], path: str) -> None:
    """Record the line of every key below ``node``."""
    if isinstance(node, yaml.MappingNode):
        for k, v in node.value:
            at, where = (*key, k.value), f"{path}:{k.start_mark.line + 1}"
            if at in lines:
                raise BadInput(f"{where}: '{'.'.join(map(str, at))}' is given twice, first at {lines[at]}")
            lines[at] = where
            _mark(v, at, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for i, v in enumerate(node.value):
            lines[(*key, i)] = f"{path}:{v.start_mark.line + 1}"
            _mark(v, (*key, i), lines, path)


def _override(tree: dict[str, Any], lines: dict[KeyPath, str], word: str) -> None:
    name, equals, value = word.partition("=")
    if not equals or not name:
        raise BadInput(f"override '{word}': write key.path=value, for instance training_args.learning_rate=1e-4")
    key: KeyPath = tuple(int(p) if p.isdigit() else p for p in name.split("."))
    at: Any = tree
    for i, part in enumerate(key[:-1]):
        if isinstance(at, list) and isinstance(part, int) and part < len(cast("list[Any]", at)):
            at[part] = _written_long(at[part], key[: i + 1])
            at = at[part]
        elif isinstance(at, dict) and isinstance(part, str):
            at[part] = {} if at.get(part) is None else _written_long(at[part], key[: i + 1])
            at = at[part]
        else:
            raise BadInput(f"override '{word}': the config has no '{'.'.join(map(str, key[: i + 1]))}'")
    last = key[-1]
    if isinstance(at, list) and not (isinstance(last, int) and last < len(cast("list[Any]", at))):
        raise BadInput(f"override '{word}': '{'.'.join(map(str, key[:-1]))}' is a list of {len(at)}; number its items")
    if not isinstance(at, dict | list):
        raise BadInput(f"override '{word}': '{'.'.join(map(str, key[:-1]))}' holds a single value, not keys")
    target: Any = at
    target[last] = parse_value(value, f"override '{word}'")
    for replaced in [k for k in lines if k[: len(key)] == key]:
        del lines[replaced]
    lines[key] = f"{OVERRIDE}'{word}'"


def _written_long(value: Any, path: KeyPath) -> Any:
    """``value``, or the mapping that it is short for."""
    section = section_at(path) if isinstance(value, str) else None
    return value if section is None or section.shorthand is None else {section.shorthand: value}


def parse_value(text: str, what: str) -> Any:
    """Read one value as it would be read in the YAML file.

    Raises:
        BadInput: if it is not valid YAML; ``what`` names it.
    """
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except yaml.YAMLError as error:
        raise BadInput(f"{what}: the value is not valid YAML") from error


def _where(lines: dict[KeyPath, str], key: KeyPath, default: str) -> str:
    for n in range(len(key), 0, -1):
        if key[:n] in lines:
            return lines[key[:n]]
    return default


def _explain(error: ErrorDetails, lines: dict[KeyPath, str], path: str) -> str:
    loc = _path(error["loc"])
    where, name = _where(lines, loc, path), ".".join(map(str, loc))
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key '{name}'{meant(loc)}"
    if error["type"] == "missing":
        return f"{where}: '{name}' is missing{_perhaps_named(loc, error['input'])}"
    if error["type"] == "model_type":
        section = section_at(loc)
        short = "" if section is None or section.shorthand is None else f" or {section.shorthand} alone"
        return f"{where}: '{name}': should be a mapping of keys{short}, not {error['input']!r:.60}"
    return f"{where}: '{name}': {error['msg'][0].lower()}{error['msg'][1:]}, not {error['input']!r:.60}"


def _perhaps_named(loc: KeyPath, given: Any) -> str:
    """What to write where a section is named by its only key, as in ``- format: {weight: 2}``."""
    section, keys = section_at(loc[:-1]), [*given] if isinstance(given, dict) else []
    named = section is not None and section.shorthand == loc[-1] and len(keys) == 1 and keys[0] not in keys_at(loc[:-1])
    return f"; write '{loc[-1]}: {keys[0]}' and other keys beside it" if named else ""


def _path(loc: KeyPath) -> KeyPath:
    """The keys of pydantic's location, without the names of the alternatives that it tried at a key."""
    alternatives = ("list[str]", "literal['all-linear']")
    return tuple(p for p in untagged(loc) if p not in alternatives)
