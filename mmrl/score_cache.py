"""Scores remembered on disk, by the content of what was scored.

A key is the hash of the plugin (its class, its arguments and the files that they name, the bytes of its own file and,
in a package, of the files beside it) and of exactly what it was shown: the fields that ``compute`` names, or the whole
trajectory.  Ids,
log-probabilities and policy versions are not part of it.  An edited plugin file, another argument or another answer is
another key.  Failed scores are not kept.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image as PILImage

from mmrl.errors import BadInput
from mmrl.plugin import RewardPlugin, by_compute, needs, takes_state
from mmrl.plugin_fields import Call, fields_of
from mmrl.run_state import RunState
from mmrl.sample import Image, Message, Text, Video
from mmrl.score import Score
from mmrl.trajectory import Trajectory, Turn

LONGEST_PATH = 1024


def default_folder() -> Path:
    """``$XDG_CACHE_HOME/mmrl/scores``, or ``~/.cache/mmrl/scores``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmrl" / "scores"


class ScoreCache:
    """What one plugin said: in ``scores.sqlite`` of a folder, which many plugins, threads and processes may share.

    Args:
        folder: where; made if missing.
        plugin_ref: how the configuration names the plugin.
        kwargs: its arguments.

    Raises:
        BadInput: if the folder cannot be written.
    """

    def __init__(self, folder: Path, plugin_ref: str, kwargs: Mapping[str, Any]) -> None:
        self._who = json.dumps([plugin_ref, kwargs, _files(kwargs)], sort_keys=True, default=repr)
        self._code = ""
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(folder / "scores.sqlite", timeout=60, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, score TEXT NOT NULL)")
            self._db.commit()
        except (OSError, sqlite3.Error) as error:
            raise BadInput(f"cannot keep scores in {folder}: {error}") from error

    def key(self, plugin: RewardPlugin, trajectory: Trajectory, state: RunState) -> str | None:
        """The key of one score; None if what the plugin is shown cannot be told apart by content."""
        shown: Any = trajectory
        if by_compute(plugin):
            names = needs(plugin)
            turns = range(len(trajectory.turns)) if "turn" in names else (None,)
            shown = [fields_of(Call(trajectory, state, t), names) for t in turns]
        elif takes_state(plugin):
            shown = [trajectory, state.step, state.progress, state.metrics]
        try:
            content = json.dumps(plain(shown), sort_keys=True)
        except TypeError:
            return None
        self._code = self._code or _source(plugin)
        return hashlib.sha256("\0".join((self._who, self._code, content)).encode()).hexdigest()

    def get(self, key: str) -> Score | None:
        """The score under ``key``, or None."""
        with self._lock:
            row = self._db.execute("SELECT score FROM scores WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        value, valid, info, status, turns = json.loads(row[0])
        return Score(value, valid, info, status, None if turns is None else tuple(turns))

    def put(self, key: str, score: Score) -> None:
        """Remember a score; one whose info JSON cannot hold is not kept."""
        try:
            row = json.dumps([score.value, score.valid, dict(score.info), score.status, score.turns])
        except TypeError:
            return
        with self._lock, self._db:
            self._db.execute("INSERT OR REPLACE INTO scores VALUES (?, ?)", (key, row))

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _files(kwargs: Mapping[str, Any]) -> list[str]:
    """The hashes of the files that arguments name: a plugin's facts or schema may change under the same name."""
    named = [Path(v) for _, v in sorted(kwargs.items()) if isinstance(v, str | Path) and _may_be_path(str(v))]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in named if path.is_file()]


def _may_be_path(text: str) -> bool:
    return len(text) < LONGEST_PATH and "\0" not in text and "\n" not in text


def _source(plugin: RewardPlugin) -> str:
    """The hash of the code that defines the plugin; its name alone where there is no file."""
    made = plugin.defined_by or type(plugin)
    digest = hashlib.sha256(f"{made.__module__}:{made.__qualname__}".encode())
    try:
        own = Path(inspect.getfile(made))
        in_package = (own.parent / "__init__.py").is_file()
        for path in sorted(own.parent.glob("*.py")) if in_package else [own]:
            digest.update(path.read_bytes())
    except (OSError, TypeError):
        return digest.hexdigest()
    return digest.hexdigest()


def plain(value: Any) -> Any:
    """``value`` in terms of JSON, equal for equal content.

    Raises:
        TypeError: for an object that content does not identify.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    for kind, content in _CONTENT.items():
        if isinstance(value, kind):
            return [kind.__name__, plain(content(value))]
    raise TypeError(f"a {type(value).__name__} has no content to be told by")


_CONTENT: dict[type, Any] = {
    Text: lambda p: p.text,
    Image: lambda p: p.sha256,
    Video: lambda p: p.sha256,
    PILImage: lambda p: [p.mode, p.size, hashlib.sha256(p.tobytes()).hexdigest()],
    Message: lambda m: [m.role, m.content],
    Turn: lambda t: [t.observation, t.response, t.reward, t.info, t.finish_reason, len(t.token_ids)],
    Trajectory: lambda t: [
        t.env_id, t.seed, t.sample.messages, t.sample.reference, t.sample.meta, t.turns, t.terminated, t.truncated,
        t.final_observation,
    ],
}  # fmt: skip
