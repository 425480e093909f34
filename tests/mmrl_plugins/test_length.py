from typing import Any

import pytest

from mmrl import BadInput, RewardSuite, Sample, Trajectory, Turn
from mmrl_plugins.length import Length


def by_tokens(n: int, **kwargs: Any) -> float:
    score = Length(**kwargs).compute(Turn((), "x", token_ids=tuple(range(n))))
    assert score.valid
    assert score.info == {"length": n, "unit": "tokens"}
    return score.value


@pytest.mark.parametrize(("tokens", "expected"), [
    (1, 0.0), (12_288, 0.0), (16_384, 0.0), (17_408, -0.25), (18_432, -0.5), (20_480, -1.0), (20_481, -1.0),
    (90_000, -1.0),
])  # fmt: skip
def test_the_paper_s_figures(tokens: int, expected: float) -> None:
    assert by_tokens(tokens, max_length=20_480, buffer=4_096) == expected
    assert by_tokens(tokens, max_length=20_480) == expected


def test_without_a_buffer_the_edge_is_hard() -> None:
    assert [by_tokens(n, max_length=4, buffer=0) for n in (4, 5)] == [0.0, -1.0]


def test_a_minimum() -> None:
    plugin = Length(10, buffer=2, min_length=4, unit="characters")
    assert [plugin.penalty(n) for n in (0, 1, 3, 4, 8, 9, 10)] == [-1.0, -0.75, -0.25, 0.0, 0.0, -0.5, -1.0]


@pytest.mark.parametrize(("unit", "text", "length"), [
    ("words", "one two  three\n", 3), ("words", "", 0), ("words", "你好 ok", 3), ("characters", "a b\n", 4),
])  # fmt: skip
def test_units_of_text(unit: Any, text: str, length: int) -> None:
    assert Length(9, unit=unit).compute(Turn((), text)).info["length"] == length


def test_every_turn_counts_alike_and_turns_without_tokens_are_left_out() -> None:
    turns = (Turn((), "a", token_ids=(1,) * 4), Turn((), "b"), Turn((), "c", token_ids=(1,) * 3))
    (record,) = RewardSuite.from_config([{"name": "length", "kwargs": {"max_length": 4, "buffer": 2}}]).score(
        [Trajectory("t", "e", 0, "g", Sample.ask("q"), turns, True, False)]
    )
    score = record.scores["length"]
    assert (score.value, score.turns) == (-0.75, (-0.5, 0.0, -0.25))
    score = Length(4).compute(Turn((), "b"))
    assert score.status == "not_applicable"
    assert "no tokens" in score.info["reason"]


@pytest.mark.parametrize(("kwargs", "named"), [
    ({"max_length": 0}, "max_length"), ({"max_length": 1.5}, "max_length"), ({"max_length": True}, "max_length"),
    ({"max_length": 4, "buffer": 5}, "buffer"), ({"max_length": 4, "buffer": -1}, "buffer"),
    ({"max_length": 10, "min_length": 9}, "min_length"), ({"max_length": 4, "unit": "bytes"}, "unit"),
])  # fmt: skip
def test_bad_arguments(kwargs: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=f"^{named} "):
        Length(**kwargs)
