import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from learner_tools import VOCAB, llama, lora, mistral

from mmrl_agents import generate
from mmrl_agents.generate import Generator, Row, Sampled, draw
from mmrl_agents.kv_cache import can_keep
from mmrl_agents.logprobs import Scorer

END = tuple(range(1, 8))  # a turn ends about every ninth id


def f32(**config: Any) -> Any:
    return llama(dtype=torch.float32, **config)


def qwen2() -> Any:
    """One layer that sees everything, one that sees the last 5."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2, initializer_range=0.3,
                    num_attention_heads=4, num_key_value_heads=2, use_sliding_window=True, sliding_window=5,
                    max_window_layers=1)
    )  # fmt: skip


def gemma3() -> Any:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    return Gemma3ForCausalLM(
        Gemma3TextConfig(vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2, head_dim=8,
                         num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3, sliding_window=5,
                         layer_types=["sliding_attention", "full_attention"], pad_token_id=0)
    )  # fmt: skip


Played = dict[tuple[int, int], tuple[Row, Sampled]]
"""By (episode, turn)."""


def play(generator: Generator, episodes: int = 7, turns: int = 4, only: int | None = None) -> Played:
    """Ragged episodes: they start together or later, end early, and are answered with 1 to 6 ids."""
    prompts = {e: tuple(2 + (7 * e * i + i) % 60 for i in range(1 + 5 * (e % 3))) for e in range(episodes)}
    prompts[1] = prompts[4]  # two episodes with one prompt
    out: Played = {}
    for n in range(turns):
        live = [e for e in range(episodes) if e // 3 <= n and not (e % 4 == 2 and n == 2) and only in (None, e)]
        rows = [Row(f"e{e}", prompts[e], (5, e, n), 3 + 2 * (e % 3)) for e in live]
        for e, row, said in zip(live, rows, generator.sample(rows) if rows else [], strict=True):
            out[e, n] = row, said
            prompts[e] = (*row.prompt, *said.ids, *(2 + (e + n + i) % 60 for i in range(1 + (e + n) % 6)))
    return out


def ids(played: Played) -> dict[tuple[int, int], tuple[int, ...]]:
    return {k: said.ids for k, (_, said) in played.items()}


def check_logprobs(model: Any, temperature: float, played: dict[Any, tuple[Row, Sampled]], tolerance: float) -> None:
    assert played
    for row, said in played.values():
        whole = torch.tensor([[*row.prompt, *said.ids]])
        mask = torch.tensor([[i >= len(row.prompt) - 1 for i in range(whole.shape[1] - 1)]])
        expected = Scorer(model.eval(), temperature)(whole, mask)[0][mask].tolist()
        assert list(said.logprobs) == pytest.approx(expected, abs=tolerance)


def check_shape(played: dict[Any, tuple[Row, Sampled]], end: tuple[int, ...] = END) -> None:
    for row, said in played.values():
        assert 1 <= len(said.ids) == len(said.logprobs) <= row.limit
        assert not set(said.ids[:-1]) & set(end)
        assert said.ended == (said.ids[-1] in end)
        assert said.ended or len(said.ids) == row.limit


@pytest.mark.parametrize("temperature", [0.6, 1.0])
@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: lora(m, trained=True)], ids=["full", "lora"])
def test_log_probabilities_are_the_learners_over_many_turns(temperature: float, wrap: Callable[[Any], Any]) -> None:
    model = wrap(f32())
    played = play(Generator(model, END, temperature))
    check_shape(played)
    check_logprobs(model, temperature, played, 1e-5)
    assert {said.ended for _, said in played.values()} == {True, False}


def test_kept_plain_and_evicted_give_the_same_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Generator(f32(), END, 1.0)
    expected = ids(play(kept))
    assert kept._keeps is True
    plain = Generator(f32(), END, 1.0)
    plain._keeps = False
    assert ids(play(plain)) == expected
    forgetful = Generator(f32(), END, 1.0)
    monkeypatch.setattr(generate, "CACHES", 0)
    assert ids(play(forgetful)) == expected
    assert forgetful._held == []


def test_the_oldest_caches_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Generator(f32(), END, 1.0)
    rows = [[Row(f"e{i}", (9, 10 + i), (1,), 2)] for i in range(3)]
    made.sample(rows[0])
    monkeypatch.setattr(generate, "CACHE_BYTES", 2 * made._held[0].nbytes)
    made.sample(rows[1])
    made.sample(rows[2])
    assert [c.names for c in made._held] == [["e1"], ["e2"]]


@pytest.mark.parametrize("only", range(7))
def test_a_row_does_not_depend_on_its_neighbours(only: int) -> None:
    together = ids(play(Generator(f32(), END, 1.0)))
    alone = ids(play(Generator(f32(), END, 1.0), only=only))
    assert alone == {k: v for k, v in together.items() if k[0] == only}


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows = [Row(f"e{i}", tuple(range(2, 4 + i)), (i,), 6) for i in range(5)]
    forward, backward = Generator(f32(), END, 1.0).sample(rows), Generator(f32(), END, 1.0).sample(rows[::-1])
    assert [s.ids for s in forward] == [s.ids for s in backward[::-1]]


def test_noise_comes_from_the_rows_seed_alone() -> None:
    rows = [Row(f"e{i}", (9, 10, 11), (i % 2,), 6) for i in range(4)]
    said = [s.ids for s in Generator(f32(), END, 1.0).sample(rows)]
    assert said[0] == said[2]
    assert said[1] == said[3]
    assert said[0] != said[1]


def widths(model: Any) -> list[tuple[int, int]]:
    """Filled with (rows, new ids) of each forward pass."""
    seen: list[tuple[int, int]] = []
    model.register_forward_pre_hook(lambda m, a, k: seen.append(tuple(k["input_ids"].shape)), with_kwargs=True)
    return seen


def test_a_shared_prompt_is_computed_once_and_a_kept_one_not_again() -> None:
    model = f32()
    made = Generator(model, (), 1.0)
    made.sample([Row("the first use, which tries the model", (9,), (0,), 1)])
    made.forget()
    seen = widths(model)
    rows = [Row(f"e{i}", (9, 10, 11, 12) if i < 3 else (5, 6), (i,), 2) for i in range(4)]
    first = made.sample(rows)
    assert seen == [(1, 6), (1, 4)]  # packed: two prompts, then a token of each
    seen.clear()
    made.sample([Row(r.episode, (*r.prompt, *s.ids, 20), (9,), 2) for r, s in zip(rows, first, strict=True)])
    assert seen == [(1, 8), (1, 4)]  # the last sampled id and the new one


def test_forget_drops_what_is_kept() -> None:
    model = f32()
    made = Generator(model, (), 1.0)
    made.sample([Row("e", (9, 10, 11), (0,), 2)])
    assert [c.names for c in made._held] == [["e"]]
    made.forget()
    seen = widths(model)
    made.sample([Row("e", (9, 10, 11, 12, 13), (0,), 1)])
    assert seen == [(1, 5)]


def test_a_prompt_that_goes_another_way_keeps_what_it_begins_with() -> None:
    """As under a window: the system's words stay, the turns after them move on."""
    model = f32()
    made = Generator(model, (), 1.0)
    rows = [Row(f"e{i}", (9, 10, 11, 12 + i), (i,), 3) for i in range(2)]
    made.sample(rows)
    seen = widths(model)
    more = [Row("e0", (9, 10, 11, 20, 21), (5,), 2), Row("e1", (9, 10), (6,), 2)]
    played = dict(enumerate(zip(more, made.sample(more), strict=True)))
    assert seen == [(1, 2 + 1), (1, 2)]  # 20 and 21 of the first, 10 of the second
    assert played[0][1].ids == Generator(model, (), 1.0).sample(more)[0].ids
    check_logprobs(model, 1.0, played, 1e-5)


@pytest.mark.parametrize(
    ("prompt", "same"),
    [((1, 2, 3, 4), 3), ((1, 2, 3), 2), ((1, 2), 1), ((1,), 0), ((1, 9, 9, 9), 1), ((1, 9, 9, 9, 9), 0), ((9, 1), 0)],
)
def test_what_a_prompt_shares_with_what_is_held(prompt: tuple[int, ...], same: int) -> None:
    assert Row("e", prompt, (0,), 1).shared([1, 2, 3], ()) == same


def test_another_prompt_under_a_kept_name_takes_its_place() -> None:
    model = f32()
    made = Generator(model, END, 1.0)
    for prompt in ((9, 10, 11), (9, 12, 13, 14, 15, 16), (9, 10, 11, 20)):
        row = Row("e", prompt, (3,), 4)
        check_logprobs(model, 1.0, {0: (row, made.sample([row])[0])}, 1e-5)
        assert [c.names for c in made._held] == [["e"]]  # what was kept for the prompt before is gone


@pytest.mark.parametrize("make", [mistral, qwen2, gemma3])
@pytest.mark.parametrize("temperature", [0.6, 1.0])
def test_models_with_sliding_windows_are_sampled_plainly(make: Callable[[], Any], temperature: float) -> None:
    model = make()
    assert can_keep(model) is False
    played = play(Generator(model, END, temperature))
    check_shape(played)
    check_logprobs(model, temperature, played, 2e-5)
    assert max(len(row.prompt) for row, _ in played.values()) > 20  # longer than the windows


def test_bfloat16_runs() -> None:
    model = llama(dtype=torch.bfloat16, spread=0.1)
    played = play(Generator(model, END, 1.0))
    check_shape(played)
    check_logprobs(model, 1.0, played, 0.1)


def test_training_mode_is_off_while_sampling_and_restored() -> None:
    model = f32(attention_dropout=0.5)
    row = Row("e", tuple(range(2, 20)), (0,), 4)
    model.train()
    said = Generator(model, END, 1.0).sample([row])[0]
    assert model.training is True
    check_logprobs(model, 1.0, {0: (row, said)}, 1e-5)


PROBS = torch.tensor([[0.0, 0.25, 0.0, 0.5, 0.25, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("noise", "chosen"),
    [(0.0, 1), (0.2499999, 1), (0.25, 3), (0.5, 3), (0.7499999, 3), (0.7500001, 4), (0.999999999999, 4),
     (1 - 2**-53, 4)],
)  # fmt: skip
def test_draw_inverts_the_distribution(noise: float, chosen: int) -> None:
    drawn, logprobs = draw(PROBS.log(), torch.tensor([noise], dtype=torch.float64), 1.0)
    assert drawn.tolist() == [chosen]
    assert logprobs.tolist() == pytest.approx([math.log(PROBS[0, chosen])], abs=1e-6)


def test_draw_never_takes_an_id_of_probability_0() -> None:
    noise = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    drawn, _ = draw(PROBS.log().expand(len(noise), 6), noise, 1.0)
    assert drawn.bincount(minlength=6).tolist() == [0, 2500, 0, 5000, 2500, 0]


def test_draw_applies_the_temperature() -> None:
    logits = torch.tensor([[0.0, math.log(2.0)]])
    drawn, logprobs = draw(logits.expand(2, 2), torch.tensor([0.19, 0.21], dtype=torch.float64), 0.5)
    assert drawn.tolist() == [0, 1]
    assert logprobs.tolist() == pytest.approx([math.log(0.2), math.log(0.8)], abs=1e-6)


def test_draw_at_temperature_0_takes_the_likeliest() -> None:
    drawn, logprobs = draw(PROBS.log(), torch.tensor([0.0], dtype=torch.float64), 0.0)
    assert (drawn.tolist(), logprobs.tolist()) == ([3], [0.0])


def test_noise_just_below_1_stays_below_1() -> None:
    """2**-53 below 1 is 1 in float32, and would be past the end of the distribution."""
    model = f32()
    with torch.no_grad():
        model.lm_head.weight[-1].zero_()
        model.lm_head.bias = torch.nn.Parameter(torch.zeros(VOCAB))
        model.lm_head.bias[-1] = -1e9  # the last id has probability 0
    answer = generate._Answer(Row("e", (5,), (0,), 1))
    answer.noise = [1 - 2**-53]
    made = Generator(model, (), 1.0)
    made._draw(model(input_ids=torch.tensor([[5]])).logits[:, -1].detach(), [answer], [0])
    assert answer.ids[0] != VOCAB - 1
    assert math.isfinite(answer.logprobs[0])
