import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl import BadInput
from mmrl_plugins.rouge import VARIANTS, Rouge

REFERENCE = "The quick brown fox jumps over the lazy dog"
SAID = "The quick brown dog jumps on the log."


def info(response: str, reference: Any, **kwargs: Any) -> dict[str, float]:
    return dict(Rouge(**kwargs).compute(response, reference).info)


def test_the_readme_s_figures() -> None:
    assert info(SAID, REFERENCE, variant="rouge1") == pytest.approx({"precision": 0.75, "recall": 2 / 3, "f1": 12 / 17})
    assert info(SAID, REFERENCE) == pytest.approx({"precision": 0.625, "recall": 5 / 9, "f1": 10 / 17})


@pytest.mark.parametrize(("kwargs", "expected"), [
    ({"variant": "rouge2"}, 4 / 15), ({"variant": "rouge2", "measure": "precision"}, 2 / 7),
    ({"variant": "rouge2", "measure": "recall"}, 0.25), ({"variant": "rougeLsum"}, 10 / 17),
])  # fmt: skip
def test_variants_and_measures(kwargs: dict[str, Any], expected: float) -> None:
    assert Rouge(**kwargs).compute(SAID, REFERENCE).value == pytest.approx(expected)


@pytest.mark.parametrize(("response", "reference", "kwargs", "expected"), [
    ("你好世界", "你好", {}, 2 / 3), ("Ünïcode", "ünïcode", {}, 1.0), ("running dogs", "run dog", {}, 0.0),
    ("running dogs", "runs dogs", {"stemmer": True}, 1.0), ("", "a", {}, 0.0), ("a", "", {}, 0.0),
    ("🙂", "🙂", {}, 0.0), ("b", ["a", "b"], {}, 1.0), ("4", 4, {}, 1.0), ("x <s>a</s>", "a", {"tag": "s"}, 1.0),
    ("a", "a", {"tag": "s"}, 0.0),
])  # fmt: skip
def test_values(response: str, reference: Any, kwargs: dict[str, Any], expected: float) -> None:
    assert Rouge(**kwargs).compute(response, reference).value == pytest.approx(expected)


def test_sentences_by_line() -> None:
    two = "red ball here\nblue box there"
    assert Rouge("rougeLsum").compute("blue box there\nred ball here", two).value == 1.0
    assert Rouge("rougeL").compute("blue box there\nred ball here", two).value == 0.5


def test_words_beyond_the_limit_are_not_shared() -> None:
    assert info("a b c d", "a b", max_words=2) == pytest.approx({"precision": 0.5, "recall": 1.0, "f1": 2 / 3})
    assert info("x a", "a", max_words=1)["f1"] == 0.0
    huge = info("a " * 200_000, "a b", max_words=100)
    assert huge["precision"] < 1e-5


def test_no_reference_is_not_applicable() -> None:
    assert Rouge().compute("a", []).status == "not_applicable"


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(VARIANTS), *[st.text(st.sampled_from(string.printable), max_size=40)] * 2)
def test_ascii_scores_are_the_package_s(variant: Any, a: str, b: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    one, other = " ".join(a.splitlines()), " ".join(b.splitlines())
    theirs = RougeScorer([variant]).score(one, other)
    ours = Rouge(variant).compute(other, one)
    assert ours.value == pytest.approx(theirs[variant].fmeasure)


@pytest.mark.parametrize(("kwargs", "named"), [
    ({"variant": "rouge3"}, "variant"), ({"measure": "fmeasure"}, "measure"), ({"max_words": 0}, "max_words"),
    ({"stemmer": "yes"}, "stemmer"), ({"tag": "<a>"}, "tag"),
])  # fmt: skip
def test_bad_arguments(kwargs: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=f"^{named} "):
        Rouge(**kwargs)
