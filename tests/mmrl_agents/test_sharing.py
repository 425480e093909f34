import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_tools import VOCAB, llama, lora, run_config
from talk_tools import CONVERSATION, ONE, TWO, WIDE, said, user
from tiny_vlm import KINDS, tiny_vlm
from torch import Tensor
from trees import TREES, answered, gradient_of, groups, numbers, precise, segment

from mmrl.report import Quiet
from mmrl.training_args import TrainingArgs
from mmrl_agents import head
from mmrl_agents.batch import MicroBatch, Segment, collate, segments_of
from mmrl_agents.image_tokens import ImageTokens
from mmrl_agents.learner import Learner
from mmrl_agents.logprobs import Scorer
from mmrl_agents.loss_type import LOSSES
from mmrl_agents.packing import rows_to_read
from mmrl_agents.packs import PLAIN, Cost, Limits, partition
from mmrl_agents.reference import adapter_off, frozen_copy
from mmrl_agents.sharing import Sharing, cost_of
from mmrl_agents.train import Grpo
from mmrl_agents.transcript import Transcript
from mmrl_agents.vision import Vision

ALL = Limits(1000, 10**6)
FREE = Cost(float("inf"))
BOTH = pytest.mark.parametrize("wrap", [lambda m: m, lambda m: lora(m, trained=True)], ids=["full", "lora"])


def batch(segments: list[Segment], scorer: Scorer, cost: Cost) -> MicroBatch:
    """One pass over all segments, packed as ``cost`` has it."""
    rows = rows_to_read([s.ids for s in segments], [s.mask[1:] for s in segments], [s.images for s in segments],
                        scorer.feed)  # fmt: skip
    packs = tuple(p.rows for p in partition(rows, cost, ALL))
    one = torch.ones(1 + max(s.trajectory for s in segments), dtype=torch.double)
    return collate(segments, one, one, torch.double, packs)


def learned(model: Any, segments: list[Segment], cost: Cost | None, vision: Vision | None = None,
            learn_entropy: bool = False) -> tuple[list[Tensor], list[Tensor]]:  # fmt: skip
    """Log-probabilities and entropies of each segment, and gradients of a mixture; None: each segment by itself."""
    scorer = Scorer(model, 0.7, vision)
    parts = [batch(segments, scorer, cost)] if cost else [batch([s], scorer, PLAIN) for s in segments]
    logp: list[Tensor] = []
    spread: list[Tensor] = []
    for b in parts:
        one, other = scorer.tokens(b.ids, b.mask, b.images, learn_entropy, b.packs)
        logp += [row[mask] for row, mask in zip(one, b.mask, strict=True)]
        spread += [row[mask] for row, mask in zip(other, b.mask, strict=True)]
    loss = sum((p * torch.linspace(-1.0, 2.0, len(p)) * (1 + n)).sum() for n, p in enumerate(logp))
    if learn_entropy:
        loss = loss + sum((1 + n) * h.square().sum() for n, h in enumerate(spread))
    return [t.detach() for t in (*logp, *spread)], gradient_of(model, loss)  # type: ignore[arg-type]


def agree(one: tuple[list[Tensor], list[Tensor]], other: tuple[list[Tensor], list[Tensor]], atol: float) -> None:
    """Log-probabilities to ``atol``, gradients to ``atol`` of the largest."""
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=atol)
    largest = max(float(g.abs().max()) for g in other[1])
    assert largest > 0.1
    torch.testing.assert_close(one[1], other[1], rtol=0, atol=atol * largest)


@BOTH
@pytest.mark.parametrize("name", TREES)
def test_a_tree_gives_what_its_rows_give_alone(name: str, wrap: Any) -> None:
    model = wrap(precise(llama()))
    agree(learned(model, TREES[name], FREE, learn_entropy=True),
          learned(model, TREES[name], None, learn_entropy=True), 1e-9)  # fmt: skip


@BOTH
@pytest.mark.parametrize("name", TREES)
def test_a_tree_gives_what_its_rows_give_alone_in_single_precision(name: str, wrap: Any) -> None:
    """Of the kind of SmolLM2: three heads that share one of keys and values, the head's weights the embedding's."""
    model = wrap(llama(dtype=torch.float32, hidden_size=48, num_attention_heads=3, num_key_value_heads=1,
                       tie_word_embeddings=True, spread=0.2))  # fmt: skip
    agree(learned(model, TREES[name], FREE), learned(model, TREES[name], None), 1e-5)


@pytest.mark.parametrize("cost", [FREE, Cost(20.0), Cost(60.0), Cost(float("inf"), widest=24), PLAIN], ids=repr)
def test_however_a_tree_is_cut_it_gives_the_same(cost: Cost) -> None:
    model, segments = precise(llama()), TREES["all together"]
    agree(learned(model, segments, cost), learned(model, segments, None), 1e-9)


def test_the_head_in_chunks_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, segments = precise(llama()), TREES["all together"]
    whole = learned(model, segments, FREE, learn_entropy=True)
    monkeypatch.setattr(head, "CHUNK_LOGITS", 5 * VOCAB)
    agree(learned(model, segments, FREE, learn_entropy=True), whole, 1e-12)


def test_the_order_of_the_rows_changes_nothing() -> None:
    model, segments = precise(llama()), TREES["deep"]
    n = len(segments)
    values, _ = learned(model, segments, FREE)
    mixed, _ = learned(model, segments[::-1], FREE)
    torch.testing.assert_close([*mixed[:n][::-1], *mixed[n:][::-1]], values, rtol=0, atol=1e-12)


def test_what_a_sibling_says_changes_nothing() -> None:
    model, segments = llama(), TREES["deep"]
    scorer = Scorer(model, 0.7)
    b = batch(segments, scorer, FREE)
    assert len(b.packs) == 1
    before = scorer(b.ids, b.mask, packs=b.packs)[0]
    for row in range(len(segments)):
        ids = b.ids.clone()
        last = len(segments[row].ids) - 4
        ids[row, last : last + 4] = torch.tensor([VOCAB - 1, 5, VOCAB - 2, 7])
        after = scorer(ids, b.mask, packs=b.packs)[0]
        others = [n for n in range(len(segments)) if n != row]
        torch.testing.assert_close(after[others], before[others], rtol=0, atol=1e-12)
        assert (after[row] - before[row]).abs().max() > 0.1


def test_a_common_answer_is_scored_once() -> None:
    """Of the head's states each stands once, and each row has its own part in the gradient."""
    model, seen = llama(), list[int]()
    model.lm_head.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    segments = TREES["inside an answer"]
    scorer = Scorer(model, 0.7)
    b = batch(segments, scorer, FREE)
    logp = scorer(b.ids, b.mask, packs=b.packs)[0]
    assert int(b.mask.sum()) == 21
    assert seen[-1] == 4 + 3 * 3 - 2  # four before the branch, which all ask about, then two a row
    parts = gradient_of(model, logp[0, 8] + logp[1, 8] + logp[2, 8])
    alone = gradient_of(model, 3 * scorer(b.ids[:1], b.mask[:1])[0][0, 8])
    torch.testing.assert_close(parts, alone, rtol=1e-5, atol=1e-6)


def talks(model: Any, processor: Any) -> tuple[Vision, list[Segment]]:
    """A group with images that branches in its first answer and again behind a second image, and rows with others."""
    vision, t = Vision(model, ImageTokens(processor)), Transcript(processor, [1])
    asked = [*CONVERSATION[:2], said("ball"), user("And here?")]
    told = ([(asked, "no"), (asked, "not one"), ([*asked, said("no"), user(TWO, "Now?")], "two"),
             ([*asked, said("no"), user(TWO, "Now?")], "one"), ([*asked, said("no"), user(WIDE, "Now?")], "one"),
             ([user("blind")], "yes"), ([user("blind")], "no"), ([user(TWO, ONE)], "no"), ([user(ONE, TWO)], "no"),
             (asked, "no")])  # fmt: skip
    made: list[Segment] = []
    for messages, answer in told:
        prompt, spoken = t.answer(messages, answer)
        images = tuple(i for m in messages for i in m.images)
        ids = (*prompt, *spoken)
        made.append(segment(ids, range(len(prompt), len(ids)), 0, images))
    return vision, made


@BOTH
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_images_are_shared_and_rows_with_others_are_not_confused(kind: str, wrap: Any) -> None:
    model, processor = tiny_vlm(kind)
    model = wrap(precise(model))
    vision, segments = talks(model, processor)
    rows = rows_to_read([s.ids for s in segments], [s.mask[1:] for s in segments], [s.images for s in segments],
                        Scorer(model, 1.0, vision).feed)  # fmt: skip
    assert sum(p.tokens for p in partition(rows, FREE, ALL)) < 0.5 * sum(len(r.ids) for r in rows)
    # The tower, whose norms stay in single precision, sees other batches; kept features keep it out of the comparison.
    agree(learned(model, segments, FREE, vision), learned(model, segments, None, vision), 1e-5)
    vision.forget()
    for p in model.parameters():
        p.requires_grad_(False)
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    for p in inner.get_decoder().parameters():
        p.requires_grad_(True)
    agree(learned(model, segments, FREE, vision), learned(model, segments, None, vision), 1e-9)


def arguments(**changes: Any) -> TrainingArgs:
    return TrainingArgs(
        **{"learning_rate": 1e-3, "max_grad_norm": 1e9, "per_device_train_batch_size": 100, "weight_decay": 0.1,
           **changes}
    )  # fmt: skip


ADVANTAGES = [1.5, -0.5, 0.3, 0.7, -1.2, 2.0, -0.1]


def step(model: Any, reference: Any = None, lines: list[str] | None = None,
         **changes: Any) -> tuple[list[Tensor], dict[str, float], int]:  # fmt: skip
    """Gradients and metrics of one update on two groups, and how many tokens the decoder computed with gradients."""
    args = arguments(**changes)
    sharing = Sharing(args.prefix_sharing, (lines if lines is not None else list[str]()).append)
    made = Learner(model, args, 0.8, 10, reference, 20, sharing=sharing)
    seen: list[list[Tensor]] = []
    tokens: list[int] = []
    made.optimizer.register_step_pre_hook(lambda *_: seen.append([p.grad.clone() for p in made.parameters]))
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner.get_decoder().register_forward_hook(
        lambda _, args, kwargs, out: tokens.append(out.last_hidden_state[..., 0].numel())
        if out.last_hidden_state.requires_grad else None, with_kwargs=True)  # fmt: skip
    metrics = made.update(groups(), ADVANTAGES)
    return seen[0], metrics, sum(tokens)


@BOTH
@pytest.mark.parametrize("loss_type", LOSSES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_update_is_the_same_with_sharing_and_without(loss_type: str, wrap: Any, checkpointing: bool) -> None:
    def made(sharing: bool, rows: int = 100) -> tuple[list[Tensor], dict[str, float], int]:
        model = wrap(precise(llama()))
        if checkpointing:
            model.gradient_checkpointing_enable()
            model.enable_input_require_grads()
        reference = adapter_off(model) if hasattr(model, "disable_adapter") else frozen_copy(precise(llama(seed=1)))
        return step(model, reference, loss_type=loss_type, kl_coef=0.1, entropy_coef=0.05, prefix_sharing=sharing,
                    per_device_train_batch_size=rows)  # fmt: skip

    plain, plain_metrics, many = made(False)
    for rows in (100, 3):
        shared, metrics, tokens = made(True, rows)
        assert tokens < 0.8 * many
        torch.testing.assert_close(shared, plain, rtol=0, atol=1e-9)
        assert metrics == pytest.approx(plain_metrics, abs=1e-9)


@BOTH
def test_the_ratio_is_exactly_1_and_kl_exactly_0_before_the_first_step(wrap: Any) -> None:
    model = wrap(llama(dtype=torch.float32))
    lines: list[str] = []
    still = {"num_iterations": 2, "learning_rate": 1e-300, "weight_decay": 0.0}
    metrics = step(model, frozen_copy(model), lines, kl_coef=0.1, **still)[1]
    assert lines[0].startswith("prefix sharing: on")
    assert (metrics["ratio_deviation"], metrics["kl"]) == (0.0, 0.0)


def test_imitation_is_the_same_with_sharing_and_without() -> None:
    segments = [s for i, t in enumerate(groups()) for s in segments_of(t, i)]
    after: list[Any] = []
    for wanted in (True, False):
        made = Learner(precise(llama()), arguments(prefix_sharing=wanted, adam_epsilon=1.0), 1.0, 10)
        losses = [made.imitate(segments)["loss"] for _ in range(2)]
        after.append((losses, [p.detach() for p in made.parameters]))
    torch.testing.assert_close(after[0], after[1], rtol=0, atol=1e-10)


def test_the_decision_is_said_once_with_what_it_saves() -> None:
    lines: list[str] = []
    model, sharing = llama(dtype=torch.float32), Sharing(True, lines.append)
    scorer, segments = Scorer(model, 1.0), TREES["a group"]
    list(sharing.passes(TREES["one row"], scorer, ALL))
    assert lines == []  # nothing to share yet
    for _ in range(2):
        ((held, packs),) = sharing.passes(segments, scorer, ALL)
        assert [held[i].ids for i in packs[0]] == sorted(s.ids for s in segments)
    (line,) = lines
    assert " is computed once, 2.2 times fewer tokens (log-probabilities with it and without " in line  # 23 of 50
    assert float(line[:-1].split()[-1]) < 1e-5


def test_where_next_to_nothing_is_spared_it_says_so() -> None:
    lines: list[str] = []
    alone = [answered([first, *numbers(first, 12)], numbers(first, 12)) for first in range(2, VOCAB)]
    pair = [answered([1, 2, 3], [4 + n, 9]) for n in range(2)]
    made = list(Sharing(True, lines.append).passes([*alone, *pair], Scorer(llama(dtype=torch.float32), 1.0), ALL))
    assert 2 in [len(p) for _, packs in made for p in packs]
    assert " is computed once, which is hardly anything here (" in lines[0]


def test_switched_off_it_is_neither_used_nor_mentioned() -> None:
    lines: list[str] = []
    for held, packs in Sharing(False, lines.append).passes(TREES["all together"], Scorer(llama(), 1.0), ALL):
        assert all(held[a].ids[: len(held[a].ids) - 1] == held[b].ids[: len(held[a].ids) - 1]
                   for pack in packs for a, b in pairwise(pack))  # fmt: skip
    assert lines == []


def mistral(window: int | None) -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MistralForCausalLM(
            MistralConfig(vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2, head_dim=8,
                          num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3, pad_token_id=0,
                          sliding_window=window)
        ).double()  # fmt: skip


def test_a_model_with_a_sliding_window_goes_the_plain_way_and_says_so() -> None:
    lines: list[str] = []
    sliding = step(mistral(6), lines=lines)
    plain = step(mistral(6), prefix_sharing=False)
    assert lines == ["prefix sharing: off: not every layer of the model attends to all earlier tokens"]
    torch.testing.assert_close(sliding[0], plain[0], rtol=0, atol=0)
    assert sliding[2] == plain[2]
    step(mistral(None), lines=lines)
    assert lines[1].startswith("prefix sharing: on")


def test_a_model_that_does_not_take_a_tree_goes_the_plain_way() -> None:
    """One that ignores the mask and one that refuses it."""

    def spoilt(change: Any) -> Any:
        model = llama()
        model.model.register_forward_pre_hook(change, with_kwargs=True)
        return model

    def deaf(_: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {n: v for n, v in kwargs.items() if n != "attention_mask"}

    def strict(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs.get("attention_mask") is not None:
            raise ValueError("attention_mask must be 2-D\nnot 4-D")

    expected = step(llama(), prefix_sharing=False)[0]
    refused = "the model cannot be shown a tree of tokens (ValueError: attention_mask must be 2-D"
    for change, words in ((deaf, "the two paths differ by "), (strict, refused)):
        lines: list[str] = []
        torch.testing.assert_close(step(spoilt(change), lines=lines)[0], expected, rtol=0, atol=0)
        (line,) = lines
        assert line.startswith(f"prefix sharing: off: {words}")
        assert "\n" not in line


def test_the_check_leaves_the_model_as_it_was() -> None:
    model = lora(llama(), dropout=0.5, trained=True).train()
    before, drawn = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    made = list(Sharing(True).passes(TREES["a group"], Scorer(model, 1.0), ALL))
    assert len(made) == 1
    assert all(m.training for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), drawn)


def test_the_cost_of_a_pack_is_that_of_the_models_sizes() -> None:
    """Two layers of q, o (32 x 32), k, v (32 x 16) and three of 32 x 64; attention: 4 * 32 operations a pair."""
    weights = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
    assert cost_of(llama()) == Cost(2 * weights / (4 * 2 * 32))
    assert cost_of(llama(tie_word_embeddings=True)) == cost_of(llama())


def test_long_answers_to_a_short_prompt_go_by_themselves() -> None:
    prompt = numbers(0, 4)
    segments = [answered(prompt, numbers(n, 200)) for n in range(1, 5)]
    (made,) = Sharing(True).passes(segments, Scorer(llama(), 1.0), ALL)
    assert [len(p) for p in made[1]] == [1, 1, 1, 1]


class Heard(Quiet):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize(("wanted", "times"), [(True, 1), (False, 0)])
def test_a_run_with_a_warm_start_says_it_once(tmp_path: Path, wanted: bool, times: int) -> None:
    plan = {"episodes": 8, "steps": 2, "batch_size": 8}
    loaded = run_config(tmp_path, environments=[{"id": "babyai/GoToObj"}], warm_start=plan,
                        training_args={"prefix_sharing": wanted, "max_steps": 2},
                        rollout={"max_turns": 4, "max_new_tokens": 4, "window": 1})  # fmt: skip
    heard = Heard()
    Grpo().train(loaded, False, heard)
    said_so = [line for line in heard.lines if line.startswith("prefix sharing")]
    assert len(said_so) == times
    assert all(line.startswith("prefix sharing: on; ") for line in said_so)


SIZES = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2}
HEADS = {**SIZES, "num_attention_heads": 4, "intermediate_size": 64, "initializer_range": 0.3}
FAMILIES: dict[str, tuple[dict[str, Any], str]] = {
    "GPT2LMHead": ({"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": None,
                    "eos_token_id": None}, "on"),
    "GPTNeoXForCausalLM": (HEADS, "on"),
    "CohereForCausalLM": ({**HEADS, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}, "on"),
    "BloomForCausalLM": ({**SIZES, "n_head": 4}, "off: the model cannot be shown a tree"),
    "MambaForCausalLM": ({**SIZES, "state_size": 8}, "off: not every layer"),
}  # fmt: skip
"""Learned, partly rotary and rotary positions; Cohere scales its logits; Bloom makes its positions of a mask."""


@pytest.mark.parametrize("name", FAMILIES)
def test_other_families_share_or_say_why_not(name: str) -> None:
    import transformers

    config, outcome = FAMILIES[name]
    kind = name.removesuffix("ForCausalLM").removesuffix("LMHead")

    def made() -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = getattr(transformers, name + ("Model" if name.endswith("Head") else ""))
            return model(getattr(transformers, f"{kind}Config")(**config)).double()

    lines: list[str] = []
    shared, plain = step(made(), lines=lines), step(made(), prefix_sharing=False)
    assert lines[0].startswith(f"prefix sharing: {outcome}")
    assert (shared[2] < 0.5 * plain[2]) is (outcome == "on")
    torch.testing.assert_close(shared[0], plain[0], rtol=0, atol=1e-7)
