"""Preference pairs as scored-to-be rollouts: two episodes of one task, one of which was preferred.

Comes in: a file of pairs.  Goes out: two trajectories a pair, of one group.  Which was preferred is what their
environment says: reward 1 and success for the chosen answer, 0 for the rejected one, so that the plugins ``env_reward``
and ``task_completion`` pass it on beside whatever else is asked of an answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from mmrl.errors import BadInput
from mmrl.sample import Message, Sample, Text, from_openai, text_of
from mmrl.trajectory import Trajectory, Turn

KEYS = ("prompt", "chosen", "rejected")
RIGHT = 'write {"prompt": ..., "chosen": ..., "rejected": ...}'


def read_preferences(path: Path) -> list[Trajectory]:
    """Read a ``.jsonl`` file, one pair a line.

    ``prompt`` is a string or a chat; ``chosen`` and ``rejected`` are strings, or chats of one answer.

    Raises:
        BadInput: naming the file, the line, what is wrong and what would be right.
    """
    if not path.is_file():
        raise BadInput(f"no preference pairs at {path}: there is no such file")
    # Of text a line would end at U+2028 too, which may stand in a JSON string.
    lines = [(n, line) for n, line in enumerate(path.read_bytes().splitlines(), 1) if line.strip()]
    return [t for n, line in lines for t in _pair(_row(line, f"{path}, line {n}"), f"{path}, line {n}", n)]


def _row(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadInput(f"{where}: not valid JSON ({error.msg}); {RIGHT}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{where}: not UTF-8 ({error.reason} at byte {error.start}); save the file as UTF-8") from error
    if not isinstance(row, dict):
        raise BadInput(f"{where}: a {type(row).__name__} is no pair; {RIGHT}")
    pair = cast("dict[str, Any]", row)
    missing = [key for key in KEYS if key not in pair]
    if missing:
        raise BadInput(f"{where}: lacks '{missing[0]}'; {RIGHT}")
    return pair


def _pair(row: Mapping[str, Any], where: str, number: int) -> list[Trajectory]:
    prompt = _chat(row["prompt"], "user", f"{where}, 'prompt'")
    sample = Sample(f"pair-{number}", prompt)
    return [
        Trajectory(f"pair-{number}-{key}", "preferences", number, f"pair-{number}", sample,
                   (Turn((), _answer(row[key], f"{where}, '{key}'"), reward=reward, info={"success": reward > 0}),),
                   terminated=True, truncated=False)
        for key, reward in (("chosen", 1.0), ("rejected", 0.0))
    ]  # fmt: skip


def _chat(value: Any, role: Any, where: str) -> tuple[Message, ...]:
    if isinstance(value, str):
        return (Message(role, (Text(value),)),)
    if not (isinstance(value, list) and value and all(isinstance(m, dict) for m in cast("list[Any]", value))):
        raise BadInput(f"{where}: write a string, or a chat: a list of messages with 'role' and 'content'")
    try:
        return from_openai(cast("list[Mapping[str, Any]]", value))
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from error


def _answer(value: Any, where: str) -> str:
    chat = _chat(value, "assistant", where)
    if len(chat) != 1 or chat[0].role != "assistant":
        raise BadInput(f"{where}: an answer is a string or a chat of one message, the assistant's; put what comes "
                       "before it into 'prompt'")  # fmt: skip
    return text_of(chat[0].content)
