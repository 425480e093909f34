import pytest
import torch
from learner_tools import llama, lora, ragged

from mmrl.training_args import TrainingArgs
from mmrl_agents.learner import Learner
from mmrl_agents.twin import learned, take_on, twin


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(2, 20)[None]).logits


@pytest.mark.parametrize("kind", ["full", "lora", "checkpointed"])
def test_a_twin_stays_as_it_is_until_it_takes_on_other_weights(kind: str) -> None:
    model = lora(llama(), trained=True) if kind == "lora" else llama()
    if kind == "checkpointed":
        model.gradient_checkpointing_enable()
    other = twin(model)
    before = logits(model)
    assert torch.equal(logits(other), before)
    Learner(model, TrainingArgs(learning_rate=0.01), 1.0, 10).update(ragged(6), [1.0, -1.0] * 3)
    assert not torch.equal(logits(model), before)
    assert torch.equal(logits(other), before)
    held = learned(model)
    take_on(other, held)
    assert torch.equal(logits(other), logits(model.eval()))
    Learner(model, TrainingArgs(learning_rate=0.01), 1.0, 10).update(ragged(6), [1.0, -1.0] * 3)
    assert not torch.equal(logits(other), logits(model.eval()))


def test_what_does_not_learn_is_shared_and_what_learns_is_copied() -> None:
    model = lora(llama(), trained=True)
    mine, theirs = dict(model.named_parameters()), dict(twin(model).named_parameters())
    assert mine.keys() == theirs.keys()
    shared = {n for n in mine if mine[n].data_ptr() == theirs[n].data_ptr()}
    assert shared == {n for n, p in mine.items() if not p.requires_grad}
    assert all(p.requires_grad for n, p in mine.items() if "lora_" in n), "the learner's own still learn"
    assert not any(p.requires_grad for p in theirs.values())
    assert learned(model).keys() == {n for n in mine if "lora_" in n}


def test_tied_weights_stay_tied() -> None:
    other = twin(llama(tie_word_embeddings=True))
    assert other.get_input_embeddings().weight is other.get_output_embeddings().weight
    weights = learned(llama(seed=1, tie_word_embeddings=True))
    take_on(other, weights)
    assert torch.equal(other.get_output_embeddings().weight, weights["model.embed_tokens.weight"])


def test_what_is_held_does_not_change_with_the_model() -> None:
    model = llama()
    held = learned(model)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    again = learned(model)
    assert all(torch.equal(again[n], t + 1.0) for n, t in held.items())
