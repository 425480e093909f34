"""One small typed registry: a name, an entry point, ``module:Class`` or ``path/file.py:Class``.

Comes in: a reference as written in YAML or on the command line.  Goes out: the object it names, or one
line that says what was not found and what is near.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from mmrl.env import Env, EnvFamily
from mmrl.errors import BadInput, one_line, unknown

Factory = TypeVar("Factory", bound=Callable[..., Any])
_FILE = re.compile(r"^(?P<path>.+\.py):(?P<name>[A-Za-z_]\w*)$")
_MODULE = re.compile(r"^(?P<module>[A-Za-z_][\w.]*):(?P<name>[A-Za-z_]\w*)$")


@dataclass
class Registry:
    """Finds objects of one kind by reference.

    Attributes:
        kind: what is registered, for messages ("plugin", "policy", ...).
        group: the entry point group that is searched.
        local: what was registered in this process, by name.
    """

    kind: str
    group: str
    local: dict[str, Any] = field(default_factory=dict)
    _points: dict[str, EntryPoint] | None = None

    def register(self, name: str, value: Any) -> None:
        """Register ``value`` under ``name`` in this process; a later registration wins."""
        self.local[name] = value

    def points(self) -> dict[str, EntryPoint]:
        """The installed entry points of this group, by name."""
        if self._points is None:
            self._points = {p.name: p for p in entry_points(group=self.group)}
        return self._points

    def names(self) -> list[str]:
        """All names that :meth:`get` knows, sorted."""
        return sorted({*self.local, *self.points()})

    def knows(self, ref: str) -> bool:
        """Whether ``ref`` is one of :meth:`names`, or a Python file with or without a name in it."""
        return ref in self.names() or ".py:" in ref or ref.endswith(".py")

    def get(self, ref: str, where: str = "") -> Any:
        """Find the object that ``ref`` names.

        Args:
            ref: a registered name, an entry point, ``module:Class`` or ``path/file.py:Class``.
            where: ``file:line`` of the reference, for the error.

        Raises:
            BadInput: naming the reference, its place and the nearest known name.
        """
        if ref in self.local:
            return self.local[ref]
        if ref in self.points():
            try:
                return self.points()[ref].load()
            except (ImportError, AttributeError) as error:
                what = f"{self.kind} '{ref}' ({self.points()[ref].value})"
                raise BadInput(f"{where}: " * bool(where) + f"{what} fails to import: {error}") from error
        return load_reference(self.kind, ref, self.names(), where)


def load_reference(kind: str, ref: str, known: Iterable[str], where: str = "") -> Any:
    """Load ``module:Class`` or ``path/file.py:Class``.

    Raises:
        BadInput: if the file, module or attribute is missing or fails to import, or if ``ref`` is neither form.
    """
    prefix = f"{where}: " if where else ""
    if match := _FILE.match(ref):
        module = load_file(Path(match["path"]).expanduser(), f"{prefix}{kind} '{ref}'")
    elif match := _MODULE.match(ref):
        try:
            module = importlib.import_module(match["module"])
        except Exception as error:
            raise BadInput(f"{prefix}{kind} '{ref}': cannot import {match['module']}: {error}") from error
    elif ref.endswith(".py"):
        what = f"{prefix}{kind} '{ref}'"
        raise BadInput(f"{what}: say what in it: {_named_in(ref, what)}")
    else:
        raise unknown(kind, ref, known, where)
    if not hasattr(module, match["name"]):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise unknown(f"name in {match.string.rpartition(':')[0]}", match["name"], public, where)
    return getattr(module, match["name"])


def _named_in(ref: str, what: str) -> str:
    """``file.py:Name`` for what a Python file defines, read without running it."""
    path = Path(ref).expanduser()
    _check_file(path, what)
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise BadInput(f"{what}: {path} cannot be read: {one_line(error)}") from error
    defined = [n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
    names = [n.name for n in defined if not n.name.startswith("_")]
    return " or ".join(f"{ref}:{name}" for name in names) if 0 < len(names) <= 12 else f"{ref}:Name"


_loading = threading.RLock()
_loaded: dict[Path, tuple[bytes, ModuleType]] = {}


def load_file(path: Path, what: str) -> ModuleType:
    """Import a file, once for each content: an edited file counts at once, many episodes share one module.

    Args:
        path: a Python file.
        what: what names it, for errors.

    Raises:
        BadInput: if there is no such file or it fails to import.
    """
    _check_file(path, what)
    with _loading:
        source, key = path.read_bytes(), path.resolve()
        if key in _loaded and _loaded[key][0] == source:
            return _loaded[key][1]
        name = f"mmrl_user_{path.stem}_{abs(hash(key))}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            # Not spec.loader.exec_module: its byte code cache overlooks an edit of equal size within one second.
            exec(compile(source, str(path), "exec"), module.__dict__)
        except Exception as error:
            del sys.modules[name]
            raise BadInput(f"{what}: {path} fails to import: {one_line(error)}") from error
        _loaded[key] = (source, module)
        return module


def _check_file(path: Path, what: str) -> None:
    if not path.is_file():
        raise BadInput(f"{what}: no file {path} (looked from {Path.cwd()})")


ENVS = Registry("environment", "mmrl.envs")
PLUGINS = Registry("plugin", "mmrl.plugins")
POLICIES = Registry("policy", "mmrl.policies")
LEARNERS = Registry("learner", "mmrl.learners")


def env_ids() -> list[str]:
    """Every environment id that :func:`make` knows by name."""
    ids: list[str] = []
    for name in ENVS.names():
        found = ENVS.get(name)
        ids += found.ids() if isinstance(found, EnvFamily) else [name]
    return ids


def find_env(env_id: str, where: str = "") -> Callable[..., Env]:
    """Find the factory of ``env_id``: ``factory(**kwargs) -> Env``.

    Raises:
        BadInput: naming the id, its place and the nearest known id.
    """
    if ":" in env_id and env_id not in ENVS.names():
        # A reference: no family is asked, so that none is imported, or can fail, for it.
        return load_reference("environment", env_id, (), where)
    family = _family(env_id)
    if family is not None:
        return lambda **kwargs: family.make(env_id, **kwargs)
    if env_id in ENVS.names() and not isinstance(ENVS.get(env_id), EnvFamily):
        return ENVS.get(env_id)
    alone = ENVS.get(head) if (head := env_id.partition("/")[0]) in ENVS.names() else None
    near = alone.ids() if isinstance(alone, EnvFamily) and len(alone.ids()) == 1 else env_ids()
    return load_reference("environment", env_id, near, where)


def _family(env_id: str) -> EnvFamily | None:
    """The family that ``env_id`` belongs to."""
    head = env_id.partition("/")[0]
    families = [ENVS.get(head)] if head in ENVS.names() else [ENVS.get(n) for n in ENVS.names()]
    return next((f for f in families if isinstance(f, EnvFamily) and env_id in f.ids()), None)


def env_arguments(env_id: str) -> list[str]:
    """The names of the arguments that an environment takes; empty if it does not name them all."""
    family = None if ":" in env_id else _family(env_id)
    named = find_env(env_id) if family is None else family.takes(env_id) if family.takes else family.make
    try:
        parameters = list(inspect.signature(named).parameters.values())
    except (TypeError, ValueError):  # a class written in C, for instance
        return []
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return []
    return [p.name for p in parameters if p.name != "env_id" and p.kind is not p.VAR_POSITIONAL]
