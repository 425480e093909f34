import math
from typing import Any

import pytest
import torch
from learner_tools import VOCAB, llama, lora, ragged
from torch import Tensor

from mmrl_agents.batch import MicroBatch, collate, segments_of
from mmrl_agents.logprobs import Scorer

BIGRAM = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25], [0.05, 0.9, 0.05]], dtype=torch.float64)
"""P(next | this) of three tokens."""


def bigram() -> Any:
    """A Llama without layers whose next token depends on this one as in BIGRAM."""
    model = llama(vocab_size=3, hidden_size=3, num_hidden_layers=0, num_attention_heads=1, num_key_value_heads=1,
                  rms_norm_eps=0.0, tie_word_embeddings=False)  # fmt: skip
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(3))
        model.lm_head.weight.copy_(BIGRAM.log().T / 3**0.5)  # the norm of a unit vector of three has length sqrt(3)
    return model


def test_a_log_probability_is_that_of_the_next_id() -> None:
    ids, mask = torch.tensor([[0, 2, 1, 0]]), torch.tensor([[True, True, True]])
    out, entropy = Scorer(bigram(), 1.0)(ids, mask)
    assert out.exp().tolist()[0] == pytest.approx([0.7, 0.9, 0.5], abs=1e-7)  # Llama's norm computes in float32
    by_hand = -(BIGRAM[[0, 2, 1]] * BIGRAM[[0, 2, 1]].log()).sum(-1).mean()
    assert float(entropy) == pytest.approx(float(by_hand), abs=1e-7)


def test_positions_outside_the_mask_are_0() -> None:
    out, _ = Scorer(bigram(), 1.0)(torch.tensor([[0, 2, 1, 0]]), torch.tensor([[False, True, False]]))
    first, second, third = out.tolist()[0]
    assert (first, third) == (0.0, 0.0)
    assert math.exp(second) == pytest.approx(0.9, abs=1e-7)


def test_temperature_divides_the_logits() -> None:
    out, _ = Scorer(bigram(), 0.5)(torch.tensor([[0, 2]]), torch.tensor([[True]]))
    assert math.exp(out.tolist()[0][0]) == pytest.approx(0.49 / (0.01 + 0.04 + 0.49), abs=1e-7)


def test_nothing_masked_gives_nothing() -> None:
    out, entropy = Scorer(bigram(), 1.0)(torch.tensor([[0, 2]]), torch.tensor([[False]]))
    assert (out.tolist(), float(entropy)) == ([[0.0]], 0.0)


def batch() -> MicroBatch:
    parts = [s for i, t in enumerate(ragged(5)) for s in segments_of(t, i)]
    return collate(parts, torch.zeros(5).double(), torch.ones(5).double())


def gradient(model: Any, ids: Tensor, mask: Tensor, row: int) -> tuple[Tensor, list[Tensor]]:
    out, _ = Scorer(model, 0.6)(ids, mask)
    trained = [p for p in model.parameters() if p.requires_grad]
    return out[row].detach(), list(torch.autograd.grad(out[row].sum(), trained))


def test_a_row_alone_equals_the_row_in_a_padded_batch() -> None:
    model, b = llama(), batch()
    lengths = [len(s.ids) for i, t in enumerate(ragged(5)) for s in segments_of(t, i)]
    assert len(set(lengths)) > 3
    for row, n in enumerate(lengths):
        together, grad = gradient(model, b.ids, b.mask, row)
        alone, lone = gradient(model, b.ids[row : row + 1, :n], b.mask[row : row + 1, : n - 1], 0)
        torch.testing.assert_close(together[: n - 1], alone, rtol=0, atol=1e-12)
        torch.testing.assert_close(grad, lone, rtol=0, atol=1e-10)


def test_neighbours_and_padding_change_nothing() -> None:
    model, b = llama(), batch()
    row = int(b.mask.sum(1).argmin())
    n = int((b.ids[row] != 0).sum())
    before, grad = gradient(model, b.ids, b.mask, row)
    poisoned = torch.full_like(b.ids, VOCAB - 1)
    poisoned[row, :n] = b.ids[row, :n]
    assert n < b.ids.shape[1]
    after, poisoned_grad = gradient(model, poisoned, b.mask, row)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-13)
    torch.testing.assert_close(grad, poisoned_grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: lora(m, trained=True)], ids=["full", "lora"])
def test_the_head_on_masked_positions_equals_the_whole_model(wrap: Any) -> None:
    model, b = wrap(llama()), batch()
    split, whole = Scorer(model, 0.7), Scorer(model, 0.7)
    whole._split = False
    out, entropy = split(b.ids, b.mask)
    assert split._split is True
    other, other_entropy = whole(b.ids, b.mask)
    torch.testing.assert_close(out, other, rtol=0, atol=1e-12)
    torch.testing.assert_close(entropy, other_entropy, rtol=0, atol=1e-12)
    logits = model(input_ids=b.ids[:, :-1]).logits / 0.7
    full = torch.log_softmax(logits, -1).gather(-1, b.ids[:, 1:, None])[..., 0]
    torch.testing.assert_close(out, torch.where(b.mask, full, 0.0), rtol=0, atol=1e-12)


def test_a_model_that_caps_its_logits_goes_whole_however_small_they_are() -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    model = Gemma2ForCausalLM(
        Gemma2Config(vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2, head_dim=8,
                     num_attention_heads=4, num_key_value_heads=2, initializer_range=1e-3, pad_token_id=0)
    ).eval()  # fmt: skip
    b, scorer = batch(), Scorer(model, 1.0)
    scorer(b.ids, b.mask)
    assert scorer._split is False
    with torch.no_grad():  # after some training the cap matters
        model.model.embed_tokens.weight.mul_(4000)
        full = torch.log_softmax(model(input_ids=b.ids[:, :-1]).logits, -1).gather(-1, b.ids[:, 1:, None])[..., 0]
    torch.testing.assert_close(scorer(b.ids, b.mask)[0], torch.where(b.mask, full, 0.0), rtol=0, atol=1e-5)


def test_equal_rows_are_computed_once_and_each_has_its_part_in_the_gradient() -> None:
    model, widths = llama(), list[int]()
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 7, 8], [9, 6, 7, 8], [5, 6, 7, 8]])
    mask = torch.tensor([[False, True, True], [False, True, True], [False, True, True], [False, False, True]])
    weight = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.double)[:, None]

    def gradients(rows: list[int]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        model.zero_grad()
        parts = [Scorer(model, 0.7)(ids[r], mask[r])[0] for r in ([rows] if rows else [[0], [1], [2], [3]])]
        logp = torch.cat(parts)
        (logp * weight).sum().backward()
        return logp.detach(), [p.grad.clone() for p in model.parameters()]

    alone, expected = gradients([])
    hook = model.get_decoder().register_forward_pre_hook(
        lambda _, args, kwargs: widths.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    together, found = gradients([0, 1, 2, 3])
    hook.remove()
    assert widths[-1] == 2  # the last row is the same ids, but asks for fewer of them
    assert torch.allclose(together, alone, atol=1e-6)
    # Llama's norms compute in single precision whatever the model's.
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(found, expected, strict=True))
    assert max(float(g.abs().max()) for g in expected) > 1.0


def test_a_row_that_another_goes_on_from_is_computed_with_it() -> None:
    model, shapes = llama(), list[tuple[int, ...]]()
    model.get_decoder().register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    ids = torch.tensor([[5, 6, 7, 0, 0], [5, 6, 7, 8, 9], [5, 6, 9, 0, 0]])
    mask = torch.tensor([[False, True, False, False], [False, False, True, True], [False, True, False, False]])
    together = Scorer(model, 0.7)(ids, mask)[0]
    assert shapes[-1] == (1, 4)  # all three ask about what stands in the second
    for row, n in enumerate((3, 5, 3)):
        alone = Scorer(model, 0.7)(ids[row : row + 1, :n], mask[row : row + 1, : n - 1])[0]
        torch.testing.assert_close(together[row, : n - 1], alone[0], rtol=0, atol=1e-12)


def test_the_entropy_is_a_mean_over_all_rows() -> None:
    ids = torch.tensor([[0, 2], [0, 2], [1, 2]])
    mask = torch.ones(3, 1, dtype=torch.bool)
    one, other = (float(Scorer(bigram(), 1.0)(ids[[i]], mask[[i]])[1]) for i in (0, 2))
    assert float(Scorer(bigram(), 1.0)(ids, mask)[1]) == pytest.approx((2 * one + other) / 3)


def test_entropies_by_token_have_a_gradient_only_if_asked_for() -> None:
    model, b = llama(), batch()
    scorer = Scorer(model, 0.6)
    logp, entropy = scorer.tokens(b.ids, b.mask)
    assert not entropy.requires_grad
    again, learned = scorer.tokens(b.ids, b.mask, learn_entropy=True)
    assert torch.equal(again, logp)
    assert torch.equal(learned, entropy)
    logits = model(input_ids=b.ids[:, :-1]).logits / 0.6
    full = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(learned, torch.where(b.mask, full, 0.0), rtol=0, atol=1e-12)
    found = torch.autograd.grad(learned.square().sum(), list(model.parameters()))
    expected = torch.autograd.grad(full[b.mask].square().sum(), list(model.parameters()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)  # Llama's norms compute in single precision
    with torch.no_grad():
        assert not scorer.tokens(b.ids, b.mask, learn_entropy=True)[1].requires_grad
