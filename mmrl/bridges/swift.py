"""A suite as an external plugin of ms-swift: a file for ``--external_plugins``, and what that file calls.

Comes in: the completions of a batch and the columns of its rows (``messages``, ``images``, the dataset's own,
``trainer_state``).  Goes out: one float a completion.  ms-swift joins rewards by a sum that leaves None and NaN out,
so that a completion without any reward would count as one with reward 0: here it is an error, which stops the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from mmrl.bridges.columns import REFERENCE, references
from mmrl.bridges.conversation import Exchange, as_images, messages_of, place_images
from mmrl.bridges.record import value_of
from mmrl.bridges.suite_config import Source, SuiteConfig, literal, write_file
from mmrl.bridges.trainer_state import run_state
from mmrl.errors import BadInput
from mmrl.reward import RewardSuite

FILE = '''"""Rewards of mmrl for ms-swift; written by `mmrl export swift`.

    swift rlhf --rlhf_type grpo --external_plugins {path} --reward_funcs {name} ...

Paths of plugin files are looked for from the folder that ms-swift runs in.
"""

from mmrl.bridges.swift import rewards_of

try:
    from swift.rewards import ORM, orms  # ms-swift 4
except ImportError:
    from swift.plugin import ORM, orms  # ms-swift 3

SUITE = {suite}
rewards = rewards_of(SUITE, reference={reference!r})


class MmrlReward(ORM):
    """What the suite says of each completion."""

    def __call__(self, completions, **kwargs) -> list[float]:
        return rewards(completions, kwargs)


orms[{name!r}] = MmrlReward
'''


def export(source: Source, path: str | Path, reference: str = REFERENCE, name: str = "mmrl",
           force: bool = False) -> None:
    """Write the plugin file; ms-swift runs it with mmrl installed beside it.

    Args:
        source: a run's configuration, or entries of ``reward_plugins``.
        path: the file.
        reference: the dataset's column with the ground truth; ms-swift's own datasets call it ``solution``.
        name: what ``--reward_funcs`` calls the reward.
        force: replace a file that exists.

    Raises:
        BadInput: if a plugin or ``name`` is wrong, or the file exists or has no fitting name.
    """
    if not name.isidentifier():
        raise BadInput(f"--reward_funcs takes a name of letters, digits and _, not {name!r}")
    suite = SuiteConfig.of(source).yaml()
    SuiteConfig.from_yaml(suite).build()
    text = FILE.format(path=Path(path).name, name=name, suite=literal(suite), reference=reference)
    write_file(Path(path), text, force)


def rewards_of(suite: str, reference: str = REFERENCE) -> Callable[[Sequence[str], Mapping[str, Any]], list[float]]:
    """The function that the plugin file calls: ``rewards(completions, columns)``.

    Raises:
        BadInput: if the suite's text is wrong; when called, if a column that is needed is missing.
        NoReward: when called, for a completion without a reward.
    """
    built = SuiteConfig.from_yaml(suite).build()

    def rewards(completions: Sequence[str], columns: Mapping[str, Any]) -> list[float]:
        return _rewards(built, reference, completions, columns)

    return rewards


def _rewards(suite: RewardSuite, reference: str, completions: Sequence[str],
             columns: Mapping[str, Any]) -> list[float]:
    rows = len(completions)
    truth = references(columns, reference, suite, rows, "mmrl export swift --reference COLUMN names another one")
    state = run_state(columns.get("trainer_state"), suite)
    chats = columns.get("messages")
    if not isinstance(chats, list) or len(cast("list[Any]", chats)) != rows:
        raise BadInput("ms-swift hands over a column 'messages', one conversation a completion; there is none")
    trajectories = [
        _exchange(f"swift-{state.step}-{i}", chat, truth[i], {k: _row(columns, k, i) for k in _OPTIONAL}).trajectory()
        for i, chat in enumerate(cast("list[Any]", chats))
    ]
    records = suite.score(trajectories, state)
    return [value_of(r, f"completion {i}") for i, r in enumerate(records)]


_OPTIONAL = ("images", "rollout_infos", "response_token_ids")


def _row(columns: Mapping[str, Any], name: str, i: int) -> Any:
    column = columns.get(name)
    return None if column is None else column[i]


def _exchange(where: str, chat: Any, reference: Any, row: Mapping[str, Any]) -> Exchange:
    """One conversation, cut before the answers of this rollout: earlier ones came with the dataset."""
    messages = messages_of(chat, "user", where)
    messages = place_images(messages, as_images(row["images"], where), where)
    spoken = [i for i, m in enumerate(messages) if m.role == "assistant"]
    turns = max(1, min(int((row["rollout_infos"] or {}).get("num_turns", 1)), len(spoken)))
    first = spoken[-turns] if spoken else len(messages)
    return Exchange(where, "ms-swift", messages[:first], messages[first:], reference, _ids(row["response_token_ids"]))


def _ids(value: Any) -> Sequence[Sequence[int]]:
    """Sampled ids, an answer each: ms-swift gives one list for one answer, a list of lists for several."""
    if not value:
        return ()
    return value if isinstance(value[0], list | tuple) else [value]
