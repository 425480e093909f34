import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl.join import Term, join, renormalised
from mmrl.plugin_config import Gate
from mmrl.score import RewardRecord, Score

NA, FAILED = Score.not_applicable(reason="no"), Score.failed("boom")


def test_weights_add_up_and_are_recorded() -> None:
    scores = {"a": Score(0.5), "b": Score(3.0)}
    record = join(scores, {"a": Term(2.0), "b": Term(-1.0)})
    assert record == RewardRecord(-2.0, True, scores, {"a": 2.0, "b": -1.0})


def test_what_does_not_apply_is_left_out_and_the_scale_stays() -> None:
    record = join({"a": Score(0.5), "b": NA}, {"a": Term(1.0), "b": Term(-3.0)})
    assert (record.value, record.weights) == (2.0, {"a": 4.0})
    assert join({"a": NA, "b": NA}, {"a": Term(1.0), "b": Term(1.0)}) == RewardRecord(0.0, False, {"a": NA, "b": NA})
    assert join({"a": Score(5.0)}, {"a": Term(0.0)}).value == 0.0


def test_a_failure_masks_unless_it_is_left_out() -> None:
    scores = {"a": Score(0.5), "b": FAILED}
    assert join(scores, {"a": Term(1.0), "b": Term(1.0)}) == RewardRecord(0.0, False, scores)
    optional = join(scores, {"a": Term(1.0), "b": Term(1.0, optional=True)})
    assert (optional.value, optional.valid, optional.weights) == (1.0, True, {"a": 2.0})
    assert not join({"b": FAILED}, {"b": Term(1.0, optional=True)}).valid


@pytest.mark.parametrize(("gate", "safety", "value", "closed"), [
    (Gate(below=0.0, force=-5.0), 1.0, 4.0, None),
    (Gate(below=0.0, force=-5.0), -2.0, -5.0, "safety"),
    (Gate(below=0.0), -2.0, -2.0, "safety"),
    (Gate(below=-2.0), -2.0, 1.0, None),
])  # fmt: skip
def test_gates(gate: Gate, safety: float, value: float, closed: str | None) -> None:
    scores = {"task": Score(1.0), "safety": Score(safety)}
    record = join(scores, {"task": Term(3.0), "safety": Term(1.0, gate)})
    assert (record.value, record.gate) == (value, closed)


def test_a_gate_that_does_not_apply_is_open_and_one_that_failed_masks() -> None:
    terms = {"task": Term(1.0), "safety": Term(1.0, Gate(below=0.0))}
    assert join({"task": Score(1.0), "safety": NA}, terms).value == 2.0
    assert not join({"task": Score(1.0), "safety": FAILED}, terms).valid


def test_the_lowest_force_counts_whatever_the_order() -> None:
    scores = {"a": Score(-1.0), "b": Score(-1.0), "c": Score(1.0)}
    terms = {"a": Term(1.0, Gate(below=0)), "b": Term(1.0, Gate(below=0, force=-5)), "c": Term(1.0)}
    assert [(r.value, r.gate) for r in (join(scores, terms), join(dict(reversed(scores.items())), terms))] == [
        (-5.0, "b"), (-5.0, "b"),
    ]  # fmt: skip


def test_what_has_no_weight_is_no_reward_of_0() -> None:
    assert not join({"main": NA, "log": Score(1.0)}, {"main": Term(1.0), "log": Term(0.0)}).valid


def test_a_sum_that_is_not_finite_is_invalid() -> None:
    assert not join({"a": Score(1e308)}, {"a": Term(10.0)}).valid


def test_the_clip_comes_last() -> None:
    assert join({"a": Score(9.0)}, {"a": Term(1.0)}, (-1.0, 2.0)).value == 2.0
    assert join({"a": Score(-9.0)}, {"a": Term(1.0, Gate(below=0.0, force=-4.0))}, (-1.0, 2.0)).value == -1.0


def test_turns_carry_what_each_plugin_spread_and_the_last_turn_the_rest() -> None:
    scores = {"cost": Score(-3.0, turns=(-1.0, -2.0)), "task": Score(1.0)}
    terms = {"cost": Term(0.5), "task": Term(4.0)}
    assert join(scores, terms).turns == (-0.5, 3.0)
    assert join(scores, terms, (-1.0, 1.0)).turns == (-0.5, 1.5)
    assert join({"task": Score(1.0)}, {"task": Term(1.0)}).turns is None


def test_a_gate_takes_positive_shares_away() -> None:
    scores = {"steps": Score(2.0, turns=(1.0, 1.0)), "safety": Score(-2.0, turns=(-2.0, 0.0))}
    record = join(scores, {"steps": Term(1.0), "safety": Term(1.0, Gate(below=0.0))})
    assert (record.value, record.turns) == (-2.0, (-2.0, 0.0))


def test_shares_that_cancel_stay() -> None:
    record = join({"shaping": Score(0.0, turns=(1.0, -1.0))}, {"shaping": Term(2.0)})
    assert (record.value, record.turns) == (0.0, (2.0, -2.0))


VALUES = st.floats(-100, 100)
SCORES = st.one_of(
    st.builds(Score, VALUES), st.just(NA), st.lists(VALUES, min_size=3, max_size=3).map(
        lambda v: Score(math.fsum(v), turns=tuple(v))
    ),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from("abcd"), st.tuples(SCORES, st.floats(-10, 10)), min_size=1),
       st.sampled_from([None, Gate(below=0.0), Gate(below=0.0, force=-3.0)]))  # fmt: skip
def test_turns_always_add_up_to_the_value(parts: dict[str, tuple[Score, float]], gate: Any) -> None:
    record = join({n: s for n, (s, _) in parts.items()}, {n: Term(w, gate) for n, (_, w) in parts.items()}, (-50, 50))
    assert -50 <= record.value <= 50
    weighty = [n for n, (s, w) in parts.items() if s.valid and w]
    weightless = not any(w for _, w in parts.values()) and any(s.valid for s, _ in parts.values())
    assert record.valid == bool(weighty or weightless)
    if record.turns is not None:
        assert math.fsum(record.turns) == pytest.approx(record.value, abs=1e-6)


def test_weights_too_small_to_scale_up_in_one_go() -> None:
    assert renormalised({"a": 1.125e-308, "b": 8.0}, ["a"]) == {"a": 8.0}


@given(st.dictionaries(st.sampled_from("abcde"), st.floats(-10, 10), min_size=1), st.data())
def test_renormalising_keeps_the_scale(weights: dict[str, float], data: st.DataObject) -> None:
    applies = data.draw(st.lists(st.sampled_from(sorted(weights)), unique=True, min_size=1))
    out = renormalised(weights, applies)
    total, present = sum(map(abs, weights.values())), sum(abs(weights[n]) for n in applies)
    if present > 1e-6:
        assert sum(map(abs, out.values())) == pytest.approx(total)
    assert list(out) == applies
