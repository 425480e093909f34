from typing import Any

import pytest
import torch
from torch import Tensor

from mmrl_agents import head
from mmrl_agents.head import log_probabilities

OF = torch.tensor([0, 0, 1, 3, 3, 3, 4, 6])
IDS = torch.tensor([1, 4, 0, 2, 3, 10, 5, 5])


def learned(learn_entropy: bool = True) -> tuple[list[Tensor], list[Tensor], int]:
    """Values, gradients, and how often the head ran, of 7 states and 11 ids."""
    gen = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 5, generator=gen, dtype=torch.double, requires_grad=True)
    weight = torch.randn(11, 5, generator=gen, dtype=torch.double, requires_grad=True)
    calls: list[int] = []

    def read(states: Tensor) -> Tensor:
        calls.append(len(states))
        return states @ weight.T

    logp, entropy = log_probabilities(hidden, OF, IDS, read, 11, learn_entropy)
    loss = (logp * torch.arange(1, 9)).sum() + (entropy.square().sum() if learn_entropy else 0.0)
    gradients = torch.autograd.grad(loss, [hidden, weight])
    full = torch.log_softmax(hidden.detach() @ weight.detach().T, -1)
    torch.testing.assert_close(logp.detach(), full[OF, IDS], rtol=0, atol=1e-14)
    torch.testing.assert_close(entropy.detach(), -(full.exp() * full).sum(-1), rtol=0, atol=1e-14)
    return [logp.detach(), entropy.detach()], list(gradients), len(calls)


@pytest.mark.parametrize("tokens", [1, 2, 3, 6])
@pytest.mark.parametrize("learn_entropy", [True, False])
def test_chunks_change_nothing(tokens: int, learn_entropy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    values, gradients, once = learned(learn_entropy)
    assert once == 1
    monkeypatch.setattr(head, "CHUNK_LOGITS", 11 * tokens + 1)
    cut, cut_gradients, calls = learned(learn_entropy)
    assert calls == 2 * -(-7 // tokens)  # each chunk forward, and once more backward
    torch.testing.assert_close(cut, values, rtol=0, atol=1e-14)
    torch.testing.assert_close(cut_gradients, gradients, rtol=0, atol=1e-12)


def test_entropies_have_a_gradient_only_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = torch.randn(7, 5, requires_grad=True)
    for limit in (10**6, 22):
        monkeypatch.setattr(head, "CHUNK_LOGITS", limit)

        def both(learn: bool) -> tuple[Tensor, Tensor]:
            return log_probabilities(hidden, OF, IDS, lambda s: s.repeat(1, 3)[:, :11], 11, learn)

        assert [t.requires_grad for t in both(False)] == [True, False]
        assert [t.requires_grad for t in both(True)] == [True, True]
        with torch.no_grad():
            assert [t.requires_grad for t in both(True)] == [False, False]


def test_a_chunk_at_a_time_holds_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the graph keeps for the backward pass: no tensor of the vocabulary's size."""
    weight = torch.randn(500, 8, requires_grad=True)
    hidden = torch.randn(40, 8, requires_grad=True)
    of, ids = torch.arange(40), torch.arange(40)

    def kept() -> int:
        sizes: list[int] = []

        def pack(t: Any) -> Any:
            sizes.append(t.numel())
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            log_probabilities(hidden, of, ids, lambda s: s @ weight.T, 500)
        return max(sizes)

    assert kept() == 40 * 500
    monkeypatch.setattr(head, "CHUNK_LOGITS", 5000)
    assert kept() <= 500 * 8  # the weights themselves


def test_nothing_asked_gives_nothing() -> None:
    none = torch.zeros(0, dtype=torch.long)
    logp, entropy = log_probabilities(torch.zeros(0, 5), none, none, lambda s: s.new_zeros(len(s), 11), 11)
    assert (logp.shape, entropy.shape) == ((0,), (0,))
