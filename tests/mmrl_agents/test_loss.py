import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from mmrl_agents.advantage import dr_grpo
from mmrl_agents.loss import KL, NORMALISERS, LossTerms, clipped, k1, k2, k3, policy_loss, sft_loss

ROWS, SEQ = 3, 5
LENGTHS = (5, 2, 3)


def terms(kl_coef: float = 0.0, kl: str = "k3", cap: float = 2.0) -> LossTerms:
    return LossTerms(0.2, 0.28, cap, kl_coef, KL[kl])


def draw(seed: int = 0) -> dict[str, Tensor]:
    """A batch with ratios on both sides of the clip and weights on both sides of the cap."""
    g = torch.Generator().manual_seed(seed)
    logp = -torch.rand((ROWS, SEQ), generator=g, dtype=torch.float64) * 3
    noise = lambda: 0.6 * torch.randn((ROWS, SEQ), generator=g, dtype=torch.float64)  # noqa: E731
    mask = torch.tensor([[t < n for t in range(SEQ)] for n in LENGTHS])
    advantage = torch.tensor([1.5, -0.7, -0.8], dtype=torch.float64)[:, None].expand(ROWS, SEQ)
    return {"logp": logp, "old": logp + noise(), "mu": logp + noise(), "ref": logp + noise(), "advantage": advantage,
            "mask": mask}  # fmt: skip


def weights(name: str) -> Tensor:
    return NORMALISERS[name](torch.tensor(LENGTHS), 7)[:, None].expand(ROWS, SEQ)


def ours(b: dict[str, Tensor], how: LossTerms, weight: Tensor) -> tuple[Tensor, Tensor]:
    logp = b["logp"].clone().requires_grad_()
    ref = b["ref"] if how.kl_coef else None
    loss, _ = policy_loss(logp, b["old"], b["mu"], ref, b["advantage"], weight, b["mask"], how)
    (grad,) = torch.autograd.grad(loss, logp)
    return loss.detach(), grad


def oracle(b: dict[str, Tensor], kl_coef: float, kl: str, cap: float, normaliser: str) -> float:
    """The formulas of LEARNING.md, token by token, in Python's floats."""
    total = 0.0
    for i, n in enumerate(LENGTHS):
        for t in range(n):
            logp, old, mu, ref, a = (float(b[k][i, t]) for k in ("logp", "old", "mu", "ref", "advantage"))
            rho, w, d = math.exp(logp - old), math.exp(old - mu), logp - ref
            surrogate = -min(rho * a, min(max(rho, 0.8), 1.28) * a)
            divergence = {"k1": d, "k2": d * d / 2, "k3": math.exp(-d) + d - 1}[kl]
            norm = {"grpo": ROWS * n, "dapo": sum(LENGTHS), "dr_grpo": ROWS * 7}[normaliser]
            total += (min(w, cap) * surrogate + kl_coef * divergence) / norm
    return total


@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize(("kl_coef", "kl"), [(0.0, "k3"), (0.3, "k1"), (0.3, "k2"), (0.3, "k3")])
def test_value_and_gradient_equal_the_formulas(normaliser: str, kl_coef: float, kl: str) -> None:
    b, h = draw(), 1e-6
    loss, grad = ours(b, terms(kl_coef, kl), weights(normaliser))
    assert float(loss) == pytest.approx(oracle(b, kl_coef, kl, 2.0, normaliser), abs=1e-12)
    for i, t in itertools.product(range(ROWS), range(SEQ)):
        step = torch.zeros((ROWS, SEQ), dtype=torch.float64)
        step[i, t] = h
        up, down = (oracle({**b, "logp": b["logp"] + s}, kl_coef, kl, 2.0, normaliser) for s in (step, -step))
        assert float(grad[i, t]) == pytest.approx((up - down) / (2 * h), abs=1e-7)


@pytest.mark.parametrize(
    ("rho", "advantage", "loss", "slope"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.3, 2.0, -2.56, 0.0),  # clipped above
        (1.3, -2.0, 2.6, 2.6),  # no upper clip for a bad action
        (0.7, 2.0, -1.4, -1.4),  # no lower clip for a good action
        (0.7, -2.0, 1.6, 0.0),  # clipped below
        (1.27, 1.0, -1.27, -1.27),  # the upper clip is 1.28, not 1.2
    ],
)
def test_clips_both_sides(rho: float, advantage: float, loss: float, slope: float) -> None:
    logp = torch.tensor([[math.log(rho)]], dtype=torch.float64, requires_grad=True)
    out = clipped(torch.exp(logp), torch.full((1, 1), advantage, dtype=torch.float64), 0.2, 0.28)
    assert float(out.detach()) == pytest.approx(loss, abs=1e-12)
    assert float(torch.autograd.grad(out.sum(), logp)[0]) == pytest.approx(slope, abs=1e-12)


def test_kl_estimators_have_their_values() -> None:
    d = torch.tensor([[0.0, 0.5, -2.0]], dtype=torch.float64)
    assert k1(d).tolist() == d.tolist()
    assert k2(d).tolist() == [[0.0, 0.125, 2.0]]
    assert k3(d)[0].tolist() == pytest.approx([0.0, math.exp(-0.5) - 0.5, math.exp(2) - 3], abs=1e-12)


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
    ],
)
def test_kl_gradients_in_expectation(name: str, true: Callable[[Tensor], Tensor]) -> None:
    probs = torch.softmax(THETA, 0)

    def expected(logp: Tensor) -> Tensor:
        rows = logp[None]  # each arm drawn once, weighed by its probability; no reward
        zero, mask = torch.zeros_like(rows), torch.ones_like(rows, dtype=torch.bool)
        old = rows.detach()
        return policy_loss(rows, old, old, REF[None], zero, probs[None], mask, terms(1.0, name))[0]

    torch.testing.assert_close(bandit_gradient(expected), bandit_gradient(true), rtol=0, atol=1e-14)


def test_bandit_gradient_in_expectation_is_the_analytic_one() -> None:
    """Over all groups of 3: E[gradient] = -(G-1)/G dJ/dtheta, with dJ/dtheta_a = p_a (r_a - sum p r)."""
    rewards, probs, size = torch.tensor([1.0, 0.0, 3.0, -1.0], dtype=torch.float64), torch.softmax(THETA, 0), 3
    everyone = torch.ones(size, dtype=torch.bool)

    def expected(logp: Tensor) -> Tensor:
        total = logp.new_zeros(())
        for group in itertools.product(range(4), repeat=size):
            arms = torch.tensor(group)
            chosen = logp[arms][:, None]
            old = chosen.detach()
            weight = NORMALISERS["dr_grpo"](torch.ones(size, dtype=torch.long), 1)[:, None]
            advantage = dr_grpo(rewards[arms], everyone)[:, None]
            loss, _ = policy_loss(chosen, old, old, None, advantage, weight, everyone[:, None], terms())
            total = total + probs[arms].prod() * loss
        return total

    analytic = probs * (rewards - (probs * rewards).sum())
    torch.testing.assert_close(bandit_gradient(expected), -(size - 1) / size * analytic, rtol=0, atol=1e-14)


def test_an_off_policy_sampler_is_corrected_up_to_the_cap() -> None:
    """Drawn from mu and weighed by pi_old/mu, the expected gradient is that of the policy; the cap cuts it."""
    rewards = torch.tensor([1.0, 0.0, 3.0, -1.0], dtype=torch.float64)
    mu = torch.full((4,), math.log(0.25), dtype=torch.float64)

    def expected(logp: Tensor, cap: float) -> Tensor:
        rows, mask = logp[None], torch.ones((1, 4), dtype=torch.bool)
        weight = mu.exp()[None]  # arms drawn from mu
        return policy_loss(rows, rows.detach(), mu[None], None, rewards[None], weight, mask, terms(cap=cap))[0]

    analytic = -torch.softmax(THETA, 0) * (rewards - (torch.softmax(THETA, 0) * rewards).sum())
    free = bandit_gradient(lambda logp: expected(logp, 10.0))
    torch.testing.assert_close(free, analytic, rtol=0, atol=1e-14)
    w = torch.softmax(THETA, 0) / 0.25
    capped = bandit_gradient(lambda logp: expected(logp, 1.2))
    by_hand = bandit_gradient(lambda logp: -(0.25 * w.clamp(max=1.2) * rewards * logp).sum())
    assert w.max() > 1.2
    torch.testing.assert_close(capped, by_hand, rtol=0, atol=1e-14)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30])
@pytest.mark.parametrize("kl", KL)
def test_what_stands_in_masked_positions_changes_nothing(garbage: float, kl: str) -> None:
    b, how = draw(), terms(0.3, kl)
    before, grad = ours(b, how, weights("grpo"))
    dirty = {k: v if k == "mask" else torch.where(b["mask"], v, garbage) for k, v in b.items()}
    after, dirty_grad = ours(dirty, how, torch.where(b["mask"], weights("grpo"), garbage))
    assert torch.equal(after, before)
    assert torch.equal(dirty_grad, grad)
    stats = [
        policy_loss(x["logp"], x["old"], x["mu"], x["ref"], x["advantage"], weights("grpo"), x["mask"], how)[1]
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
    _, s = policy_loss(old + rho.log(), old, old - w.double().log(), None, one, one, mask, terms())
    assert (s.tokens, s.clipped, s.kl) == (3, 2.0, 0.0)
    assert s.ratio == pytest.approx(0.5, abs=1e-12)
    assert s.weight == pytest.approx(2 + 1 + 0.5, abs=1e-12)
    assert s.weight_sq == pytest.approx(4 + 1 + 0.25, abs=1e-12)
    assert s.mismatch == pytest.approx((4 - math.log(4) - 1) + 0 + (0.5 + math.log(2) - 1), abs=1e-12)


def test_normalisers_by_hand() -> None:
    tokens = torch.tensor([4, 1, 0])
    assert NORMALISERS["grpo"](tokens, 10).tolist() == [1 / 12, 1 / 3, 1 / 3]
    assert NORMALISERS["dapo"](tokens, 10).tolist() == [1 / 5] * 3
    assert NORMALISERS["dr_grpo"](tokens, 10).tolist() == [1 / 30] * 3
    assert NORMALISERS["dapo"](torch.tensor([0]), 10).tolist() == [1.0]


@pytest.mark.parametrize("loss_type", NORMALISERS)
@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_equals_trl(loss_type: str, beta: float) -> None:
    """TRL's own ``_compute_loss`` on the same tokens; only the trainer around it is left out."""
    from accelerate import Accelerator
    from trl import GRPOTrainer

    b = draw()
    logp = b["logp"].clone().requires_grad_()
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (logp, torch.zeros_like(logp), None),
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, beta=beta,
        importance_sampling_level="token", loss_type=loss_type, epsilon_low=0.2, epsilon_high=0.28, use_vllm=True,
        vllm_importance_sampling_correction=True, model=SimpleNamespace(training=True), max_completion_length=7,
        current_gradient_accumulation_steps=1, _entropy_bonus_enabled=False, accelerator=Accelerator(cpu=True),
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        _metrics=defaultdict(lambda: defaultdict(list)),
    )  # fmt: skip
    ids = torch.zeros((ROWS, SEQ), dtype=torch.long)
    inputs = {
        "prompt_ids": ids[:, :1], "prompt_mask": ids[:, :1] + 1, "completion_ids": ids,
        "completion_mask": b["mask"].long(), "advantages": b["advantage"][:, 0], "old_per_token_logps": b["old"],
        "ref_per_token_logps": b["ref"], "importance_sampling_ratio": (b["old"] - b["mu"]).exp().clamp(max=2.0),
        "num_items_in_batch": b["mask"].sum(),
    }  # fmt: skip
    theirs = GRPOTrainer._compute_loss(trainer, None, inputs)
    (their_grad,) = torch.autograd.grad(theirs, logp)
    loss, grad = ours(b, terms(beta), weights(loss_type))
    torch.testing.assert_close(loss, theirs.detach(), rtol=0, atol=1e-7)
    torch.testing.assert_close(grad, torch.where(b["mask"], their_grad, 0.0), rtol=0, atol=1e-7)
