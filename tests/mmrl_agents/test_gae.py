import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl_agents.advantage import returns_to_go
from mmrl_agents.foresight import Foresight
from mmrl_agents.gae import gae, returns, token_steps, turn_steps, whitened

REWARDS, VALUES = [1.0, 0.0, 4.0], [0.5, 2.0, -1.0]


def test_three_steps_by_hand() -> None:
    """delta = r + 0.5 V' - V = [1.5, -2.5, 5], summed with factors 0.5 * 0.4 = 0.2."""
    assert gae(REWARDS, VALUES, 0.5, 0.4) == pytest.approx([1.5 + 0.2 * -1.5, -2.5 + 0.2 * 5.0, 5.0], abs=1e-15)


def test_lambda_0_is_the_surprise_of_one_step() -> None:
    assert gae(REWARDS, VALUES, 0.5, 0.0) == [1.5, -2.5, 5.0]


def test_lambda_1_is_the_return_less_the_value() -> None:
    expected = [g - v for g, v in zip(returns_to_go(REWARDS, 0.5), VALUES, strict=True)]
    assert gae(REWARDS, VALUES, 0.5, 1.0) == pytest.approx(expected, abs=1e-15)


def test_without_a_critic_and_without_discount_it_is_reinforce() -> None:
    assert gae(REWARDS, [0.0, 0.0, 0.0], 1.0, 1.0) == returns_to_go(REWARDS, 1.0) == [5.0, 4.0, 4.0]


def test_a_perfect_critic_is_never_surprised() -> None:
    assert gae([0.0, 0.0, 4.0], [1.0, 2.0, 4.0], 0.5, 0.7) == [0.0, 0.0, 0.0]


def slow(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """Every advantage from all later steps."""
    n, after = len(rewards), [*values[1:], 0.0]
    delta = [rewards[t] + gamma * after[t] - values[t] for t in range(n)]
    return [sum((gamma * lam) ** (k - t) * delta[k] for k in range(t, n)) for t in range(n)]


NUMBERS = st.floats(-10, 10, width=32)
STEPS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12)


@given(steps=STEPS, gamma=st.floats(0.01, 1), lam=st.floats(0, 1))
def test_equals_the_sum_written_out(steps: list[tuple[float, float]], gamma: float, lam: float) -> None:
    rewards, values = [r for r, _ in steps], [v for _, v in steps]
    assert gae(rewards, values, gamma, lam) == pytest.approx(slow(rewards, values, gamma, lam), abs=1e-9)


@given(steps=STEPS, gamma=st.floats(0.01, 1), lam=st.floats(0, 1))
def test_is_the_weighted_mean_of_n_step_advantages(steps: list[tuple[float, float]], gamma: float, lam: float) -> None:
    """(1 - lam) sum of lam^(n-1) A^(n), what is left of the weights on the longest: the definition in the paper."""
    rewards, values = [r for r, _ in steps], [v for _, v in steps]
    for t in range(len(rewards)):
        left = len(rewards) - t
        n_step = [
            sum(gamma**k * rewards[t + k] for k in range(n)) + (gamma**n * values[t + n] if n < left else 0) - values[t]
            for n in range(1, left + 1)
        ]
        mean = sum((1 - lam) * lam**i * a for i, a in enumerate(n_step[:-1])) + lam ** (left - 1) * n_step[-1]
        assert gae(rewards, values, gamma, lam)[t] == pytest.approx(mean, abs=1e-9)


def test_returns_are_what_the_critic_should_have_said() -> None:
    assert returns(gae(REWARDS, VALUES, 0.5, 1.0), VALUES) == pytest.approx(returns_to_go(REWARDS, 0.5), abs=1e-15)
    assert returns([1.0, -2.0], [0.5, 0.25]) == [1.5, -1.75]


def test_whitened_over_the_whole_batch() -> None:
    std = (2 / 3) ** 0.5  # of 0, 1, 1, 2
    rows = whitened([[0.0, 1.0], [1.0], [2.0]])
    assert [len(row) for row in rows] == [2, 1, 1]
    flat = [a for row in rows for a in row]
    assert flat == pytest.approx([-1 / (std + 1e-4), 0, 0, 1 / (std + 1e-4)], abs=1e-15)
    assert whitened([[3.0]]) == [[0.0]]
    assert whitened([]) == []


SEEN = Foresight((), values=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0), charges=(0.5, 0.25, 0.0, 1.0, 2.0, 4.0))


def test_a_step_a_turn() -> None:
    steps = turn_steps([10.0, 20.0, 30.0], [2, 1, 3], SEEN)
    assert steps.rewards == [9.25, 20.0, 23.0]
    assert steps.values == [1.0, 3.0, 4.0]
    assert steps.on_tokens([7.0, 8.0, 9.0]) == [7.0, 7.0, 8.0, 9.0, 9.0, 9.0]
    assert steps.on_first([7.0, 8.0, 9.0]) == [7.0, None, 8.0, 9.0, None, None]


def test_a_step_a_token() -> None:
    steps = token_steps([10.0, 20.0, 30.0], [2, 1, 3], SEEN)
    assert steps.rewards == [-0.5, 9.75, 20.0, -1.0, -2.0, 26.0]
    assert steps.values == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    numbers = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert steps.on_tokens(numbers) == steps.on_first(numbers) == numbers


def test_without_charges_nothing_comes_off() -> None:
    free = Foresight((), values=SEEN.values)
    assert turn_steps([10.0, 20.0], [2, 4], free).rewards == [10.0, 20.0]
    assert token_steps([10.0, 20.0], [2, 4], free).rewards == [0.0, 10.0, 0.0, 0.0, 0.0, 20.0]
