import threading
from typing import Any

import pytest

from mmrl import BadInput, RewardSuite, Sample, Score, Trajectory, Turn
from mmrl_plugins._math_process import forms
from mmrl_plugins._math_worker import WORKER
from mmrl_plugins.math_verify import MathVerify

MONSTER = "$9^{9^{9^{9}}}$"


def score(response: str, reference: Any, **kwargs: Any) -> Score:
    return MathVerify(**kwargs).compute(response, reference)


@pytest.mark.parametrize(("response", "reference"), [
    ("4", "4"), ("The answer is 4.", 4), ("0.5", "\\frac{1}{2}"), ("$\\frac12$", "1/2"), ("1+x^2", "x^2+1"),
    ("so $1 + x$", "x + 1"), ("1234", "1,234"), ("$\\{3,4,5\\}$", "3, 4, 5"), ("0.5", "50%"), ("−3", "-3"),
    ("3.141593", "\\pi"), ("\\boxed{\\sqrt{2}}", "\\sqrt{2}"), ("12", "12 apples"), ("$[1,2]$", "[1,2]"),
    ("2x", "$x+x$"), ("5", ["4", "5"]), ("<think>5</think><answer>4</answer>", "4"), ("$x=4$", "4"),
])  # fmt: skip
def test_equal(response: str, reference: Any) -> None:
    assert score(response, reference).value == 1.0


@pytest.mark.parametrize(("response", "reference"), [
    ("5", "4"), ("", "4"), ("four", "4"), ("$x$", "$y$"), ("1.4142", "\\sqrt{2}"), ("2x", "2"), ("x + 5", "5"),
    ("你好 🙂 \x00", "4"), ("4" * 5000, "4"), ("3, 4, 5", "5"),
    ("\\boxed{3} or \\boxed{4}", "4"), ("$\\{3,4\\}$", "4"), ("$4 \\pm 1$", "5"), ("4 or maybe 5", "4"),
])  # fmt: skip
def test_unequal_or_several(response: str, reference: Any) -> None:
    found = score(response, reference)
    assert (found.valid, found.value) == (True, 0.0)


def test_tag_and_precision() -> None:
    assert score("5 <answer>\\sqrt{2}</answer> 6", "\\sqrt{2}", tag="answer").value == 1.0
    assert score("4", "4", tag="answer").info == {"problem": "0 times <answer> and 0 times </answer>, must be once"}
    assert score("<answer>4</answer><answer>5</answer>", "4", tag="answer").value == 0.0
    assert score("1.414", "\\sqrt{2}", precision=3).value == 1.0


@pytest.mark.parametrize("reference", [[], [None], "", "no number here, 你好"])
def test_no_mathematics_to_compare_with(reference: Any) -> None:
    assert score("4", reference).status == "not_applicable"


def test_many_threads() -> None:
    found: dict[int, float] = {}
    plugin = MathVerify()

    def work(i: int) -> None:
        found[i] = plugin.compute(f"${i}/2$", "1").value

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: float(i == 2) for i in range(8)}


def test_what_never_ends_fails_in_a_thread_and_the_next_one_works() -> None:
    suite = RewardSuite.from_config([{"name": "math_verify", "kwargs": {"timeout_s": 1.0}}])
    episodes = [
        Trajectory(str(i), "e", i, "g", Sample.ask("q", "4"), (Turn((), text),), True, False)
        for i, text in enumerate((MONSTER, "4"))
    ]
    records: list[Any] = []
    thread = threading.Thread(target=lambda: records.extend(suite.score(episodes)))
    thread.start()
    thread.join()
    scores = [record.scores["math_verify"] for record in records]
    assert [s.status for s in scores] == ["failed", "ok"]
    assert "not decided within 1 s" in scores[0].info["error"]
    assert scores[1].value == 1.0


def test_a_helper_that_died_is_started_afresh() -> None:
    assert score("4", "4").value == 1.0
    WORKER.close()
    assert score("4", "4").value == 1.0
    process = WORKER._process
    assert process is not None
    process.kill()
    process.wait()
    assert score("4", "4").value == 1.0


@pytest.mark.parametrize(("text", "expected"), [
    ("4", ["4", "$4$"]), ("$4$", ["$4$"]), ("x+1", ["$x+1$", "x+1"]), ("-1,234.5 %", ["-1,234.5 %", "$-1,234.5 %$"]),
    ("1,2", ["$1,2$", "1,2"]), (" ", [""]), ("a\nb", ["a\nb"]), ("2x", ["$2x$", "2x"]), ("\\boxed{4}", ["\\boxed{4}"]),
])  # fmt: skip
def test_how_a_formula_is_handed_over(text: str, expected: list[str]) -> None:
    assert forms(text) == expected


@pytest.mark.parametrize(("kwargs", "named"), [
    ({"tag": "<a>"}, "tag"), ({"precision": -1}, "precision"), ({"timeout_s": 0}, "timeout_s"),
    ({"timeout_s": float("inf")}, "timeout_s"),
])  # fmt: skip
def test_bad_arguments(kwargs: dict[str, Any], named: str) -> None:
    with pytest.raises(BadInput, match=f"^{named} "):
        MathVerify(**kwargs)
