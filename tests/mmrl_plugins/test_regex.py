from typing import Any

import pytest

from mmrl import BadInput, RewardSuite, Sample, Trajectory, Turn
from mmrl_plugins.regex import Regex


def value(pattern: str, text: str, **kwargs: Any) -> float:
    return Regex(pattern, **kwargs).compute(Turn((), text)).value


@pytest.mark.parametrize(("pattern", "text", "kwargs", "expected"), [
    (r"\d+", "it is 42.", {}, 1.0), (r"\d+", "none", {}, 0.0), (r"\d+", "it is 42.", {"match": "full"}, 0.0),
    (r"\d+", "42", {"match": "full"}, 1.0), ("as an ai", "As an AI, I", {"negate": True}, 1.0),
    ("(?i)as an ai", "As an AI, I", {"negate": True}, 0.0), ("a.b", "a\nb", {"match": "full"}, 0.0),
    ("(?s)a.b", "a\nb", {"match": "full"}, 1.0), (r"\p{Han}", "ok 你好", {}, 1.0), ("^$", "", {}, 1.0),
])  # fmt: skip
def test_values(pattern: str, text: str, kwargs: dict[str, Any], expected: float) -> None:
    assert value(pattern, text, **kwargs) == expected


def test_what_was_found_is_told() -> None:
    assert Regex(r"\d+").compute(Turn((), "a 42 b")).info == {"found": "42"}
    assert Regex("x", negate=True).compute(Turn((), "a")).info == {}


def test_catastrophic_backtracking_fails_and_does_not_hang() -> None:
    turns = (Turn((), "a" * 200 + "b"),)
    kwargs = {"pattern": r"(a|aa)+$", "match": "full", "timeout_s": 0.05}
    (record,) = RewardSuite.from_config([{"name": "regex", "kwargs": kwargs}]).score(
        [Trajectory("t", "e", 0, "g", Sample.ask("q"), turns, True, False)]
    )
    assert record.scores["regex"].status == "failed"
    assert "backtracks" in record.scores["regex"].info["error"]


@pytest.mark.parametrize(("kwargs", "named"), [
    ({"pattern": "(a"}, "pattern"), ({"pattern": ""}, "pattern"), ({"pattern": 3}, "pattern"),
    ({"pattern": "a", "match": "start"}, "match"), ({"pattern": "a", "timeout_s": 0}, "timeout_s"),
    ({"pattern": "a", "negate": "no"}, "negate"),
])  # fmt: skip
def test_bad_arguments(kwargs: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=f"^{named} "):
        Regex(**kwargs)
