import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from loss_oracle import LENGTHS, ROWS, SEQ, Case, draw, oracle, terms, weights
from torch import Tensor

from mmrl_agents.advantage import dr_grpo
from mmrl_agents.correction import CORRECTIONS
from mmrl_agents.loss import (
    KL,
    LossTerms,
    k1,
    k2,
    k3,
    policy_loss,
    rho_k3,
    sft_loss,
    summary,
    weighted_log_ratio,
)
from mmrl_agents.loss_type import LOSSES
from mmrl_agents.normaliser import NORMALISERS


def ours(b: dict[str, Tensor], how: LossTerms, weight: Tensor) -> tuple[Tensor, Tensor]:
    logp = b["logp"].clone().requires_grad_()
    ref = b["ref"] if how.kl_coef else None
    loss, _ = policy_loss(logp, b["old"], b["mu"], ref, b["advantage"], weight, b["mask"], how)
    (grad,) = torch.autograd.grad(loss, logp)
    return loss.detach(), grad


CASES = [
    *[Case(loss) for loss in LOSSES],
    *[Case("grpo", normaliser=n) for n in NORMALISERS],
    *[Case(loss, dual=1.1) for loss in ("grpo", "gspo")],
    *[Case("dapo", kl=kl, kl_coef=0.3) for kl in KL],
    *[Case(loss, correction=c) for loss, c in itertools.product(LOSSES, CORRECTIONS)],
    *[Case(loss, kl_coef=0.3) for loss in LOSSES],
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradient_equal_the_formulas(case: Case) -> None:
    b, h = draw(), 1e-6
    loss, grad = ours(b, terms(case), weights(case))
    assert float(loss) == pytest.approx(oracle(b, case, b["logp"]), abs=1e-12)
    for i, t in itertools.product(range(ROWS), range(SEQ)):
        step = torch.zeros((ROWS, SEQ), dtype=torch.float64)
        step[i, t] = h
        up, down = (oracle({**b, "logp": b["logp"] + s}, case, b["logp"]) for s in (step, -step))
        assert float(grad[i, t]) == pytest.approx((up - down) / (2 * h), abs=1e-7)


def test_the_cases_are_not_all_inside_the_clips_and_bounds() -> None:
    b = draw()
    for loss in LOSSES:
        how = terms(Case(loss, correction="icepop"))
        _, s = policy_loss(b["logp"], b["old"], b["mu"], None, b["advantage"], weights(Case(loss)), b["mask"], how)
        assert 0 < s.clipped < s.tokens
        assert 0 < s.dropped < s.tokens


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("correction", CORRECTIONS)
def test_rows_apart_add_up_to_rows_together(loss: str, correction: str) -> None:
    b, case = draw(), Case(loss, correction=correction, kl_coef=0.3)
    whole, grad = ours(b, terms(case), weights(case))
    parts = [
        ours({k: v[i : i + 1, :n] for k, v in b.items()}, terms(case), weights(case)[i : i + 1, :n])
        for i, n in enumerate(LENGTHS)
    ]
    torch.testing.assert_close(sum(v for v, _ in parts), whole, rtol=0, atol=1e-14)
    for i, (_, part) in enumerate(parts):
        torch.testing.assert_close(grad[i, : LENGTHS[i]], part[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
def test_where_nothing_has_moved_the_gradient_is_the_policy_gradient(loss: str) -> None:
    b, case = draw(), Case(loss, correction="none")
    _, grad = ours({**b, "old": b["logp"]}, terms(case), weights(case))
    expected = torch.where(b["mask"], -weights(case) * b["advantage"], 0.0)
    torch.testing.assert_close(grad, expected, rtol=0, atol=1e-15)


def test_the_entropy_bonus_is_taken_off_where_tokens_were_sampled() -> None:
    b, how = draw(), dataclasses.replace(terms(Case("dapo")), entropy_coef=0.5)
    entropy = torch.where(b["mask"], b["logp"].square(), float("nan")).requires_grad_()
    args: tuple[Any, ...] = (b["logp"], b["old"], b["mu"], None, b["advantage"], weights(Case("dapo")), b["mask"])
    with_bonus, _ = policy_loss(*args, how, entropy)
    without, _ = policy_loss(*args, terms(Case("dapo")), entropy)
    by_hand = 0.5 * sum(float(b["logp"][i, t]) ** 2 for i, n in enumerate(LENGTHS) for t in range(n)) / sum(LENGTHS)
    assert float(without - with_bonus.detach()) == pytest.approx(by_hand, abs=1e-12)
    (grad,) = torch.autograd.grad(with_bonus, entropy)
    torch.testing.assert_close(grad, b["mask"] * torch.tensor(-0.5).double() / sum(LENGTHS), rtol=0, atol=1e-15)


def test_kl_estimators_have_their_values() -> None:
    d, rho = torch.tensor([[0.0, 0.5, -2.0], [9.0, 2.0, 0.5]], dtype=torch.float64)[:, None]
    assert k1(d, rho).tolist() == d.tolist()
    assert k2(d, rho).tolist() == [[0.0, 0.125, 2.0]]
    by_hand = [0.0, math.exp(-0.5) - 0.5, math.exp(2) - 3]
    assert k3(d, rho)[0].tolist() == pytest.approx(by_hand, abs=1e-12)
    assert rho_k3(d, rho)[0].tolist() == pytest.approx([0.0, 2 * by_hand[1], by_hand[2] / 2], abs=1e-12)


THETA = torch.tensor([0.3, -0.4, 0.9, 0.0], dtype=torch.float64)
REF = torch.log_softmax(torch.tensor([-0.5, 0.2, 0.1, 0.6], dtype=torch.float64), 0)


def bandit_gradient(f: Callable[[Tensor], Tensor]) -> Tensor:
    theta = THETA.clone().requires_grad_()
    (grad,) = torch.autograd.grad(f(torch.log_softmax(theta, 0)), theta)
    return grad


@pytest.mark.parametrize(
    ("name", "true"),
    [
        ("k1", lambda logp: 0 * logp.sum()),
        ("k2", lambda logp: (logp.exp() * (logp - REF)).sum()),  # KL(pi || ref)
        ("k3", lambda logp: (REF.exp() * (REF - logp)).sum()),  # KL(ref || pi)
        ("rho_k3", lambda logp: (logp.exp() * (logp - REF)).sum()),  # KL(pi || ref)
    ],
)
def test_kl_gradients_in_expectation(name: str, true: Callable[[Tensor], Tensor]) -> None:
    probs = torch.softmax(THETA, 0)

    def expected(logp: Tensor) -> Tensor:
        rows = logp[None]  # each arm drawn once, weighed by its probability; no reward
        zero, mask = torch.zeros_like(rows), torch.ones_like(rows, dtype=torch.bool)
        old, how = rows.detach(), terms(Case("dapo", kl_coef=1.0, kl=name))
        return policy_loss(rows, old, old, REF[None], zero, probs[None], mask, how)[0]

    torch.testing.assert_close(bandit_gradient(expected), bandit_gradient(true), rtol=0, atol=1e-14)


def test_rho_k3_has_value_and_gradient_of_the_kl_of_a_policy_that_has_moved() -> None:
    """Arms drawn from pi_old, far from pi: rho k3 is KL(pi||ref) all the same, and the only estimator that is."""
    old = torch.log_softmax(torch.tensor([1.0, -0.2, -0.7, 0.4], dtype=torch.float64), 0)

    def expected(logp: Tensor, name: str) -> Tensor:
        zero, mask = torch.zeros((1, 4), dtype=torch.float64), torch.ones((1, 4), dtype=torch.bool)
        how = terms(Case("dapo", kl_coef=1.0, kl=name))
        return policy_loss(logp[None], old[None], old[None], REF[None], zero, old.exp()[None], mask, how)[0]

    def true(logp: Tensor) -> Tensor:
        return (logp.exp() * (logp - REF)).sum()

    logp = torch.log_softmax(THETA, 0)
    for name in KL:
        close = torch.allclose(bandit_gradient(lambda x, n=name: expected(x, n)), bandit_gradient(true), atol=1e-14)
        assert close is (name == "rho_k3"), name
    assert float(expected(logp, "rho_k3")) == pytest.approx(float(true(logp)), abs=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
def test_bandit_gradient_in_expectation_is_the_analytic_one(loss: str) -> None:
    """Over all groups of 3: E[gradient] = -(G-1)/G dJ/dtheta, with dJ/dtheta_a = p_a (r_a - sum p r)."""
    rewards, probs, size = torch.tensor([1.0, 0.0, 3.0, -1.0], dtype=torch.float64), torch.softmax(THETA, 0), 3
    everyone = torch.ones(size, dtype=torch.bool)

    def expected(logp: Tensor) -> Tensor:
        total = logp.new_zeros(())
        for group in itertools.product(range(4), repeat=size):
            arms = torch.tensor(group)
            chosen = logp[arms][:, None]
            old = chosen.detach()
            weight = LOSSES[loss].normaliser(torch.ones(size, dtype=torch.long), 1)[:, None]
            advantage = dr_grpo(rewards[arms], everyone)[:, None]
            value, _ = policy_loss(chosen, old, old, None, advantage, weight, everyone[:, None], terms(Case(loss)))
            total = total + probs[arms].prod() * value
        return total

    analytic = probs * (rewards - (probs * rewards).sum())
    torch.testing.assert_close(bandit_gradient(expected), -(size - 1) / size * analytic, rtol=0, atol=1e-14)


TEN = torch.tensor([0.3, -0.4, 0.9, 0.0, 1.1, -1.3, 0.2, 0.6, -0.8, 0.5], dtype=torch.float64)


@pytest.mark.parametrize("loss", LOSSES)
def test_ten_arms_drawn_from_another_policy(loss: str) -> None:
    """With weight w = pi/mu on arms drawn from mu, the expected gradient is the policy's own: -p_a (r_a - sum p r)."""
    rewards, probs = torch.arange(10, dtype=torch.float64).cos(), torch.softmax(TEN, 0)
    mu = torch.full((10, 1), math.log(0.1), dtype=torch.float64)
    theta = TEN.clone().requires_grad_()
    logp = torch.log_softmax(theta, 0)[:, None]  # a row an arm: an episode of one token
    how = terms(Case(loss, cap=10.0))
    mask = torch.ones((10, 1), dtype=torch.bool)
    value, _ = policy_loss(logp, logp.detach(), mu, None, rewards[:, None], mu.exp(), mask, how)
    (grad,) = torch.autograd.grad(value, theta)
    torch.testing.assert_close(grad, -probs * (rewards - (probs * rewards).sum()), rtol=0, atol=1e-14)


def test_an_off_policy_sampler_is_corrected_up_to_the_cap() -> None:
    """Drawn from mu and weighed by pi_old/mu, the expected gradient is that of the policy; the cap cuts it."""
    rewards = torch.tensor([1.0, 0.0, 3.0, -1.0], dtype=torch.float64)
    mu = torch.full((4,), math.log(0.25), dtype=torch.float64)

    def expected(logp: Tensor, cap: float) -> Tensor:
        rows, mask = logp[None], torch.ones((1, 4), dtype=torch.bool)
        weight, how = mu.exp()[None], terms(Case("dapo", cap=cap))  # arms drawn from mu
        return policy_loss(rows, rows.detach(), mu[None], None, rewards[None], weight, mask, how)[0]

    analytic = -torch.softmax(THETA, 0) * (rewards - (torch.softmax(THETA, 0) * rewards).sum())
    free = bandit_gradient(lambda logp: expected(logp, 10.0))
    torch.testing.assert_close(free, analytic, rtol=0, atol=1e-14)
    w = torch.softmax(THETA, 0) / 0.25
    capped = bandit_gradient(lambda logp: expected(logp, 1.2))
    by_hand = bandit_gradient(lambda logp: -(0.25 * w.clamp(max=1.2) * rewards * logp).sum())
    assert w.max() > 1.2
    torch.testing.assert_close(capped, by_hand, rtol=0, atol=1e-14)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30])
@pytest.mark.parametrize(
    "case",
    [Case(loss, kl_coef=0.3, correction=c) for loss, c in itertools.product(LOSSES, CORRECTIONS)]
    + [Case("grpo", kl_coef=0.3, kl=kl) for kl in KL],
    ids=str,
)
def test_what_stands_in_masked_positions_changes_nothing(garbage: float, case: Case) -> None:
    b, how, weight = draw(), terms(case), weights(case)
    before, grad = ours(b, how, weight)
    dirty = {k: v if k == "mask" else torch.where(b["mask"], v, garbage) for k, v in b.items()}
    after, dirty_grad = ours(dirty, how, torch.where(b["mask"], weight, garbage))
    assert torch.equal(after, before)
    assert torch.equal(dirty_grad, grad)
    stats = [
        policy_loss(x["logp"], x["old"], x["mu"], x["ref"], x["advantage"], weight, x["mask"], how)[1]
        for x in (b, dirty)
    ]
    assert stats[0] == stats[1]


def test_masked_log_probabilities_do_not_reach_the_sft_loss() -> None:
    mask = torch.tensor([[True, True, False]])
    logp = torch.tensor([[-1.0, -3.0, float("nan")]], requires_grad=True)
    loss = sft_loss(logp, torch.full((1, 3), 0.5), mask)
    assert float(loss.detach()) == 2.0
    assert torch.autograd.grad(loss, logp)[0].tolist() == [[-0.5, -0.5, 0.0]]


def test_stats_by_hand() -> None:
    rho, w = torch.tensor([[1.5, 1.0, 0.5, 9.0]], dtype=torch.float64), torch.tensor([[4.0, 1.0, 0.5, 9.0]])
    old = torch.full((1, 4), -1.0, dtype=torch.float64)
    mask = torch.tensor([[True, True, True, False]])
    one = torch.ones((1, 4), dtype=torch.float64)
    _, s = policy_loss(old + rho.log(), old, old - w.double().log(), None, one, one, mask, terms(Case("dapo")))
    assert (s.tokens, s.clipped, s.kl, s.dropped) == (3, 2.0, 0.0, 0.0)
    assert (s.clipped_low, s.clipped_high) == (0.0, 1.0)
    assert s.ratio == pytest.approx(0.5, abs=1e-12)
    assert s.weight == pytest.approx(2 + 1 + 0.5, abs=1e-12)
    assert s.weight_sq == pytest.approx(4 + 1 + 0.25, abs=1e-12)
    assert s.gaps.kl == pytest.approx((4 - math.log(4) - 1) + 0 + (0.5 + math.log(2) - 1), abs=1e-12)


def test_what_a_bound_stops_is_counted_by_the_side() -> None:
    rho = torch.tensor([[1.5, 1.5, 1.4, 0.5, 0.5, 1.0]], dtype=torch.float64)
    advantage = torch.tensor([[1.0, -1.0, 2.0, -1.0, 1.0, 1.0]], dtype=torch.float64)
    old, one = torch.full((1, 6), -1.0, dtype=torch.float64), torch.ones((1, 6), dtype=torch.float64)
    _, s = policy_loss(old + rho.log(), old, old, None, advantage, one, one.bool(), terms(Case("dapo")))
    assert {k: round(v * 6) for k, v in summary([s]).items() if k.startswith("clip_share")} == {
        "clip_share": 5, "clip_share/low": 1, "clip_share/high": 2}  # fmt: skip


WORTH = torch.tensor([1.5, -0.7, 0.0], dtype=torch.float64)[:, None].expand(ROWS, SEQ)
PULLS = [Case("grpo"), *[Case("grpo", kl=kl, kl_coef=0.3) for kl in ("k1", "k2", "k3")]]


def logged(b: dict[str, Tensor], case: Case, weight: Tensor, worth: Tensor = WORTH) -> tuple[Tensor, Tensor]:
    logp = b["logp"].clone().requires_grad_()
    loss = weighted_log_ratio(logp, b["ref"], worth, weight, b["mask"], terms(case))
    return loss.detach(), torch.autograd.grad(loss, logp)[0]


def logged_oracle(logp: Tensor, ref: Tensor, case: Case) -> float:
    """The mean over answers of -w times the mean log-ratio of their tokens, and KL; in Python's floats."""
    total = 0.0
    for i, n in enumerate(LENGTHS):
        for d in (logp[i, :n] - ref[i, :n]).tolist():
            divergence = {"k1": d, "k2": d * d / 2, "k3": math.exp(-d) + d - 1}[case.kl]
            total += (-float(WORTH[i, 0]) * d + case.kl_coef * divergence) / (ROWS * n)
    return total


@pytest.mark.parametrize("case", PULLS, ids=str)
def test_weighted_log_ratio_equals_its_formula(case: Case) -> None:
    b, h = draw(), 1e-6
    loss, grad = logged(b, case, weights(case))
    assert float(loss) == pytest.approx(logged_oracle(b["logp"], b["ref"], case), abs=1e-12)
    for i, t in itertools.product(range(ROWS), range(SEQ)):
        step = torch.zeros((ROWS, SEQ), dtype=torch.float64)
        step[i, t] = h
        up, down = (logged_oracle(b["logp"] + s, b["ref"], case) for s in (step, -step))
        assert float(grad[i, t]) == pytest.approx((up - down) / (2 * h), abs=1e-7)


def test_the_reference_shifts_the_weighted_log_ratio_and_not_its_gradient() -> None:
    b, case = draw(), Case("grpo")
    loss, grad = logged(b, case, weights(case))
    moved, same = logged({**b, "ref": b["ref"] + 1.0}, case, weights(case))
    assert float(moved - loss) == pytest.approx(float(WORTH[:, 0].mean()), abs=1e-12)
    assert torch.equal(grad, same)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -1e30])
@pytest.mark.parametrize("case", PULLS, ids=str)
def test_masked_positions_do_not_reach_the_weighted_log_ratio(garbage: float, case: Case) -> None:
    b, weight = draw(), weights(case)
    before = logged(b, case, weight)
    dirty = {k: v if k == "mask" else torch.where(b["mask"], v, garbage) for k, v in b.items()}
    after = logged(dirty, case, torch.where(b["mask"], weight, garbage), torch.where(b["mask"], WORTH, garbage))
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


@pytest.mark.parametrize("case", PULLS, ids=str)
def test_rows_of_the_weighted_log_ratio_apart_add_up(case: Case) -> None:
    b, weight = draw(), weights(case)
    whole, grad = logged(b, case, weight)
    parts = [logged({k: v[[i], :n] for k, v in b.items()}, case, weight[[i], :n], WORTH[[i], :n])
             for i, n in enumerate(LENGTHS)]  # fmt: skip
    torch.testing.assert_close(sum(v for v, _ in parts), whole, rtol=0, atol=1e-14)
    for i, (_, part) in enumerate(parts):
        torch.testing.assert_close(grad[i, : LENGTHS[i]], part[0], rtol=0, atol=1e-14)
