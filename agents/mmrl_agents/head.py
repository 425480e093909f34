"""The language-model head and the log-softmax, on some of the tokens at a time.

Logits are the largest tensor of an update: tokens x vocabulary.  In chunks only one chunk's exist at a time; where a
gradient is wanted they are computed once more in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK_LOGITS = 2**27
"""Logits of one chunk: 2730 tokens with a vocabulary of 49152."""

Head = Callable[[Float[Tensor, "tokens hidden"]], Float[Tensor, "tokens vocab"]]


def log_probabilities(hidden: Float[Tensor, "tokens hidden"], of: Int[Tensor, " asked"], ids: Int[Tensor, " asked"],
                      head: Head, vocabulary: int, learn_entropy: bool = False) -> tuple[
                          Float[Tensor, " asked"], Float[Tensor, " tokens"]]:
    """``log softmax(head(hidden))[of, ids]``, and the entropy of each distribution.

    Args:
        hidden: a state for each distribution.
        of: which distribution each asked id is of; ascending.
        ids: what is asked; no pair (of, id) twice.
        head: from states to scaled logits.
        vocabulary: how many logits it gives a token.
        learn_entropy: give the entropies a gradient.
    """

    def part(states: Tensor, of: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        logprobs = torch.log_softmax(head(states), dim=-1)
        with torch.set_grad_enabled(learn_entropy and torch.is_grad_enabled()):
            entropy = -(logprobs.exp() * logprobs).sum(-1)
        return logprobs[of, ids], entropy

    size = max(1, CHUNK_LOGITS // vocabulary)
    if len(hidden) <= size:
        return part(hidden, of, ids)
    starts = range(0, len(hidden), size)
    cuts: Sequence[int] = [*torch.searchsorted(of, torch.tensor(list(starts)).to(of)).tolist(), len(of)]
    found: list[tuple[Tensor, Tensor]] = []
    for start, low, high in zip(starts, cuts, cuts[1:], strict=False):
        inputs = hidden[start : start + size], of[low:high] - start, ids[low:high]
        found.append(checkpoint(part, *inputs, use_reentrant=False) if torch.is_grad_enabled() else part(*inputs))
    chosen, entropies = zip(*found, strict=True)
    return torch.cat(chosen), torch.cat(entropies)
