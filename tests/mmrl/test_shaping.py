import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reward_tools import episode, suite_of

from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.shaping import shaped, shaping_rewards
from mmrl.trajectory import Trajectory

STATES, ACTIONS, DISCOUNT = 4, 2, 0.9


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=20), st.floats(0, 1))
def test_from_any_turn_on_the_discounted_sum_is_minus_that_turns_potential(phi: list[float], discount: float) -> None:
    rewards = shaping_rewards(phi, discount)
    for t in range(len(phi)):
        ahead = math.fsum(discount**k * r for k, r in enumerate(rewards[t:]))
        assert ahead == pytest.approx(-phi[t], abs=1e-9)


def returns(policy: tuple[int, ...], arrives: np.ndarray, pays: np.ndarray, phi: np.ndarray | None) -> np.ndarray:
    """Exact discounted return of a deterministic policy from every state; state 0 ends the episode."""
    transition = np.array([[0.0] * STATES if s == 0 else arrives[s, policy[s]] for s in range(STATES)])
    reward = np.array([0.0 if s == 0 else pays[s, policy[s]] for s in range(STATES)])
    if phi is not None:
        ends = np.where(np.arange(STATES) == 0, 0.0, phi)
        for s in range(1, STATES):
            # The reward of a step of our own, averaged over where it may lead.
            reward[s] += sum(p * shaping_rewards((phi[s], ends[n]), DISCOUNT)[0] for n, p in enumerate(transition[s]))
    return np.linalg.solve(np.eye(STATES) - DISCOUNT * transition, reward)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_policy_stays_the_best(seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrives = rng.dirichlet(np.ones(STATES), size=(STATES, ACTIONS))
    pays, phi = rng.normal(size=(STATES, ACTIONS)), rng.normal(size=STATES) * 10
    policies = list(itertools.product(range(ACTIONS), repeat=STATES))
    plain = [returns(p, arrives, pays, None) for p in policies]
    helped = [returns(p, arrives, pays, phi) for p in policies]
    for a, b in zip(plain, helped, strict=True):
        # Every policy loses the same: the potential of the state that it starts in.
        np.testing.assert_allclose(b[1:], (a - phi)[1:], atol=1e-9)
    best = [max(range(len(policies)), key=lambda i: v[i][s]) for v in (plain, helped) for s in range(1, STATES)]
    assert best[: STATES - 1] == best[STATES - 1 :]


class Closeness(RewardPlugin):
    potential = True

    def compute(self, trajectory: Trajectory) -> Score:
        return Score(0.0, turns=tuple(float(len(t.response)) for t in trajectory.turns))


def test_the_suite_makes_rewards_of_potentials_with_the_learners_discount() -> None:
    (record,) = suite_of({"closeness": Closeness()}, discount=0.5).score([episode("a", "abc", "ab")])
    assert record.turns == (0.5 * 3 - 1, 0.5 * 2 - 3, 0.0 - 2)
    assert record.value == pytest.approx(-3.5)
    assert record.scores["closeness"].info == {"potentials": [1.0, 3.0, 2.0]}


def test_only_potentials_are_shaped() -> None:
    assert shaped(Score(1.0), 0.5) == Score(1.0)
    assert shaped(Score.failed("x"), 0.5) == Score.failed("x")
