from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl import BadInput, Turn
from mmrl_plugins.repetition import Repetition, repeated_share


def value(text: str, **kwargs: Any) -> float:
    return Repetition(**kwargs).compute(Turn((), text)).value


@pytest.mark.parametrize(("text", "n", "expected"), [
    ("", 3, 0.0), ("a b", 3, 0.0), ("a b c", 3, 0.0), ("a b c d a b c", 3, -0.2), ("go go go go go", 1, -0.8),
    ("Go go GO", 2, -0.5), ("a b a b a b", 2, -0.6), ("你好你好你好", 2, -0.6), ("我爱你", 1, 0.0),
    ("สวัสดี", 1, -1 / 6), ("🙂 🙂 🙂", 1, -2 / 3),
])  # fmt: skip
def test_values(text: str, n: int, expected: float) -> None:
    assert value(text, ngram_size=n) == pytest.approx(expected, abs=1e-12)


def test_what_has_no_spaces_is_read_by_character() -> None:
    assert value("go" * 500) == pytest.approx(-(1 - 2 / 998))
    assert value("🙂" * 500) == pytest.approx(-(1 - 1 / 498))
    assert value("x" * 32) == 0.0
    assert value("".join(map(chr, range(0x100, 0x200)))) > -0.5


def test_honest_text_loses_nothing() -> None:
    assert value("The cat sat on the mat because the mat was warm and the cat was cold.") == 0.0
    assert str(value("a b c")) == "0.0"


def test_the_penalty_scales() -> None:
    assert value("a b a b a b", ngram_size=2, max_penalty=0.5) == pytest.approx(-0.3)


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(1, 5))
def test_the_share_counts_what_came_before(units: list[str], n: int) -> None:
    ngrams = [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]
    repeated = sum(g in ngrams[:i] for i, g in enumerate(ngrams))
    assert repeated_share(units, n) == pytest.approx(repeated / len(ngrams) if ngrams else 0.0)


def test_a_huge_text_is_done() -> None:
    assert value("lorem ipsum dolor " * 100_000) == pytest.approx(-1.0, abs=1e-4)


@pytest.mark.parametrize(("kwargs", "named"), [
    ({"ngram_size": 0}, "ngram_size"), ({"ngram_size": "3"}, "ngram_size"), ({"max_penalty": 0.0}, "max_penalty"),
    ({"max_penalty": 2.0}, "max_penalty"), ({"max_penalty": float("nan")}, "max_penalty"),
])  # fmt: skip
def test_bad_arguments(kwargs: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=f"^{named} "):
        Repetition(**kwargs)
