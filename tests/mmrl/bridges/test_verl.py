"""The exported file under verl's convention: loaded from its path, ``compute_score`` called with keywords.

verl itself (with its engines) is not installed.  Its documentation says how a custom reward function is declared
(``data_source``, ``solution_str``, ``ground_truth``, ``extra_info``) and found (``custom_reward_function.path``); its
reward managers call it with those keywords, from several threads at once, and read ``score`` and further keys from
what it returns.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmrl
from mmrl.bridges import verl
from mmrl.bridges.record import NoReward


def load(path: Path) -> Callable[..., dict[str, float]]:
    """As verl loads it."""
    spec = importlib.util.spec_from_file_location("custom_module", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.compute_score


def exported(path: Path, *entries: dict[str, Any], **kwargs: Any) -> Callable[..., dict[str, float]]:
    verl.export(entries, path, **kwargs)
    return load(path)


def test_an_answer_is_paid_what_the_suite_says(tmp_path: Path, plugins: str):
    entries = [{"name": f"{plugins}:Vowels", "as": "vowels"}, {"name": "exact_match", "weight": 2}]
    compute_score = exported(tmp_path / "reward.py", *entries)
    sample = mmrl.Sample.ask("Which?", ["abe", "x"])
    for text in ("abe", "no"):
        turn = mmrl.Turn(sample.messages[0].content, text)
        own = mmrl.RewardSuite.from_config(entries).score(
            [mmrl.Trajectory("", "", 0, "", sample, (turn,), True, False)])[0]
        said = compute_score(data_source="openai/gsm8k", solution_str=text, ground_truth=np.array(["abe", "x"]),
                             extra_info={"question": "Which?", "num_turns": 2})  # fmt: skip
        assert said == {"score": own.value, "reward/vowels": own.scores["vowels"].value,
                        "reward/exact_match": own.scores["exact_match"].value}  # fmt: skip


def test_many_threads_at_once(tmp_path: Path, plugins: str):
    compute_score = exported(tmp_path / "reward.py", {"name": f"{plugins}:Size", "as": "size"}, question=None)
    with ThreadPoolExecutor(16) as pool:
        calls = [pool.submit(compute_score, data_source="d", solution_str="a" * n, ground_truth="", extra_info=None)
                 for n in range(64)]  # fmt: skip
        assert [c.result()["score"] for c in calls] == [float(n) for n in range(64)]


def test_no_reward_is_an_error_with_its_reason(tmp_path: Path, plugins: str):
    picky = {"name": f"{plugins}:Picky", "as": "picky"}
    compute_score = exported(tmp_path / "reward.py", picky, question=None)
    row = {"data_source": "d", "ground_truth": "x"}
    assert compute_score(**row, solution_str="ab") == {"score": 1.0, "reward/picky": 1.0}
    with pytest.raises(NoReward, match=r"^an answer of d has no reward: picky failed: ValueError: odd: abc$"):
        compute_score(**row, solution_str="abc")
    with pytest.raises(NoReward, match=r"has no reward: no plugin applies \(picky: the plugin gave no answer\)"):
        compute_score(**row, solution_str="")


def test_a_plugin_that_does_not_apply_keeps_its_key(tmp_path: Path, plugins: str):
    entries = [{"name": f"{plugins}:Picky", "as": "picky"}, {"name": f"{plugins}:Size", "as": "size"}]
    said = exported(tmp_path / "reward.py", *entries, question=None)("d", "", "x")
    assert list(said) == ["score", "reward/picky", "reward/size"]
    assert said["score"] == 0.0
    assert math.isnan(said["reward/picky"])


def test_the_question_comes_from_extra_info(tmp_path: Path, plugins: str):
    (tmp_path / "asked.py").write_text("def asked(query, response):\n    return float(query == response)\n")
    compute_score = exported(tmp_path / "reward.py", {"name": "asked.py:asked"}, question="raw")
    assert compute_score("d", "a?", "x", {"raw": "a?"})["score"] == 1.0
    with pytest.raises(mmrl.BadInput, match=r"no text under 'raw' \(it has index, split\); .*--question KEY"):
        compute_score("d", "a?", "x", {"index": 0, "split": "train"})
    with pytest.raises(mmrl.BadInput, match=r"\(it has nothing\)"):
        compute_score("d", "a?", "x")


def test_what_verl_cannot_do_is_refused(tmp_path: Path, plugins: str):
    path = tmp_path / "reward.py"
    weight = {"schedule": "cosine", "from": 0, "to": 1}
    with pytest.raises(mmrl.BadInput, match="the weight of 'exact_match' is scheduled, but verl does not tell"):
        verl.export([{"name": "exact_match", "weight": weight}], path)
    with pytest.raises(mmrl.BadInput, match="unknown plugin 'exact_mach'"):
        verl.export([{"name": "exact_mach"}], path)
    assert not path.exists()
