"""Whether a run's folder is of this configuration and this model: asked before anything is loaded or changed.

Comes in: a configuration and the folder that it would go on in.  Goes out: nothing, or one line with every key that
differs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError

from mmrl.config import Config
from mmrl.config_load import LoadedConfig, dump_config
from mmrl.errors import BadInput
from mmrl.load import RUN_POLICIES
from mmrl_agents.models import ModelFiles, read_config

MOVED = "training_args.output_dir"
"""A run may be moved."""
ABSENT: Any = object()
"""In the place of a value that one of two trees lacks."""


def differences(before: Any, now: Any, key: str = "") -> Iterator[str]:
    """What differs between two trees of mappings, lists and values, as ``key: was A, now B``; in order of keys."""
    if isinstance(before, dict) and isinstance(now, dict):
        old, new = cast("dict[Any, Any]", before), cast("dict[Any, Any]", now)
        for name in dict.fromkeys([*old, *new]):
            yield from differences(old.get(name, ABSENT), new.get(name, ABSENT), f"{key}.{name}" if key else str(name))
    elif isinstance(before, list) and isinstance(now, list):
        olds, news = cast("list[Any]", before), cast("list[Any]", now)
        for i in range(max(len(olds), len(news))):
            one, other = (items[i] if i < len(items) else ABSENT for items in (olds, news))
            yield from differences(one, other, f"{key}.{i}")
    elif before != now:
        yield f"{key}: was {_said(before)}, now {_said(now)}"


def _said(value: Any) -> str:
    return "absent" if value is ABSENT else json.dumps(value, ensure_ascii=False)


def check_same_config(loaded: LoadedConfig) -> None:
    """Refuse to go on with a run that was started with another configuration.

    Raises:
        BadInput: naming every key that differs, with both values.
    """
    path = loaded.output_dir / "config.yaml"
    if not path.is_file():
        return
    apart = [d for d in differences(_completed(path), yaml.safe_load(dump_config(loaded.config)))
             if not d.startswith(f"{MOVED}: ")]  # fmt: skip
    if apart:
        name = next((name for name in RUN_POLICIES if (path.parent / name).is_dir()), None)
        onward = "" if name is None else f", where model_id: {path.parent / name} trains its {name} policy on"
        raise BadInput(f"{path.parent} was started with another config: {'; '.join(apart)}; resume with the same "
                       f"config and overrides, or choose another {MOVED}{onward}")  # fmt: skip


def _completed(path: Path) -> Any:
    """A stored configuration; what it does not say, since an earlier version wrote it, has its default."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is not the config of a run: not valid YAML") from error
    try:
        return yaml.safe_load(dump_config(Config.model_validate(tree)))
    except ValidationError:
        return tree


def check_same_model(folder: Path, files: ModelFiles) -> None:
    """Refuse a checkpoint whose model is not the one that would be loaded, as after a change behind its name.

    An adapter's checkpoint has no model's configuration; whether it fits shows when it is loaded.

    Args:
        folder: of the checkpoint.
        files: of the run's model.

    Raises:
        BadInput: naming every key of the model's configuration that differs.
    """
    if not (folder / "config.json").is_file():
        return
    saved, here = (_shape(read_config(f)) for f in (ModelFiles(str(folder), str(folder)), files))
    if apart := [*differences(saved, here)]:
        raise BadInput(f"{folder} is a checkpoint of another model than '{files.name}' is now: {'; '.join(apart)}; put "
                       f"the model back, or start a new run in another {MOVED}")  # fmt: skip


def _shape(config: Any) -> dict[str, Any]:
    """The kind of a model and its numbers, by part; special tokens say nothing of its weights."""

    def numbers(tree: dict[Any, Any]) -> dict[str, Any]:
        inner = {str(k): numbers(cast("dict[Any, Any]", v)) for k, v in tree.items() if isinstance(v, dict)}
        plain = {str(k): v for k, v in tree.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        return {"model_type": tree.get("model_type"), **{k: v for k, v in plain.items() if "token" not in k}, **inner}

    return numbers(config.to_dict())
