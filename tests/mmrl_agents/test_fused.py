from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from mmrl_agents.fused import fused
from mmrl_agents.tally import Tally


def kept_and_peak(device: str, mask: str) -> tuple[int, int]:
    """Bytes held after a forward pass, and at most in it and the backward pass."""
    query = torch.zeros(2, 4, 96, 16, device=device, requires_grad=True)
    key = torch.zeros(2, 4, 96, 16, device=device)
    masks = {"none": None, "bool": torch.ones(2, 1, 96, 96, dtype=torch.bool, device=device),
             "float": torch.zeros(2, 1, 96, 96, device=device)}  # fmt: skip
    with fused(), Tally([query, key, *(m for m in masks.values() if m is not None)]) as tally:
        out = functional.scaled_dot_product_attention(query, key, key, attn_mask=masks[mask], is_causal=mask == "none")
        kept = tally.now
        out.sum().backward()
    return kept, tally.peak


@pytest.mark.parametrize("mask", ["none", "bool", "float"])
def test_attention_without_values_keeps_what_it_keeps_with_them(mask: str) -> None:
    assert kept_and_peak("meta", mask) == kept_and_peak("cpu", mask)


def test_no_weight_is_kept_for_every_pair_of_tokens() -> None:
    assert kept_and_peak("meta", "none")[0] < 2 * 4 * 96 * 96 * 4


def test_what_is_computed_again_is_run_in_the_same_way() -> None:
    query = torch.zeros(2, 4, 512, 16, device="meta", requires_grad=True)
    weights = 2 * 4 * 512 * 512 * 4
    with fused(), Tally([query]) as tally:
        out: torch.Tensor = checkpoint(lambda q: functional.scaled_dot_product_attention(q * 2, q, q), query,
                                       use_reentrant=False)  # fmt: skip
        out.sum().backward()
    assert query.grad is not None
    assert tally.peak < weights
