import dataclasses

import pytest
from learner_tools import trajectory, turn

from mmrl.score import RewardRecord
from mmrl_agents.foresight import NOTHING, charged, charges_of, foresight, kl_metrics

T = trajectory("t", [turn([2], [3, 4]), turn([2, 3, 4, 5], [6])], 1.0)
SEEN = {"t": foresight([-1.0, -2.0, -0.5], (), [-1.5, -1.0, -2.5], 0.1)}


def test_a_token_is_charged_for_its_divergence() -> None:
    assert SEEN["t"].divergence == (0.5, -1.0, 2.0)
    assert SEEN["t"].charges == pytest.approx((0.05, -0.1, 0.2), abs=1e-15)
    free = foresight([-1.0], [3.0], [-9.0], 0.0)
    assert (free.divergence, free.charges, free.values) == ((), (), (3.0,))


def test_rewards_are_less_by_what_tokens_are_charged() -> None:
    (less,) = charged([T], SEEN)
    assert less.record is not None
    assert less.record.value == pytest.approx(1.0 - 0.15, abs=1e-15)
    assert less.record.turns == pytest.approx((0.05, 1.0 - 0.2), abs=1e-15)
    shares = dataclasses.replace(T, record=RewardRecord(1.0, True, {}, turns=(3.0, -2.0)))
    (less,) = charged([shares], SEEN)
    assert less.record is not None
    assert less.record.turns == pytest.approx((3.05, -2.2), abs=1e-15)
    assert sum(less.record.turns or ()) == pytest.approx(less.record.value, abs=1e-15)
    assert T.record == RewardRecord(1.0, True, {})


def test_what_nothing_is_known_of_is_charged_nothing() -> None:
    assert charged([T], NOTHING) == [T]
    assert charges_of(T, NOTHING) == ()
    other = dataclasses.replace(T, id="other", record=None)
    assert charged([other], SEEN) == [other]


def test_metrics_by_hand() -> None:
    assert kl_metrics(NOTHING) == {}
    assert kl_metrics({"t": foresight([-1.0], [2.0], (), 0.0)}) == {}
    two = {**SEEN, "u": foresight([-1.0], (), [-2.0], 0.1)}
    found = kl_metrics(two)
    assert found["kl"] == pytest.approx((0.5 - 1.0 + 2.0 + 1.0) / 4, abs=1e-15)
    assert found["kl_charge"] == pytest.approx((0.15 + 0.1) / 2, abs=1e-15)
