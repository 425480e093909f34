"""Which keys a configuration knows, and where.

Comes in: a path of keys.  Goes out: the section there, and for a key that is unknown there what may have been meant.
"""

from __future__ import annotations

import types
import typing
from typing import Any

from mmrl.config import Config
from mmrl.errors import closest
from mmrl.section import Section

KeyPath = tuple[str | int, ...]


def section_at(path: KeyPath) -> type[Section] | None:
    """The section of the configuration at ``path``, whose numbers count the items of lists; None if there is none."""
    model: Any = Config
    for part in path:
        if isinstance(part, str):
            field = model.model_fields.get(part) if model is not None else None
            model = None if field is None else _section_in(field.annotation)
    return model


def keys_at(path: KeyPath) -> list[str]:
    """The keys that the configuration knows at ``path``."""
    section = section_at(path)
    return [] if section is None else [field.alias or name for name, field in section.model_fields.items()]


def meant(path: KeyPath) -> str:
    """What may have been meant by the unknown key at the end of ``path``: a question, or which keys there are.

    A name that is nearly the same is a slip; otherwise the same key elsewhere may have been meant as well.
    """
    key, known = str(path[-1]), keys_at(path[:-1])
    slip, near = closest(key, known, alike=0.8), closest(key, known)
    names = [slip] if slip else [*([near] if near else []), *_elsewhere(key, path)]
    said = " or ".join(f"'{name}'" for name in names)
    return f"; did you mean {said}?" if names else f"; known: {', '.join(known)}"


def _elsewhere(key: str, path: KeyPath) -> list[str]:
    """Where else the configuration knows a key of that name."""
    top = keys_at(())
    places = [(name, f"{name}.0" if _is_list(name) else name) for name in top]
    found = [f"{place}.{key}" for name, place in places if key in keys_at((name,))]
    return [*([key] if key in top and len(path) > 1 else []), *found]


def _is_list(name: str) -> bool:
    return typing.get_origin(Config.model_fields[name].annotation) is list


def _section_in(annotation: Any) -> type[Section] | None:
    """The section inside ``X``, ``X | None`` or ``list[X]``."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, Section) else None
    inside = (_section_in(argument) for argument in typing.get_args(annotation))
    return next((section for section in inside if section is not None), None)
