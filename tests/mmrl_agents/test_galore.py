from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from learner_tools import llama
from torch import Tensor

from mmrl_agents.galore import GaloreAdamW, Projection, project, project_back, subspace

ADAM = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stepped(weights: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, steps: range) -> list[Tensor]:
    """The weights after steps with gradients that are a function of the step's number."""
    for step in steps:
        for i, weight in enumerate(weights):
            weight.grad = drawn(*weight.shape, seed=100 * step + i).to(weight.dtype)
        optimizer.step()
    return [w.detach().clone() for w in weights]


def parameters(dtype: torch.dtype = torch.float64) -> list[torch.nn.Parameter]:
    shapes = ((6, 9), (9, 6), (3, 8), (7,))
    return [torch.nn.Parameter(drawn(*s, seed=50 + i).to(dtype)) for i, s in enumerate(shapes)]


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (5, 5)])
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_the_subspace_is_orthonormal_and_the_best_of_its_rank(shape: tuple[int, int], rank: int) -> None:
    gradient = drawn(*shape)
    basis = subspace(gradient, rank)
    assert basis.shape == (min(shape), rank)
    torch.testing.assert_close(basis.T @ basis, torch.eye(rank, dtype=torch.float64), rtol=0, atol=1e-12)
    back = project_back(project(gradient, basis), basis, gradient.shape)
    lost = torch.linalg.svdvals(gradient)[rank:].norm()  # Eckart-Young: no matrix of this rank is nearer
    assert float((gradient - back).norm()) == pytest.approx(float(lost), abs=1e-10)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_at_full_rank_nothing_is_lost(shape: tuple[int, int]) -> None:
    gradient = drawn(*shape)
    basis = subspace(gradient, 6)
    torch.testing.assert_close(project_back(project(gradient, basis), basis, gradient.shape), gradient)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_at_full_rank_it_is_adamw_to_the_bit(dtype: torch.dtype) -> None:
    mine, theirs = parameters(dtype), parameters(dtype)
    galore = GaloreAdamW(mine, [], Projection(rank=6, refresh=2), **ADAM)
    after = stepped(mine, galore, range(5))
    expected = stepped(theirs, torch.optim.AdamW(theirs, **ADAM), range(5))
    assert all(torch.equal(a, b) for a, b in zip(after, expected, strict=True))
    assert not torch.equal(after[0], parameters(dtype)[0])


def test_what_is_not_projected_is_adamws_to_the_bit() -> None:
    mine, theirs = parameters(torch.float32), parameters(torch.float32)
    after = stepped(mine, GaloreAdamW(mine[:2], mine[2:], Projection(rank=2), **ADAM), range(5))
    expected = stepped(theirs, torch.optim.AdamW(theirs, **ADAM), range(5))
    assert [torch.equal(a, b) for a, b in zip(after, expected, strict=True)] == [False, False, True, True]


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)])
def test_the_steps_are_the_papers(shape: tuple[int, int]) -> None:
    """Algorithm 2 written out; the subspace is drawn again at steps 0, 3 and 6, the moments stay."""
    weight = torch.nn.Parameter(drawn(*shape, seed=50))
    expected, lr, rank, scale = weight.detach().clone(), 0.01, 2, 0.25
    after = stepped([weight], GaloreAdamW([weight], [], Projection(rank, 3, scale), **ADAM), range(8))[0]
    m = v = torch.zeros((), dtype=torch.float64)
    basis, wide = torch.empty(0), shape[0] <= shape[1]
    for t in range(8):
        gradient = drawn(*shape, seed=100 * t)
        if t % 3 == 0:
            u, _, w = torch.linalg.svd(gradient)
            basis = u[:, :rank] if wide else w[:rank].T
        low = basis.T @ gradient if wide else gradient @ basis
        m, v = 0.9 * m + 0.1 * low, 0.99 * v + 0.01 * low**2
        normal = (m / (1 - 0.9 ** (t + 1))) / ((v / (1 - 0.99 ** (t + 1))).sqrt() + 1e-8)
        back = basis @ normal if wide else normal @ basis.T
        expected = expected * (1 - lr * 0.1) - lr * scale * back
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-12)


def test_between_two_refreshes_a_weight_moves_in_its_subspace_alone() -> None:
    weight = torch.nn.Parameter(drawn(6, 9, seed=50))
    optimizer = GaloreAdamW([weight], [], Projection(rank=2, refresh=100), **{**ADAM, "weight_decay": 0.0})
    moved = stepped([weight], optimizer, range(7))[0] - drawn(6, 9, seed=50)
    assert torch.linalg.matrix_rank(moved, atol=1e-10) == 2
    basis = optimizer.state[weight]["basis"]
    torch.testing.assert_close(basis @ (basis.T @ moved), moved)


def test_a_large_weight_decay_acts_outside_the_subspace_too() -> None:
    weight = torch.nn.Parameter(drawn(6, 9, seed=50))
    optimizer = GaloreAdamW([weight], [], Projection(rank=2), lr=0.5, betas=(0.9, 0.99), eps=math.inf, weight_decay=0.2)
    torch.testing.assert_close(stepped([weight], optimizer, range(1))[0], 0.9 * drawn(6, 9, seed=50))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_state_is_small_and_resumes_to_the_same_bits(dtype: torch.dtype) -> None:
    """r (2 n + m) values for a weight of (m, n), m <= n, where Adam keeps 2 m n."""
    weights = parameters(dtype)
    optimizer = GaloreAdamW(weights[:2], weights[2:], Projection(rank=2, refresh=3), **ADAM)
    stepped(weights, optimizer, range(4))
    held = [sum(t.numel() for n, t in optimizer.state[w].items() if n != "step") for w in weights]
    assert held == [2 * (2 * 9 + 6), 2 * (2 * 9 + 6), 2 * 24, 2 * 7]
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    twins = [copy.deepcopy(w) for w in weights]
    twin = GaloreAdamW(twins[:2], twins[2:], Projection(rank=2, refresh=3), **ADAM)
    twin.load_state_dict(torch.load(file, weights_only=True))
    one, two = stepped(weights, optimizer, range(4, 9)), stepped(twins, twin, range(4, 9))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_weight_without_a_gradient_stays() -> None:
    weights = parameters()
    optimizer = GaloreAdamW(weights[:2], weights[2:], Projection(rank=2), **ADAM)
    weights[0].grad = drawn(6, 9)
    optimizer.step()
    changed = [not torch.equal(w, p) for w, p in zip(weights, parameters(), strict=True)]
    assert changed == [True, False, False, False]


def test_it_lowers_a_models_loss() -> None:
    model, ids = llama(dtype=torch.float32), torch.arange(2, 34)[None]
    matrices = [m.weight for m in model.model.modules() if isinstance(m, torch.nn.Linear)]
    others = [p for p in model.parameters() if all(p is not w for w in matrices)]
    adam = {**ADAM, "lr": 0.02, "weight_decay": 0.0}
    optimizer = GaloreAdamW(matrices, others, Projection(rank=4, refresh=10, scale=1.0), **adam)
    losses: list[float] = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


def test_a_group_that_comes_later_is_not_projected() -> None:
    mine, later = parameters(), torch.nn.Parameter(drawn(7, seed=9))
    galore = GaloreAdamW(mine, [], Projection(rank=2, refresh=2), **ADAM)
    galore.add_param_group({"params": [later], "lr": 0.25})
    other = torch.nn.Parameter(later.detach().clone())
    expected = stepped([other], torch.optim.AdamW([other], **{**ADAM, "lr": 0.25}), range(3))
    assert torch.equal(stepped([later], galore, range(3))[0], expected[0])
