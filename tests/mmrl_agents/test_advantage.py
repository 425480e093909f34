import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrl_agents.advantage import (
    ESTIMATORS,
    batch_std,
    by_state,
    by_turn,
    dr_grpo,
    gigpo,
    grpo,
    in_groups,
    reinforce_pp,
    rloo,
)

ALL = torch.ones(4, dtype=torch.bool)
R = torch.tensor([0.0, 1.0, 1.0, 2.0], dtype=torch.float64)


def test_dr_grpo_centres() -> None:
    assert dr_grpo(R, ALL).tolist() == [-1.0, 0.0, 0.0, 1.0]


def test_grpo_divides_by_the_bessel_deviation() -> None:
    std = (2 / 3) ** 0.5
    assert grpo(R, ALL).tolist() == pytest.approx([-1 / (std + 1e-4), 0, 0, 1 / (std + 1e-4)], abs=1e-15)


def test_rloo_compares_with_the_mean_of_the_others() -> None:
    others = [(1 + 1 + 2) / 3, (0 + 1 + 2) / 3, (0 + 1 + 2) / 3, (0 + 1 + 1) / 3]
    assert rloo(R, ALL).tolist() == pytest.approx([r - o for r, o in zip(R.tolist(), others, strict=True)], abs=1e-15)
    out = rloo(R, torch.tensor([True, False, True, True]))  # three count: 0, 1, 2
    assert out.tolist() == pytest.approx([0 - 1.5, 0.0, 1 - 1.0, 2 - 0.5], abs=1e-15)


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


TWO = torch.tensor([0, 0, 0, 1, 1, 1])


def test_batch_std_shares_one_scale() -> None:
    rewards = torch.tensor([0.0, 1.0, 2.0, 5.0, 5.0, 5.5], dtype=torch.float64)
    mean = 18.5 / 6
    std = math.sqrt(sum((r - mean) ** 2 for r in rewards.tolist()) / 5)
    by_hand = [-1, 0, 1, *(r - 15.5 / 3 for r in (5.0, 5.0, 5.5))]
    out = batch_std(rewards, torch.ones(6, dtype=torch.bool), TWO)
    assert out.tolist() == pytest.approx([a / (std + 1e-4) for a in by_hand], abs=1e-12)


def test_batch_std_leaves_invalid_ones_and_lone_ones_out() -> None:
    nan = float("nan")
    rewards = torch.tensor([0.0, 2.0, nan, 7.0, nan, nan], dtype=torch.float64)
    valid = torch.tensor([True, True, False, True, False, False])
    std = math.sqrt(((0 - 3) ** 2 + (2 - 3) ** 2 + (7 - 3) ** 2) / 2)
    out = batch_std(rewards, valid, TWO)
    assert out.tolist() == pytest.approx([-1 / (std + 1e-4), 1 / (std + 1e-4), 0, 0, 0, 0], abs=1e-12)
    assert batch_std(rewards, torch.zeros(6, dtype=torch.bool), TWO).tolist() == [0.0] * 6
    equal = torch.full((6,), 3.1, dtype=torch.float64)
    assert batch_std(equal, torch.ones(6, dtype=torch.bool), TWO).tolist() == [0.0] * 6


@given(rewards=st.lists(st.floats(-10, 10, width=16), min_size=2, max_size=10), shift=st.floats(-100, 100, width=16),
       scale=st.floats(2, 64, width=16), data=st.data())  # fmt: skip
def test_batch_std_does_not_mind_shifts_scales_and_orders(rewards: list[float], shift: float, scale: float,
                                                          data: st.DataObject) -> None:
    r, n = torch.tensor(rewards, dtype=torch.float64), len(rewards)
    valid = torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    group = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    order = torch.tensor(data.draw(st.permutations(range(n))))
    out = batch_std(r, valid, group)
    torch.testing.assert_close(batch_std(r + shift, valid, group), out, rtol=0, atol=1e-8)
    torch.testing.assert_close(batch_std(r[order], valid[order], group[order]), out[order], rtol=0, atol=1e-9)
    if valid.sum() > 1 and r[valid].std() > 1:
        torch.testing.assert_close(batch_std(r * scale, valid, group), out, rtol=1e-3, atol=1e-9)
    for g in range(3):
        assert abs(float(out[(group == g) & valid].sum())) < 1e-8


def test_groups_are_compared_apart_wherever_they_stand() -> None:
    rewards, group = torch.tensor([0.0, 10.0, 2.0, 10.0], dtype=torch.float64), torch.tensor([3, 1, 3, 1])
    assert in_groups(dr_grpo)(rewards, ALL, group).tolist() == [-1.0, 0.0, 1.0, 0.0]


def test_turns_of_several_groups_are_compared_within_theirs() -> None:
    rewards, valid = [[0.0, 1.0], [5.0], [0.0] * 3, [3.0, 1.0], [9.0]], [True, True, True, True, False]
    together = by_turn(rewards, valid, 0.5, in_groups(dr_grpo), [0, 1, 0, 1, 2])
    first = by_turn([rewards[0], rewards[2]], [True] * 2, 0.5, in_groups(dr_grpo))
    second = by_turn([rewards[1], rewards[3]], [True] * 2, 0.5, in_groups(dr_grpo))
    assert together == [first[0], second[0], first[1], second[1], [0.0]]


def test_reinforce_pp_by_hand() -> None:
    # Two turns of 2 and 1 tokens with rewards 0 and 1, and one turn of 2 tokens with reward -1; discount 1/2 a token.
    returns = [0.25, 0.5, 1.0, -0.5, -1.0]
    mean = sum(returns) / 5
    std = math.sqrt(sum((g - mean) ** 2 for g in returns) / 4)
    out = reinforce_pp([[0.0, 1.0], [-1.0]], [[2, 1], [2]], [True, True], 0.5)
    assert [a for row in out for a in row] == pytest.approx([(g - mean) / (std + 1e-4) for g in returns], abs=1e-12)
    assert [len(row) for row in out] == [3, 2]


def test_reinforce_pp_leaves_invalid_trajectories_out_and_needs_no_group() -> None:
    with_invalid = reinforce_pp([[0.0, 1.0], [9.0], [-1.0]], [[2, 1], [3], [2]], [True, False, True], 0.5)
    assert with_invalid[1] == [0.0] * 3
    assert with_invalid[::2] == reinforce_pp([[0.0, 1.0], [-1.0]], [[2, 1], [2]], [True, True], 0.5)
    alone = reinforce_pp([[0.0, 1.0]], [[2, 1]], [True], 0.5)[0]
    assert alone[0] < alone[1] < 0 < alone[2]
    assert reinforce_pp([[1.0], [1.0]], [[2], [3]], [True, True], 1.0) == [[0.0] * 2, [0.0] * 3]


@st.composite
def token_rewards(draw: st.DrawFn) -> tuple[list[list[float]], list[list[int]]]:
    lengths = draw(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=5))
    return [[draw(st.floats(-5, 5, width=16)) for _ in row] for row in lengths], lengths


@given(drawn=token_rewards(), shift=st.floats(-20, 20, width=16))
def test_reinforce_pp_is_white_over_tokens(drawn: tuple[list[list[float]], list[list[int]]], shift: float) -> None:
    rewards, lengths = drawn
    out = reinforce_pp(rewards, lengths, [True] * len(rewards), 1.0)
    flat = torch.tensor([a for row in out for a in row], dtype=torch.float64)
    assert [len(row) for row in out] == [sum(row) for row in lengths]
    assert abs(float(flat.sum())) < 1e-6
    # Undiscounted, a last reward that is larger by the same amount everywhere changes nothing.
    moved = reinforce_pp([[*row[:-1], row[-1] + shift] for row in rewards], lengths, [True] * len(rewards), 1.0)
    torch.testing.assert_close([a for row in moved for a in row], flat.tolist(), rtol=0, atol=1e-5)
    # Undiscounted, the tokens of a turn share their advantage.
    for row, counts in zip(out, lengths, strict=True):
        first = [row[sum(counts[:i])] for i in range(len(counts))]
        assert row == [a for a, n in zip(first, counts, strict=True) for _ in range(n)]


def test_gigpo_by_hand() -> None:
    # Rewards 1, 1, 0 at the last turn; from s the second went by way of t, the third by way of u.
    turns, states = [[1.0], [0.0, 1.0], [0.0, 0.0]], [["s"], ["s", "t"], ["s", "u"]]
    out = gigpo([1.0, 1.0, 0.0], turns, states, [True] * 3, 0.5, 2.0)
    # Episodes: 1/3, 1/3, -2/3.  Steps from s: 1, 0.5, 0 less their mean 0.5; t and u were seen once.
    third = 1 / 3
    assert out[0] == pytest.approx([third + 2 * 0.5], abs=1e-15)
    assert out[1] == pytest.approx([third, third], abs=1e-15)
    assert out[2] == pytest.approx([-2 * third - 2 * 0.5, -2 * third], abs=1e-15)
    out = gigpo([1.0, float("nan"), 0.0], turns, states, [True, False, True], 0.5, 2.0)
    assert out == [[0.5 + 2 * 0.5], [0.0, 0.0], [-0.5 - 2 * 0.5, -0.5]]


@given(rewards=st.lists(st.lists(st.floats(-5, 5, width=16), min_size=1, max_size=4), min_size=2, max_size=5),
       data=st.data())  # fmt: skip
def test_gigpo_is_its_two_parts(rewards: list[list[float]], data: st.DataObject) -> None:
    states = [[data.draw(st.sampled_from("abc")) for _ in row] for row in rewards]
    valid, totals = [True] * len(rewards), [sum(row) for row in rewards]
    both = gigpo(totals, rewards, states, valid, 0.9, 0.7)
    episode = gigpo(totals, rewards, states, valid, 0.9, 0.0)
    steps = by_state(rewards, states, valid, 0.9)
    assert all(len(set(row)) == 1 for row in episode)
    assert abs(sum(row[0] for row in episode)) < 1e-9
    for whole, a, s in zip(both, episode, steps, strict=True):
        assert whole == pytest.approx([x + 0.7 * y for x, y in zip(a, s, strict=True)], abs=1e-12)
    for state in "abc":  # centred among the visits of a state
        visits = [zip(row, keys, strict=True) for row, keys in zip(steps, states, strict=True)]
        assert abs(sum(a for row in visits for a, key in row if key == state)) < 1e-9
