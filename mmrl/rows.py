"""The row format of stored rollouts: one row a trajectory, readable by pandas and ``datasets`` in one line.

Comes in: trajectories.  Goes out: plain rows (numbers, strings, lists) under one explicit schema, and the same
trajectories back, exactly.  What JSON cannot hold in ``info``, ``meta`` and ``reference`` becomes its ``repr``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from mmrl.errors import BadInput
from mmrl.image import Image
from mmrl.sample import Content, Message, Part, Sample, Text, from_openai, text_of
from mmrl.score import RewardRecord, Score
from mmrl.trajectory import Trajectory, Turn
from mmrl.video import Video

MAX_ARRAY = 1024
"""Arrays in ``info`` with more elements than this become their ``repr`` (they are observations, not facts)."""

SaveImage = Callable[[Image], str]
LoadImage = Callable[[str], Image]


def schema() -> Any:
    """The pyarrow schema of a rollout file, the same for every file."""
    import pyarrow as pa

    text, real, flag, whole = pa.string(), pa.float64(), pa.bool_(), pa.int64()
    ids = pa.list_(pa.int32())
    turn = pa.struct({
        "observation": text, "text": text, "response": text, "prefix_len": pa.int32(), "prompt_ids": ids,
        "token_ids": ids, "logprobs": pa.list_(real), "finish_reason": text, "reward": real, "info": text,
        "version": whole, "prefix_images": pa.int32(), "images": pa.list_(text),
    })  # fmt: skip
    score = pa.struct({
        "name": text, "value": real, "valid": flag, "status": text, "info": text, "turns": pa.list_(real),
        "weight": real,
    })  # fmt: skip
    return pa.schema({
        "id": text, "step": whole, "env_id": text, "seed": whole, "group": text, "reward": real, "valid": flag,
        "advantage": real, "policy_version": whole, "success": flag, "terminated": flag, "truncated": flag,
        "error": text, "n_turns": whole, "env_return": real, "sample_id": text, "messages": text,
        "final_observation": text, "reference": text, "meta": text, "turns": pa.list_(turn),
        "scores": pa.list_(score), "gate": text, "reward_turns": pa.list_(real),
    })  # fmt: skip


def jsonable(value: Any) -> Any:
    """``value`` in terms of JSON: numpy scalars, arrays and tuples become numbers and lists, the rest its ``repr``.

    Numbers that JSON lacks (NaN, infinities) become their ``repr`` too.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, np.generic):
        return jsonable(value.item())
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(float(value))
    if isinstance(value, np.ndarray) and value.size <= MAX_ARRAY:
        return jsonable(value.tolist())
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in cast("Sequence[Any]", value)]
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in cast("Mapping[Any, Any]", value).items()}
    return repr(value)


def _utf8(text: str) -> str:
    """``text`` with lone surrogates, which UTF-8 cannot hold, replaced by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _dumps(value: Any) -> str:
    return _utf8(json.dumps(jsonable(value), ensure_ascii=False))


def _parts(content: Content, save: SaveImage) -> list[dict[str, Any]]:
    def encode(part: Part) -> dict[str, Any]:
        if isinstance(part, Text):
            return {"type": "text", "text": part.text}
        if isinstance(part, Image):
            return {"type": "image_url", "image_url": {"url": save(part)}}
        times = {} if part.is_regular else {"times": part.times}
        return {"type": "video", "video": [save(frame) for frame in part.frames], "fps": part.fps, **times}

    return [encode(part) for part in content]


def _content(parts: Sequence[Mapping[str, Any]], load: LoadImage) -> Content:
    def decode(part: Mapping[str, Any]) -> Part:
        if part["type"] == "image_url":
            return load(part["image_url"]["url"])
        if part["type"] == "video":
            return Video([load(frame) for frame in part["video"]], part["fps"], part.get("times"))
        return from_openai([{"role": "user", "content": [part]}])[0].content[0]

    return tuple(decode(part) for part in parts)


def _chat(messages: Sequence[Message], save: SaveImage) -> list[dict[str, Any]]:
    def encode(content: Content) -> str | list[dict[str, Any]]:
        only = content[0] if len(content) == 1 else None
        return only.text if isinstance(only, Text) else _parts(content, save)

    return [{"role": m.role, "content": encode(m.content)} for m in messages]


def _unchat(chat: Sequence[Mapping[str, Any]], load: LoadImage) -> tuple[Message, ...]:
    return tuple(
        Message(m["role"], (Text(m["content"]),) if isinstance(m["content"], str) else _content(m["content"], load))
        for m in chat
    )


def _shared(before: Sequence[Any], now: Sequence[Any]) -> int:
    """How many leading items the two have in common."""
    if now[: len(before)] == before:
        return len(before)
    return next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), min(len(before), len(now)))


def _turn_rows(turns: Sequence[Turn], save: SaveImage) -> list[dict[str, Any]]:
    """Rows of turns; a later prompt repeats the transcript, so only what follows the shared start is kept."""
    rows: list[dict[str, Any]] = []
    before: tuple[int, ...] = ()
    seen: tuple[Image, ...] = ()
    for turn in turns:
        shared, old = _shared(before, turn.prompt_ids), _shared(seen, turn.images)
        before, seen = turn.prompt_ids + turn.token_ids, turn.images
        rows.append({
            "observation": _dumps(_parts(turn.observation, save)), "text": _utf8(text_of(turn.observation)),
            "response": _utf8(turn.response), "prefix_len": shared, "prompt_ids": turn.prompt_ids[shared:],
            "token_ids": turn.token_ids, "logprobs": turn.logprobs, "finish_reason": turn.finish_reason,
            "reward": float(turn.reward), "info": _dumps(turn.info), "version": turn.version,
            "prefix_images": old, "images": [save(image) for image in turn.images[old:]],
        })  # fmt: skip
    return rows


def _turns(rows: Sequence[Mapping[str, Any]], load: LoadImage) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    before: tuple[int, ...] = ()
    seen: tuple[Image, ...] = ()
    for r in rows:
        prompt = before[: r["prefix_len"]] + tuple(r["prompt_ids"])
        tokens = tuple(r["token_ids"])
        before = prompt + tokens
        seen = seen[: r.get("prefix_images") or 0] + tuple(load(name) for name in r.get("images") or ())
        turns.append(Turn(
            _content(json.loads(r["observation"]), load), r["response"], prompt, tokens, tuple(r["logprobs"]),
            r["finish_reason"], r["reward"], json.loads(r["info"]), r["version"],
            seen,
        ))  # fmt: skip
    return tuple(turns)


def _score_rows(record: RewardRecord | None) -> list[dict[str, Any]] | None:
    if record is None:
        return None
    return [
        {"name": name, "value": float(s.value) if s.valid else None, "valid": s.valid, "status": s.status,
         "info": _dumps(s.info), "turns": _floats(s.turns), "weight": record.weights.get(name)}
        for name, s in record.scores.items()
    ]  # fmt: skip


def _record(row: Mapping[str, Any]) -> RewardRecord | None:
    if row["scores"] is None:
        return None
    scores = {
        s["name"]: Score(s["value"] if s["valid"] else 0.0, s["valid"], json.loads(s["info"]), s["status"],
                         _tuple(s["turns"]))
        for s in row["scores"]
    }  # fmt: skip
    weights = {s["name"]: s["weight"] for s in row["scores"] if s["weight"] is not None}
    return RewardRecord(row["reward"] or 0.0, row["reward"] is not None, scores, weights, row["gate"],
                        _tuple(row["reward_turns"]))  # fmt: skip


def _floats(values: Sequence[float] | None) -> list[float] | None:
    return None if values is None else [float(v) for v in values]


def _tuple(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(values)


def to_row(step: int, t: Trajectory, advantage: float | None, save: SaveImage) -> dict[str, Any]:
    """Make the row of a trajectory.

    A reward or a score that does not count is null, never 0.

    Args:
        step: the training step that the trajectory belongs to.
        t: the trajectory.
        advantage: its advantage, or None if it was not learned from.
        save: stores an image and returns its path relative to the run.
    """
    counts = t.record is not None and t.record.valid
    return {
        "id": t.id, "step": step, "env_id": t.env_id, "seed": t.seed, "group": t.group,
        "reward": float(t.record.value) if t.record is not None and counts else None, "valid": t.valid,
        "advantage": None if advantage is None else float(advantage),
        "policy_version": max((turn.version for turn in t.turns), default=0), "success": t.success,
        "terminated": t.terminated, "truncated": t.truncated, "error": None if t.error is None else _utf8(t.error),
        "n_turns": len(t.turns), "env_return": t.env_return, "sample_id": _utf8(t.sample.id),
        "messages": _dumps(_chat(t.messages, save)), "final_observation": _dumps(_parts(t.final_observation, save)),
        "reference": None if t.sample.reference is None else _dumps(t.sample.reference),
        "meta": _dumps(t.sample.meta), "turns": _turn_rows(t.turns, save), "scores": _score_rows(t.record),
        "gate": t.record.gate if t.record else None, "reward_turns": _floats(t.record.turns) if t.record else None,
    }  # fmt: skip


def from_row(row: Mapping[str, Any], load: LoadImage) -> Trajectory:
    """Make the trajectory of a row; the inverse of :func:`to_row`.

    Args:
        row: a row as pyarrow's ``to_pylist`` gives it.
        load: opens an image by its path relative to the run.

    Raises:
        BadInput: if a value is not what :func:`to_row` writes.
    """
    try:
        turns = _turns(row["turns"], load)
        messages = _unchat(json.loads(row["messages"]), load)
        # The conversation is the sample's messages, then answers with the observations between them.
        said = max(0, 2 * len(turns) - 1)
        sample = Sample(row["sample_id"], messages[: len(messages) - said],
                        None if row["reference"] is None else json.loads(row["reference"]), json.loads(row["meta"]))
        return Trajectory(
            row["id"], row["env_id"], row["seed"], row["group"], sample, turns, row["terminated"], row["truncated"],
            _content(json.loads(row["final_observation"]), load), row["error"], _record(row),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"not a rollout row as mmrl writes it ({type(error).__name__}: {error})") from error
