"""``mmrl list``: what there is, with one line on each."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from mmrl.cli.options import screen
from mmrl.env import EnvFamily
from mmrl.errors import BadInput, one_line, unknown
from mmrl.registry import ENVS, LEARNERS, PLUGINS, POLICIES, Registry

REGISTRIES = {"envs": ENVS, "plugins": PLUGINS, "policies": POLICIES, "learners": LEARNERS}
"""What can be listed."""


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="KIND", help="envs, plugins, policies or learners; by default a little of each."),
    ] = None,
    filter: Annotated[str, typer.Option(help="Show only names and lines that contain this text.")] = "",
) -> None:
    """List environments, plugins, policies and learners; in a pipe, one a line.

    For example:

      mmrl list envs --filter goto

      mmrl list plugins
    """
    if kind is not None and kind not in REGISTRIES:
        raise unknown("kind", kind, REGISTRIES)
    console, found = screen(), 0
    for one in [kind] if kind else list(REGISTRIES):
        rows = env_rows() if one == kind == "envs" else registry_rows(REGISTRIES[one])
        told = [(name, " ".join(line.replace("``", "").split())) for name, line in rows]
        shown = [(name, line) for name, line in told if filter.casefold() in f"{name} {line}".casefold()]
        found += len(shown)
        if not console.is_terminal:
            for name, line in shown:
                print(f"{name}\t{line}")
            continue
        table = Table(title=f"{one} ({len(shown)})", title_justify="left")
        table.add_column("name", no_wrap=True, overflow="fold")
        table.add_column("what it is")
        for name, line in shown:
            table.add_row(name, Text(line))
        console.print(table)
    if not found and filter:
        more = "" if kind else f"; every environment id: mmrl list envs --filter {shlex.quote(filter)}"
        print(f"nothing of what is listed contains '{filter}'{more}", file=sys.stderr)
    if kind is None and console.is_terminal:
        console.print("Every environment id: mmrl list envs", highlight=False)


def registry_rows(registry: Registry) -> list[tuple[str, str]]:
    """Each name of a registry with the first line of its documentation, read without importing it."""
    points = registry.points()
    return [(n, first_line(registry.local[n]) if n in registry.local else source_line(points[n].value))
            for n in registry.names()]  # fmt: skip


def env_rows() -> list[tuple[str, str]]:
    """Every environment id; a family that fails to import is one row that says so."""
    rows: list[tuple[str, str]] = []
    for name in ENVS.names():
        try:
            found = ENVS.get(name)
        except BadInput as error:
            rows.append((name, str(error)))
            continue
        if isinstance(found, EnvFamily):
            rows += [(i, _about(found, i)) for i in found.ids()]
        else:
            rows.append((name, first_line(found)))
    return rows


def _about(family: EnvFamily, env_id: str) -> str:
    try:
        own = family.about(env_id) if family.about is not None else ""
    except Exception as error:  # whatever a package's own code raises
        return f"(cannot be read: {one_line(error)})"
    return own or first_line(family.make if family.takes is None else family.takes(env_id))


def first_line(thing: Any) -> str:
    """The first line of an object's docstring."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def source_line(reference: str) -> str:
    """The first line on ``module:name`` from the source: learners would import torch just to be listed.

    A name without a docstring of its own (a constant) gets its module's.
    """
    module, _, name = reference.partition(":")
    try:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            return f"(module {module} is missing)"
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    except (ImportError, OSError, SyntaxError, ValueError) as error:
        return f"(cannot be read: {error})"
    named = [n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == name]
    # Policies are listed by their loader, whose own line says no more than its name; the module's says what it is.
    own = next((ast.get_docstring(n) for n in named if isinstance(n, ast.ClassDef)), None)
    return (own or ast.get_docstring(tree) or "").partition("\n")[0]
