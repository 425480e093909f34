import itertools
from typing import Any

import pytest
import torch
from learner_tools import VOCAB, llama, lora, ragged
from tiny_vlm import tiny_vlm
from torch import Tensor

from mmrl.errors import BadInput
from mmrl_agents.batch import collate, segments_of, token_counts
from mmrl_agents.critic import Critic, ValueRows, ValueTargets, value_loss, value_metrics
from mmrl_agents.foresight import Foresight
from mmrl_agents.logprobs import Scorer
from mmrl_agents.normaliser import constant, per_token, per_trajectory

LENGTHS, SEQ = (4, 1, 3), 4


def skilled(model: Any) -> Critic:
    """A critic that says something."""
    critic = Critic.of(model)
    with torch.no_grad():
        critic.weight.copy_(torch.linspace(-1, 1, len(critic.weight)))
        critic.bias.fill_(0.25)
    return critic


def test_it_expects_nothing_at_first_and_draws_no_random_numbers() -> None:
    torch.manual_seed(3)
    critic = Critic.of(llama())
    noise = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(noise, torch.rand(2))
    assert critic(torch.randn(5, 32).double()).tolist() == [0.0] * 5


@pytest.mark.parametrize(("dtype", "kind"), [
    (torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64),
])  # fmt: skip
def test_its_weights_are_float32_at_least(dtype: torch.dtype, kind: torch.dtype) -> None:
    critic = Critic.of(llama(dtype=dtype))
    assert {p.dtype for p in critic.parameters()} == {kind}
    assert critic(torch.ones(2, 32, dtype=dtype)).dtype == kind


def batch() -> Any:
    segments = [s for i, t in enumerate(ragged(5)) for s in segments_of(t, i)]
    return collate([*segments, segments[0]], torch.zeros(5).double(), token_counts(segments, 5).double())


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: lora(m, trained=True)], ids=["full", "lora"])
def test_one_pass_gives_log_probabilities_and_values_of_the_hidden_state_before_each_token(wrap: Any) -> None:
    model, b = wrap(llama()), batch()
    critic, scorer = skilled(model), Scorer(model, 0.7)
    calls: list[int] = []
    hook = model.get_base_model() if hasattr(model, "get_base_model") else model
    handle = hook.get_decoder().register_forward_pre_hook(lambda *_: calls.append(1))
    scorer(b.ids, b.mask)  # finds out how the head reads
    calls.clear()
    logp, entropy, values = scorer.with_values(b.ids, b.mask, (), critic)
    assert calls == [1]
    handle.remove()
    plain, spread = scorer.tokens(b.ids, b.mask)
    assert torch.equal(logp, plain)
    assert torch.equal(entropy, spread)
    hidden = model(input_ids=b.ids[:, :-1], output_hidden_states=True).hidden_states[-1]
    expected = torch.where(b.mask, hidden @ critic.weight + critic.bias, 0.0)
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-6)  # Llama's norms compute in single precision
    assert float(values.detach()[b.mask].std()) > 0.1
    assert torch.equal(values[-1], values[0])  # the same row once more


def test_values_of_a_row_alone_equal_those_in_a_padded_batch() -> None:
    model, b = llama(), batch()
    critic, scorer = skilled(model), Scorer(model, 0.7)
    together = scorer.with_values(b.ids, b.mask, (), critic)[2]
    for row in range(len(b.ids)):
        n = int((b.ids[row] != 0).sum())
        alone = scorer.with_values(b.ids[[row], :n], b.mask[[row], : n - 1], (), critic)[2]
        torch.testing.assert_close(together[row, : n - 1], alone[0], rtol=0, atol=1e-12)


def test_a_model_whose_head_reads_something_else_is_bad_input() -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    model = Gemma2ForCausalLM(
        Gemma2Config(vocab_size=VOCAB, hidden_size=32, intermediate_size=64, num_hidden_layers=2, head_dim=8,
                     num_attention_heads=4, num_key_value_heads=2, pad_token_id=0)
    ).eval()  # fmt: skip
    with pytest.raises(BadInput, match=r"^run\.yaml:3: a critic reads .* model type 'gemma2' makes .* such as grpo$"):
        Critic.of(model, where="run.yaml:3")


def test_a_vision_language_model_has_the_width_of_its_decoder() -> None:
    model, _ = tiny_vlm("llava")
    critic = Critic.of(model, sees=True)
    hidden = model.get_decoder()(input_ids=torch.tensor([[5, 6, 7]])).last_hidden_state
    assert critic(hidden[0]).shape == (3,)


def draw(seed: int = 0) -> tuple[Tensor, ValueTargets]:
    """Values on both sides of the clip, on both sides of the returns."""
    g = torch.Generator().manual_seed(seed)
    values, returns, old = torch.randn((3, 3, SEQ), generator=g, dtype=torch.float64)
    mask = torch.tensor([[t < n for t in range(SEQ)] for n in LENGTHS])
    weight = torch.rand((3, SEQ), generator=g, dtype=torch.float64)
    return values, ValueTargets(returns, old, weight, mask)


def oracle(values: Tensor, targets: ValueTargets, clip: float | None) -> float:
    total = 0.0
    for i, n in enumerate(LENGTHS):
        for t in range(n):
            v, r, old, w = (float(x[i, t]) for x in (values, targets.returns, targets.old, targets.weight))
            near = v if clip is None else min(max(v, old - clip), old + clip)
            total += w * max((v - r) ** 2, (near - r) ** 2) / 2
    return total


def ours(values: Tensor, targets: ValueTargets, clip: float | None) -> tuple[Tensor, Tensor]:
    v = values.clone().requires_grad_()
    loss = value_loss(v, targets, clip)
    return loss.detach(), torch.autograd.grad(loss, v)[0]


@pytest.mark.parametrize("clip", [None, 0.3, 1.0])
def test_value_and_gradient_equal_the_formula(clip: float | None) -> None:
    values, targets = draw()
    loss, grad = ours(values, targets, clip)
    assert float(loss) == pytest.approx(oracle(values, targets, clip), abs=1e-14)
    for i, t in itertools.product(range(3), range(SEQ)):
        step = torch.zeros((3, SEQ), dtype=torch.float64)
        step[i, t] = 1e-6
        slope = (oracle(values + step, targets, clip) - oracle(values - step, targets, clip)) / 2e-6
        assert float(grad[i, t]) == pytest.approx(slope, abs=1e-8)


def test_some_values_are_held_by_the_clip_and_some_are_not() -> None:
    values, targets = draw()
    free, held = ours(values, targets, None)[1], ours(values, targets, 0.3)[1]
    assert 0 < int((held != free).sum()) < int(targets.mask.sum())
    assert ours(values, targets, 100.0)[0] == ours(values, targets, None)[0]


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -1e30])
@pytest.mark.parametrize("clip", [None, 0.3])
def test_what_stands_outside_the_mask_changes_nothing(garbage: float, clip: float | None) -> None:
    values, t = draw()
    dirty = ValueTargets(*(torch.where(t.mask, x, garbage) for x in (t.returns, t.old, t.weight)), t.mask)
    before, after = ours(values, t, clip), ours(torch.where(t.mask, values, garbage), dirty, clip)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


def test_rows_apart_add_up_to_rows_together() -> None:
    values, t = draw()
    whole, grad = ours(values, t, 0.3)
    parts = [
        ours(values[[i], :n], ValueTargets(*(x[[i], :n] for x in (t.returns, t.old, t.weight, t.mask))), 0.3)
        for i, n in enumerate(LENGTHS)
    ]
    torch.testing.assert_close(sum(v for v, _ in parts), whole, rtol=0, atol=1e-14)
    for i, (_, part) in enumerate(parts):
        torch.testing.assert_close(grad[i, : LENGTHS[i]], part[0], rtol=0, atol=1e-14)


RETURNS = [[1.0, None, 3.0], [5.0]]
SEEN = [Foresight((), (0.5, 0.25, 2.0)), Foresight((), (4.0,))]


@pytest.mark.parametrize(("normaliser", "weights"), [
    (per_token, [1 / 3, 1 / 3]), (per_trajectory, [1 / 4, 1 / 2]), (constant, [1 / 20, 1 / 20]),
])  # fmt: skip
def test_the_normaliser_counts_the_values_that_are_asked_for(normaliser: Any, weights: list[float]) -> None:
    rows = ValueRows.of(RETURNS, SEEN, normaliser, 10)
    assert rows.weight.tolist() == pytest.approx(weights, abs=1e-15)
    assert rows.old == [(0.5, 0.25, 2.0), (4.0,)]


def test_targets_in_the_places_of_a_batch() -> None:
    trajectories = ragged(3)
    segments = [s for i, t in enumerate(trajectories) for s in segments_of(t, i)]
    counts = token_counts(segments, 3).tolist()
    returns = [[None if k % 2 else float(10 * i + k) for k in range(n)] for i, n in enumerate(counts)]
    seen = [Foresight((), tuple(-float(10 * i + k) for k in range(n))) for i, n in enumerate(counts)]
    b = collate(segments, torch.zeros(3), torch.zeros(3))
    targets = ValueRows.of(returns, seen, per_trajectory, 10).at(segments, b, torch.float64)
    assert bool((targets.mask <= b.mask).all())
    for i, row in enumerate(returns):
        asked = [r for r in row if r is not None]
        assert targets.returns[i][targets.mask[i]].tolist() == asked
        assert targets.old[i][targets.mask[i]].tolist() == [-r for r in asked]
        assert targets.weight[i][targets.mask[i]].tolist() == pytest.approx([1 / (3 * len(asked))] * len(asked))


def test_metrics_by_hand() -> None:
    mask = torch.tensor([[True, True, False]])
    returns, nan = torch.tensor([[1.0, 3.0, float("nan")]]), torch.full((1, 3), float("nan"))

    def told(old: list[float]) -> dict[str, float]:
        said = torch.tensor([[*old, float("nan")]])
        return value_metrics([ValueTargets(returns, said, nan, mask)])

    assert told([1.0, 3.0]) == {"value": 2.0, "explained_variance": 1.0}
    assert told([7.0, 7.0]) == {"value": 7.0, "explained_variance": 0.0}
    assert told([3.0, 1.0]) == {"value": 2.0, "explained_variance": -3.0}
    flat = ValueTargets(torch.ones(1, 3), torch.zeros(1, 3), nan, mask)
    assert value_metrics([flat]) == {"value": 0.0, "explained_variance": 0.0}
    both = value_metrics([ValueTargets(returns, returns, nan, mask), flat])  # returns 1, 3, 1, 1 and 1, 3, 0, 0 said
    assert both == pytest.approx({"value": 1.0, "explained_variance": 1 - 0.25 / 0.75})
    assert value_metrics([]) == {}
