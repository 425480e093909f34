"""Whether the answers are JSON of the asked-for shape.

Comes in: every answer's text, and a JSON schema.  Goes out: 1 or 0, and what was wrong where.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from mmrl.errors import BadInput
from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.trajectory import Turn
from mmrl_plugins._answers import tag_name
from mmrl_plugins._arguments import imported, installed
from mmrl_plugins._text import tagged

PATTERN_TIMEOUT_S = 1.0
_FENCE = "```"


class JsonSchema(RewardPlugin):
    """Is the answer valid JSON for this schema?  1 or 0 a turn, the mean over turns; well under a millisecond.

    The answer is JSON as a whole, or holds exactly one fenced block, or (``tag``) stands in ``<tag>...</tag>``
    exactly once.  Read strictly: no ``NaN``, no key twice.  Validated by ``jsonschema`` for the dialect that the
    schema's ``$schema`` names (2020-12 otherwise); ``format`` is not checked and nothing is fetched, so that a
    ``$ref`` leads within the schema.  A ``pattern`` that backtracks for over a second fails the score.

    Failure modes: a loose schema is satisfied by empty strings and lists: say ``minLength``, ``minItems``, ``enum``,
    ``required`` and ``additionalProperties: false``.

    Args:
        schema: the schema itself.
        path: or a JSON file that holds it.
        tag: read only what stands in ``<tag>...</tag>``.

    Raises:
        BadInput: for both or neither of ``schema`` and ``path``, a file or a schema that is none, or a bad tag.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(self, schema: Mapping[str, Any] | None = None, path: str | Path | None = None,
                 tag: str | None = None) -> None:
        installed("jsonschema", "jsonschema")
        installed("regex", "regex")
        if (schema is None) == (path is None):
            raise BadInput("give either schema (a JSON schema) or path (a JSON file that holds one)")
        self.tag = tag_name(tag)
        self._validator = _validator(schema if path is None else _read(Path(path)), str(path or "schema"))

    def compute(self, turn: Turn) -> Score:
        """Judge the answer of ``turn``."""
        try:
            value = self.extract(turn.response)
            problem = next((_say(e) for e in self._validator.iter_errors(value)), "")
        except RecursionError:
            problem = "nested too deeply"
        except json.JSONDecodeError as error:
            problem = f"no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        except _NotStrict as error:
            problem = str(error)
        return Score(float(not problem), info={"problem": problem} if problem else {})

    def extract(self, response: str) -> Any:
        """The JSON value in ``response``.

        Raises:
            ValueError: if there is none, or more than one.
        """
        if self.tag is not None:
            inside, problem = tagged(response, self.tag)
            if inside is None:
                raise _NotStrict(problem)
            return _parse(inside)
        parts = response.split(_FENCE)
        # JSON may hold the fence's marks in a string; prose around a block is no JSON.
        if len(parts) == 1 or response.lstrip()[:1] in ("{", "["):
            return _parse(response)
        if len(parts) != 3:
            raise _NotStrict(f"{_FENCE} comes {len(parts) - 1} times; one block opens and closes once")
        language, newline, body = parts[1].partition("\n")
        return _parse(body if newline and language.strip().casefold() in ("", "json") else parts[1])


class _NotStrict(ValueError):
    """JSON that Python would read, but that others would read otherwise or not at all."""


def _constant(name: str) -> Any:
    raise _NotStrict(f"{name} is no JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise _NotStrict(f"the key {key[:40]!r} comes twice in one object")
        made[key] = value
    return made


def _integer(digits: str) -> int:
    if len(digits) > 1000:  # Python refuses to read 4,300 digits and more
        raise _NotStrict(f"a number of {len(digits)} digits")
    return int(digits)


def _decimal(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _NotStrict(f"the number {digits[:40]} is too large")
    return value


def _parse(text: str) -> Any:
    return json.loads(text, parse_constant=_constant, object_pairs_hook=_object, parse_int=_integer,
                      parse_float=_decimal)  # fmt: skip


def _say(error: Any) -> str:
    return f"{error.json_path}: {error.message[:200]}"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"path {path}: no JSON file: {error}") from error


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[Any]:
    """The keyword ``pattern``, with a time limit that jsonschema's own lacks."""
    if isinstance(instance, str):
        found = imported("regex").search(pattern, instance, timeout=PATTERN_TIMEOUT_S, concurrent=True)
        if found is None:
            yield imported("jsonschema").ValidationError(f"{instance[:80]!r} does not match {pattern!r}")


def _validator(schema: Any, where: str) -> Any:
    jsonschema, referencing = imported("jsonschema"), imported("referencing")
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise BadInput(f"{where}: no JSON schema: {_say(error)}") from error
    limited = jsonschema.validators.extend(kind, {"pattern": _pattern})
    return limited(schema, registry=referencing.Registry())  # an empty registry: nothing is fetched
