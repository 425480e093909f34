"""A suite as verl's custom reward function: a file with ``compute_score``, and what that file calls.

Comes in: one answer at a time, its ground truth, and ``extra_info`` of its row.  Goes out: ``score`` and
``reward/<plugin>``, which verl logs in validation.  verl takes a NaN for a reward and has no word for "none": an answer
without a reward is an error, which stops the run under its reward managers ``naive``, ``dapo`` and ``gdpo``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmrl.bridges.columns import plain
from mmrl.bridges.conversation import Exchange
from mmrl.bridges.record import value_of
from mmrl.bridges.suite_config import Source, SuiteConfig, literal, write_file
from mmrl.bridges.trainer_state import scheduled
from mmrl.errors import BadInput
from mmrl.reward import RewardSuite
from mmrl.sample import Message, Text

QUESTION = "question"
"""Where verl's own examples keep what the policy was asked."""
FILE = '''"""Rewards of mmrl for verl; written by `mmrl export verl`.

    python -m verl.trainer.main_ppo custom_reward_function.path={path} ...

Paths of plugin files are looked for from the folder that verl's workers run in.
"""

from mmrl.bridges.verl import scorer

SUITE = {suite}
score = scorer(SUITE, question={question!r})


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    """What the suite says of an answer: its score, and each plugin's."""
    return score(data_source, solution_str, ground_truth, extra_info)
'''
Scorer = Callable[[str, str, Any, Mapping[str, Any] | None], dict[str, float]]


def export(source: Source, path: str | Path, question: str | None = QUESTION, force: bool = False) -> None:
    """Write the file with ``compute_score``; verl runs it with mmrl installed beside it.

    Args:
        source: a run's configuration, or entries of ``reward_plugins``.
        path: the file.
        question: the key of ``extra_info`` with what the policy was asked; None if no plugin looks at it.  verl does
            not hand the prompt to a reward function.
        force: replace a file that exists.

    Raises:
        BadInput: if a plugin is wrong, a weight is scheduled (verl does not tell a reward function the step), or the
            file exists or has no fitting name.
    """
    suite = SuiteConfig.of(source).yaml()
    _build(SuiteConfig.from_yaml(suite))
    text = FILE.format(path=Path(path).name, suite=literal(suite), question=question)
    write_file(Path(path), text, force)


def scorer(suite: str, question: str | None = QUESTION) -> Scorer:
    """The function that the file calls: ``score(data_source, solution_str, ground_truth, extra_info)``.

    Raises:
        BadInput: if the suite's text is wrong; when called, if ``extra_info`` lacks the question.
        NoReward: when called, for an answer without a reward.
    """
    built = _build(SuiteConfig.from_yaml(suite))

    def score(data_source: str, solution_str: str, ground_truth: Any,
              extra_info: Mapping[str, Any] | None = None) -> dict[str, float]:
        prompt = () if question is None else (Message("user", (Text(_asked(extra_info or {}, question)),)),)
        answer = (Message("assistant", (Text(solution_str),)),)
        exchange = Exchange(f"verl-{data_source}", "verl", prompt, answer, plain(ground_truth),
                            meta={"data_source": data_source})  # fmt: skip
        (record,) = built.score([exchange.trajectory()])
        value = value_of(record, f"an answer of {data_source}")
        # The same keys in every answer: verl reads them off the first one of a batch.
        parts = {f"reward/{n}": s.value if s.valid else math.nan for n, s in record.scores.items()}
        return {"score": value, **parts}

    return score


def _build(config: SuiteConfig) -> RewardSuite:
    suite = config.build()
    if moving := scheduled(suite):
        raise BadInput(f"the weight of '{moving[0]}' is scheduled, but verl does not tell a reward function how far "
                       "the run is; give a number")  # fmt: skip
    return suite


def _asked(extra_info: Mapping[str, Any], question: str) -> str:
    text = extra_info.get(question)
    if not isinstance(text, str):
        raise BadInput(f"extra_info has no text under '{question}' (it has {', '.join(extra_info) or 'nothing'}); "
                       "mmrl export verl --question KEY names another key, an empty one says that no plugin needs it")
    return text
