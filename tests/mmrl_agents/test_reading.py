import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from learner_tools import VOCAB, falcon, llama, lora

from mmrl_agents.feed import Feed
from mmrl_agents.generate import Generator, Row
from mmrl_agents.kv_cache import RaggedCache
from mmrl_agents.reading import packed, padded, way_to_read

TURNS: Sequence[Sequence[Sequence[int]]] = (
    [[3], list(range(2, 60)), [5, 6], [9] * 7],
    [[7], [8], [9], [10]],
    [[], [11, 12, 13], [], [14]],
    [[15, 16], [], [17], [18, 19]],
)
"""New ids of four rows, time after time."""
WAYS = {"padded": padded, "packed": packed}


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=128,
                                      initializer_range=0.3)).double().eval()  # fmt: skip


@torch.no_grad()
def alone(model: Any, ids: Sequence[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([ids])).logits[0, -1]


MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: llama().eval(), "one head a key": lambda: llama(num_key_value_heads=4).eval(),
    "lora": lambda: lora(llama(), trained=True).eval(), "gpt2": gpt2,
}  # fmt: skip


@pytest.mark.parametrize("make", MODELS.values(), ids=list(MODELS))
@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@torch.no_grad()
def test_logits_are_those_of_each_row_alone(make: Callable[[], Any], way: Any) -> None:
    model, cache = make(), RaggedCache.empty([None] * 4, 2)
    for new in TURNS:
        logits = way(cache, model, new, Feed(), ())
        assert logits.shape == (4, VOCAB)
        for row, more in enumerate(new):
            if more:
                torch.testing.assert_close(logits[row], alone(model, cache.ids[row]))
    assert [len(held) for held in cache.ids] == cache.places == [4, 62, 4, 11]


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@torch.no_grad()
def test_rows_taken_and_joined_go_on_as_before(way: Any) -> None:
    from mmrl_agents.kv_cache import merge

    model = llama().eval()
    one, other = RaggedCache.empty(["a", "b"], 2), RaggedCache.empty(["c"], 2)
    way(one, model, [[3, 4, 5], [6]], Feed(), ())
    way(other, model, [list(range(2, 40))], Feed(), ())
    both = merge([one.select([1, 0, 0]), other])
    assert (both.names, both.places) == (["b", "a", "a", "c"], [1, 3, 3, 38])
    logits = way(both, model, [[7, 8], [9], [10], []], Feed(), ())
    for row, ids in enumerate(([6, 7, 8], [3, 4, 5, 9], [3, 4, 5, 10])):
        assert both.ids[row] == ids
        torch.testing.assert_close(logits[row], alone(model, ids))
    assert one.ids == [[3, 4, 5], [6]]  # what was taken is a copy


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@torch.no_grad()
def test_rows_that_share_a_prompt_go_on_as_if_each_had_its_own(way: Any) -> None:
    model, prompts = llama().eval(), RaggedCache.empty([None] * 2, 2)
    way(prompts, model, [[3, 4, 5], list(range(2, 40))], Feed(), ())
    cache = prompts.fan_out([0, 0, 1, 1], list("abcd"))
    for new in ([[6], [7], [8], [9]], [[], [10, 11], [12], []]):
        logits = way(cache, model, new, Feed(), ())
        for row, more in enumerate(new):
            if more:
                torch.testing.assert_close(logits[row], alone(model, cache.ids[row]))
    assert (cache.prompts is prompts) == (way is packed)  # padded, every row needs its own
    assert [len(ids) for ids in prompts.ids] == [3, 38]
    cache.gather()
    assert cache.prompts is None
    cache.cut(1, 4)
    logits = way(cache, model, [[13], [14], [], [15]], Feed(), ())
    for row, ids in enumerate(([3, 4, 5, 6, 13], [3, 4, 5, 7, 14], None, [*range(2, 40), 9, 15])):
        if ids is not None:
            assert cache.ids[row] == ids
            torch.testing.assert_close(logits[row], alone(model, ids))


@pytest.mark.parametrize("make", MODELS.values(), ids=list(MODELS))
def test_models_that_can_be_read_packed_are(make: Callable[[], Any]) -> None:
    assert way_to_read(make(), Feed(), torch.float64) == ("packed", "")


def test_autocast_is_read_packed() -> None:
    model = llama(dtype=torch.float32, spread=0.1).eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert way_to_read(model, Feed(), torch.bfloat16) == ("packed", "")


@pytest.mark.parametrize("alibi", [False, True])
def test_a_model_that_cannot_be_read_packed_or_padded_is_not(alibi: bool) -> None:
    model = falcon(alibi)
    way, why = way_to_read(model, Feed(), torch.float32)
    assert way == (None if alibi else "padded")
    assert why.startswith("packed: ")
    assert ("; padded: " in why) == alibi
    rows = [Row(f"e{i}", tuple(range(2, 4 + 3 * i)), (i,), 5) for i in range(3)]
    made, plain = Generator(model, (), 1.0), Generator(model, (), 1.0)
    plain._keeps = False
    first = made.sample(rows)
    more = [Row(r.episode, (*r.prompt, *s.ids, 20), (9,), 4) for r, s in zip(rows, first, strict=True)]
    again = made.sample(more)
    assert made._keeps is not alibi
    assert [s.ids for s in plain.sample(rows)] == [s.ids for s in first]
    assert [s.ids for s in plain.sample(more)] == [s.ids for s in again]


def test_two_threads_that_sample_with_one_model_wait_for_each_other() -> None:
    model, together = llama().eval(), threading.Barrier(2)

    def said(first: int) -> list[tuple[int, ...]]:
        made = Generator(model, (), 1.0)
        together.wait(30)
        return [
            s.ids for n in range(20) for s in made.sample([Row(f"{n}", tuple(range(first, first + 9)), (n, first), 4)])
        ]

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(said, (2, 20)))
    assert model.config._attn_implementation == "sdpa"
    together = threading.Barrier(1)
    assert found == [said(2), said(20)]


@torch.no_grad()
def test_attention_that_knows_no_mask_for_every_token_is_not_given_one() -> None:
    model, cache = llama().eval(), RaggedCache.empty([None] * 4, 2)
    expected = [alone(model, ids) for ids in TURNS[0]]
    model.set_attn_implementation("flex_attention")
    logits = padded(cache, model, TURNS[0], Feed(), ())
    assert model.config._attn_implementation == "flex_attention"
    torch.testing.assert_close(logits, torch.stack(expected))


@pytest.mark.parametrize("spread", [0.3, 0.005])
def test_a_way_whose_logits_are_others_is_not_taken(spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmrl_agents import reading

    def off(*args: Any) -> torch.Tensor:
        return packed(*args) * 1.01

    monkeypatch.setitem(reading.WAYS, "packed", off)
    way, why = way_to_read(llama(spread=spread).eval(), Feed(), torch.float64)
    assert way == "padded"
    assert why.startswith("packed: a logit differs by ")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@torch.no_grad()
def test_a_short_prompt_beside_a_long_one_stays_finite(dtype: torch.dtype, attention: str, way: Any) -> None:
    model = llama(dtype=dtype).eval()
    model.set_attn_implementation(attention)
    cache = RaggedCache.empty(["short", "long"], 2)
    for new in ([[3], list(range(2, 60))], [[], [4]]):
        logits = way(cache, model, new, Feed(), ())
        assert torch.isfinite(logits).all()
    for layer in cache.layers:
        assert layer.keys is not None
        assert layer.values is not None
        assert torch.isfinite(layer.keys).all()
        assert torch.isfinite(layer.values).all()


@pytest.mark.parametrize(("make", "said"), [
    (llama, "sampling: the new tokens of all rows are read in one line; agrees with each alone"),
    (lambda: falcon(False), "sampling: rows are read beside each other, padded (packed: "),
    (lambda: falcon(True), "sampling: every prompt is read anew in every turn (packed: "),
], ids=["packed", "padded", "anew"])  # fmt: skip
def test_how_a_model_is_sampled_is_said_once(make: Callable[[], Any], said: str) -> None:
    lines: list[str] = []
    made = Generator(make().eval(), (), 1.0, say=lines.append)
    for seed in (1, 2):
        made.sample([Row("e", (3, 4, 5), (seed,), 2)])
    assert [line[: len(said)] for line in lines] == [said]
