import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrl_agents.advantage import ESTIMATORS, by_turn, dr_grpo, grpo

ALL = torch.ones(4, dtype=torch.bool)
R = torch.tensor([0.0, 1.0, 1.0, 2.0], dtype=torch.float64)


def test_dr_grpo_centres() -> None:
    assert dr_grpo(R, ALL).tolist() == [-1.0, 0.0, 0.0, 1.0]


def test_grpo_divides_by_the_bessel_deviation() -> None:
    std = (2 / 3) ** 0.5
    assert grpo(R, ALL).tolist() == pytest.approx([-1 / (std + 1e-4), 0, 0, 1 / (std + 1e-4)], abs=1e-15)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_invalid_ones_are_left_out_and_get_0(name: str) -> None:
    valid = torch.tensor([True, False, True, True])
    rewards = torch.tensor([1.0, float("nan"), 2.0, 6.0], dtype=torch.float64)
    alone = ESTIMATORS[name](rewards[valid], torch.ones(3, dtype=torch.bool))
    out = ESTIMATORS[name](rewards, valid)
    assert out[valid].tolist() == alone.tolist()
    assert out[1] == 0.0
    if name == "dr_grpo":
        assert out.tolist() == [-2.0, 0.0, -1.0, 3.0]


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("valid", [[False] * 4, [False, True, False, False]])
def test_fewer_than_two_valid_ones_give_0(name: str, valid: list[bool]) -> None:
    rewards = torch.tensor([5.0, 7.0, float("nan"), float("inf")], dtype=torch.float64)
    assert ESTIMATORS[name](rewards, torch.tensor(valid)).tolist() == [0.0] * 4


@pytest.mark.parametrize("name", ESTIMATORS)
def test_equal_rewards_give_0(name: str) -> None:
    assert ESTIMATORS[name](torch.full((4,), 3.0, dtype=torch.float64), ALL).tolist() == [0.0] * 4


REWARDS = st.lists(st.floats(-10, 10, width=16), min_size=2, max_size=8)


@pytest.mark.parametrize("name", ESTIMATORS)
@given(rewards=REWARDS, shift=st.floats(-100, 100, width=16), data=st.data())
def test_a_shift_changes_nothing_and_an_order_only_the_order(name: str, rewards: list[float], shift: float,
                                                             data: st.DataObject) -> None:
    r = torch.tensor(rewards, dtype=torch.float64)
    valid = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(r), max_size=len(r))))
    order = torch.tensor(data.draw(st.permutations(range(len(r)))))
    out = ESTIMATORS[name](r, valid)
    torch.testing.assert_close(ESTIMATORS[name](r + shift, valid), out, rtol=0, atol=1e-8)
    torch.testing.assert_close(ESTIMATORS[name](r[order], valid[order]), out[order], rtol=0, atol=1e-9)
    assert abs(float(out.sum())) < 1e-8


def test_turn_level_credit() -> None:
    # Returns to go: [0.5, 1] and [0, 0, 0]; mean 0.3, deviation sqrt(0.8 / 4).
    scale = 0.2**0.5 + 1e-4
    got = by_turn([[0.0, 1.0], [0.0] * 3], [True, True], 0.5)
    assert got[0] == pytest.approx([0.2 / scale, 0.7 / scale], abs=1e-12)
    assert got[1] == pytest.approx([-0.3 / scale] * 3, abs=1e-12)
    assert sum(sum(row) for row in got) == pytest.approx(0.0, abs=1e-12)


def test_turn_level_credit_leaves_invalid_trajectories_out() -> None:
    with_invalid = by_turn([[0.0, 1.0], [9.0] * 4, [0.0] * 3], [True, False, True], 0.5)
    assert with_invalid[1] == [0.0] * 4
    assert [with_invalid[0], with_invalid[2]] == by_turn([[0.0, 1.0], [0.0] * 3], [True, True], 0.5)
    assert by_turn([[0.0, 1.0], [0.0] * 3], [True, False], 0.5) == [[0.0] * 2, [0.0] * 3]
