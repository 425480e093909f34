from __future__ import annotations

from typing import Any

import pytest
import torch
from learner_tools import llama, ragged

from mmrl.training_args import TrainingArgs
from mmrl_agents.batch import segments_of
from mmrl_agents.feed import Feed
from mmrl_agents.logprobs import Scorer
from mmrl_agents.packs import Limits
from mmrl_agents.passes import passes_of
from mmrl_agents.sharing import Sharing


@pytest.mark.parametrize("args", [
    {},
    {"per_device_train_batch_size": 2},
    {"max_tokens_per_micro_batch": 30},
    {"prefix_sharing": False},
    {"prefix_sharing": False, "max_tokens_per_micro_batch": 40},
])  # fmt: skip
def test_the_passes_are_those_of_the_learner(args: dict[str, Any]) -> None:
    model, said = llama(), TrainingArgs(**args)
    segments = [s for i, t in enumerate([*ragged(6), *ragged(6)]) for s in segments_of(t, i)]
    scorer = Scorer(model, 1.0)
    limits = Limits(said.per_device_train_batch_size, said.max_tokens_per_micro_batch)
    real = list(Sharing(said.prefix_sharing).passes(segments, scorer, limits))
    seen: list[tuple[int, int, int, bool]] = []

    def note(module: Any, inputs: Any, kwargs: dict[str, Any]) -> None:
        packs, slots = kwargs["input_ids"].shape
        seen.append((packs, slots, packs * slots, "attention_mask" in kwargs))

    hook = model.get_decoder().register_forward_pre_hook(note, with_kwargs=True)
    for chunk, packs in real:
        width = max(len(s.ids) for s in chunk)
        ids = torch.tensor([[*s.ids, *[0] * (width - len(s.ids))] for s in chunk])
        mask = torch.tensor([[*s.mask[1:], *[False] * (width - len(s.ids))] for s in chunk])
        with torch.no_grad():
            scorer._split = True  # else it looks first, and is seen here
            scorer(ids, mask, (), packs)
    hook.remove()

    found = passes_of(segments, model, said, Feed())
    assert found.count == len(real) == len(seen)
    largest = found.largest[0]
    assert largest.tokens == max(tokens for _, _, tokens, _ in seen)
    assert (largest.packs, largest.slots, largest.tokens, largest.branches) in seen
    assert largest.states <= largest.asked <= sum(s.sampled for s in segments)


def test_equal_answers_are_asked_once() -> None:
    segments = [s for t in ragged(1) * 4 for s in segments_of(t, 0)]
    (one,) = passes_of(segments, llama(), TrainingArgs(), Feed()).largest
    assert (one.packs, one.branches) == (1, False)
    assert one.states == one.asked == segments[0].sampled
    assert one.slots == max(i for i, m in enumerate(segments[0].mask) if m)
