import math

import pytest
import torch
from torch import Tensor

from mmrl_agents.surrogate import SURROGATES, Clip, gspo, row_ratio, token_ratio

CLIP = Clip(0.2, 0.28)


def one(name: str, rho: float, advantage: float, terms: Clip = CLIP) -> tuple[float, float]:
    """Value and slope in logp of a single token whose log-probability was -1."""
    logp = torch.tensor([[-1 + math.log(rho)]], dtype=torch.float64, requires_grad=True)
    old = torch.full((1, 1), -1.0, dtype=torch.float64)
    a = torch.full((1, 1), advantage, dtype=torch.float64)
    out = SURROGATES[name](logp, old, a, torch.ones((1, 1), dtype=torch.bool), terms)
    return float(out.detach()), float(torch.autograd.grad(out.sum(), logp)[0])


@pytest.mark.parametrize("name", ["clip", "gspo"])  # of a row of one token both are the same
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
def test_clips_both_sides(name: str, rho: float, advantage: float, loss: float, slope: float) -> None:
    assert one(name, rho, advantage) == pytest.approx((loss, slope), abs=1e-12)


@pytest.mark.parametrize(
    ("rho", "advantage", "loss", "slope"),
    [
        (2.9, -2.0, 5.8, 5.8),
        (3.5, -2.0, 6.0, 0.0),  # at most 3 * 2, and flat
        (0.7, -2.0, 1.6, 0.0),
        (3.5, 2.0, -2.56, 0.0),  # a good action knows the upper clip alone
    ],
)
def test_the_dual_clip_bounds_the_loss_of_bad_actions(rho: float, advantage: float, loss: float, slope: float) -> None:
    assert one("clip", rho, advantage, Clip(0.2, 0.28, 3.0)) == pytest.approx((loss, slope), abs=1e-12)


@pytest.mark.parametrize(("rho", "weight"), [(0.1, 0.1), (1.0, 1.0), (1.27, 1.27), (5.0, 1.28)])
@pytest.mark.parametrize("advantage", [2.0, -2.0])
def test_cispo_clips_the_weight_and_keeps_the_gradient(rho: float, weight: float, advantage: float) -> None:
    loss, slope = -weight * advantage * (-1 + math.log(rho)), -weight * advantage
    assert one("cispo", rho, advantage) == pytest.approx((loss, slope), abs=1e-12)


@pytest.mark.parametrize(("advantage", "tau"), [(2.0, 1.0), (-2.0, 1.05)])
def test_sapo_gates_softly(advantage: float, tau: float) -> None:
    for rho in (0.2, 1.0, 1.5, 4.0):
        gate = 1 / (1 + math.exp(-tau * (rho - 1)))
        loss, slope = -4 / tau * gate * advantage, -4 * gate * (1 - gate) * rho * advantage
        assert one("sapo", rho, advantage) == pytest.approx((loss, slope), abs=1e-12)
    assert one("sapo", 1.0, advantage)[1] == pytest.approx(-advantage, abs=1e-12)


@pytest.mark.parametrize("rho", [0.2, 1.0, 4.0])
def test_reinforce_knows_no_ratio(rho: float) -> None:
    assert one("reinforce", rho, 2.0) == pytest.approx((-2 * (-1 + math.log(rho)), -2.0), abs=1e-12)


LOGP = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -1.0, 7.0]], dtype=torch.float64)
OLD = torch.tensor([[-1.3, -2.0, -2.4], [-1.0, -1.1, float("nan")]], dtype=torch.float64)
MASK = torch.tensor([[True, True, True], [True, True, False]])


def test_the_ratio_of_a_row_is_a_geometric_mean_over_its_sampled_tokens() -> None:
    expected = [[math.exp((0.3 + 0.0 - 0.6) / 3)] * 3, [math.exp(0.1 / 2)] * 3]
    torch.testing.assert_close(row_ratio(LOGP, OLD, MASK), torch.tensor(expected).double(), rtol=0, atol=1e-7)
    assert row_ratio(LOGP, OLD, torch.zeros_like(MASK)).tolist() == [[1.0] * 3] * 2
    assert token_ratio(LOGP, OLD, MASK)[0].tolist() == pytest.approx([math.exp(0.3), 1.0, math.exp(-0.6)], abs=1e-12)


def test_the_tokens_of_a_row_move_together_under_gspo() -> None:
    logp = LOGP.clone().requires_grad_()
    advantage = torch.tensor([[1.0], [-1.0]], dtype=torch.float64).expand(2, 3)
    old = torch.where(MASK, OLD, 0.0)
    out = torch.where(MASK, gspo(logp, old, advantage, MASK, CLIP), 0.0)
    (grad,) = torch.autograd.grad(out.sum(), logp)
    s = [math.exp(-0.1), math.exp(0.05)]
    assert out.detach()[0].tolist() == pytest.approx([-s[0]] * 3, abs=1e-12)
    torch.testing.assert_close(grad, torch.tensor([[-s[0]] * 3, [s[1], s[1], 0.0]]).double(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", SURROGATES)
def test_no_gradient_goes_through_the_old_policy(name: str) -> None:
    old: Tensor = torch.where(MASK, OLD, 0.0).requires_grad_()
    logp = torch.where(MASK, LOGP, 0.0).requires_grad_()
    advantage = torch.where(MASK, 1.0, 0.0).double()
    out = SURROGATES[name](logp, old, advantage, MASK, CLIP)
    assert torch.autograd.grad(out.sum(), old, allow_unused=True)[0] is None
