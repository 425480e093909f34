"""The parts of a causal language model, vision-language models included: decoder, head, and all that is neither."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def base_of(model: Any) -> Any:
    """The model inside a PEFT wrapper (its adapter layers are part of it), or the model itself."""
    from peft import PeftModel

    return model.get_base_model() if isinstance(model, PeftModel) else model


def with_cache(part: Any, cache: Any) -> dict[str, Any]:
    """``cache`` as an argument of ``part``, a model or decoder: ``past_key_values`` before transformers 5.24."""
    return {"cache" if "cache" in inspect.signature(part.forward).parameters else "past_key_values": cache}


def language_parameters(base: Any) -> Iterator[torch.nn.Parameter]:
    """The parameters that read and write tokens: decoder, embeddings, head; a vision tower's are not among them."""
    for part in (base.get_decoder(), base.get_input_embeddings(), base.get_output_embeddings()):
        if part is not None:
            yield from part.parameters()


def added(sees: Bool[Tensor, "*shape"], dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    """A mask in the form that attention adds: 0 for what is seen, the lowest number for what is not."""
    return torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, torch.finfo(dtype).min)


@contextmanager
def evaluating(model: Any) -> Generator[None]:
    """The model in evaluation mode, without dropout; afterwards every module is as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@torch.no_grad()
def head_reads_decoder(model: Any, probe: Int[Tensor, "1 length"]) -> bool:
    """Whether the head reads the decoder's last hidden state, and nothing scales or caps what it gives.

    For the second the head's output is replaced once by large numbers: the logits of a young model can be so small
    that a cap would not show in them.

    Args:
        model: the model.
        probe: a few ids of text.
    """
    base, seen = base_of(model), list[Tensor]()
    decoder, head = base.get_decoder(), base.get_output_embeddings()
    if decoder is base or head is None:
        return False

    def replace(_: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen.extend([inputs[0], torch.linspace(-100, 100, output.numel()).view_as(output).to(output)])
        return seen[1]

    hook = head.register_forward_hook(replace)
    try:
        with evaluating(model):
            logits = model(input_ids=probe, use_cache=False).logits
            hidden = decoder(input_ids=probe, use_cache=False).last_hidden_state
    finally:
        hook.remove()
    if len(seen) != 2 or not torch.equal(logits.to(seen[1]), seen[1]):
        return False
    return torch.allclose(hidden, seen[0], rtol=1e-3, atol=1e-5)
