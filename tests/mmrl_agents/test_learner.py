import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_tools import llama, lora, ragged, scored, trajectory, turn
from tiny_model import save_tiny_model
from torch import Tensor
from update_tools import ADVANTAGES, arguments, gradients, learner, same, weights

from mmrl.training_args import LoraArgs
from mmrl_agents.batch import MicroBatch, collate, segments_of, token_counts
from mmrl_agents.correction import CORRECTIONS
from mmrl_agents.learner import Learner
from mmrl_agents.logprobs import Scorer
from mmrl_agents.loss_type import LOSSES
from mmrl_agents.models import find_model
from mmrl_agents.normaliser import constant, per_token, per_trajectory
from mmrl_agents.reference import frozen_copy
from mmrl_agents.run import build_model

ALONE = {"kl_coef": 0.0}, {"kl_coef": 0.2}, {"entropy_coef": 0.1}
BATCHES = ((100, 10**6), (1, 10**6), (3, 10**6), (100, 40))


@pytest.mark.parametrize("loss_type", LOSSES)
@pytest.mark.parametrize(
    "changes", [*ALONE, *({"importance_correction": c} for c in CORRECTIONS if c != "token")], ids=str
)
def test_accumulation_does_not_change_the_gradient(loss_type: str, changes: dict[str, Any]) -> None:
    results = []
    for rows, tokens in BATCHES:
        model = llama()
        reference = frozen_copy(llama(seed=1)) if changes.get("kl_coef") else None
        made = learner(model, reference, loss_type=loss_type, per_device_train_batch_size=rows,
                       max_tokens_per_micro_batch=tokens, **changes)  # fmt: skip
        seen = gradients(made)
        metrics = made.update(ragged(7), ADVANTAGES)
        assert metrics["update/not_finite"] == 0.0
        results.append((seen[0], metrics))
    whole, whole_metrics = results[0]
    assert max(float(g.abs().max()) for g in whole) > 1e-3
    for split, metrics in results[1:]:
        torch.testing.assert_close(split, whole, rtol=0, atol=1e-10)
        for key in ("loss", "kl", "clip_share", "mismatch_kl", "effective_sample", "dropped_share", "entropy",
                    "tokens"):  # fmt: skip
            assert metrics[key] == pytest.approx(whole_metrics[key], abs=1e-10), key


@pytest.mark.parametrize("loss_type", LOSSES)
def test_accumulation_does_not_change_the_gradient_off_policy(loss_type: str) -> None:
    """The second of two optimiser steps: ratios away from 1, some of them clipped."""
    seen, share = [], 0.0
    for rows, tokens in BATCHES:
        made = learner(llama(), loss_type=loss_type, per_device_train_batch_size=rows, num_iterations=2,
                       max_tokens_per_micro_batch=tokens, learning_rate=0.01, adam_epsilon=1e-2)  # fmt: skip
        grads = gradients(made)
        share = made.update(ragged(7), ADVANTAGES)["clip_share"]
        seen.append(grads[1])
    assert share > 0
    for split in seen[1:]:
        torch.testing.assert_close(split, seen[0], rtol=0, atol=1e-10)


def test_accumulation_does_not_change_the_imitation_gradient() -> None:
    segments = [s for i, t in enumerate(ragged(7)) for s in segments_of(t, i)]
    grads = []
    for rows in (100, 1, 3):
        made = learner(llama(), per_device_train_batch_size=rows)
        seen = gradients(made)
        made.imitate(segments)
        grads.append(seen[0])
    for split in grads[1:]:
        torch.testing.assert_close(split, grads[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("loss_type", LOSSES)
def test_gradient_is_the_policy_gradient_written_out(loss_type: str) -> None:
    """On-policy with w = 1: -sum over tokens of weight * A * grad log pi, straight from the model's logits."""
    model, made = llama(), learner(llama(), loss_type=loss_type)
    trajectories, seen = scored(made.model, ragged(7)), gradients(made)
    made.update(trajectories, ADVANTAGES)
    counts = [sum(len(u.token_ids) for u in t.turns) for t in trajectories]
    total = torch.zeros((), dtype=torch.float64)
    for t, a, n in zip(trajectories, ADVANTAGES, counts, strict=True):
        norm = {per_trajectory: 7 * n, per_token: sum(counts), constant: 7 * 20}[LOSSES[loss_type].normaliser]
        for u in t.turns:
            ids = torch.tensor([[*u.prompt_ids, *u.token_ids]])
            logp = torch.log_softmax(model(input_ids=ids).logits[0, :-1] / 0.8, -1)
            sampled = logp[torch.arange(ids.shape[1] - 1), ids[0, 1:]][len(u.prompt_ids) - 1 :]
            total = total - a * sampled.sum() / norm
    expected = torch.autograd.grad(total, list(model.parameters()))
    for mine, theirs in zip(seen[0], expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-6)  # weights and advantages travel in float32


@pytest.mark.parametrize("order", [[6, 5, 4, 3, 2, 1, 0], [2, 0, 1, 5, 6, 3, 4]])
def test_the_order_of_the_trajectories_changes_nothing(order: list[int]) -> None:
    after = []
    for places in (list(range(7)), order):
        made = learner(llama(), num_iterations=2)
        trajectories = ragged(7)
        made.update([trajectories[i] for i in places], [ADVANTAGES[i] for i in places])
        after.append(weights(made.model))
    for name in after[0]:
        torch.testing.assert_close(after[0][name], after[1][name], rtol=0, atol=1e-12)


def test_each_trajectory_gets_its_own_advantage() -> None:
    """With one advantage that is not 0 the gradient is that of this trajectory alone."""
    for i in range(7):
        made = learner(llama(), loss_type="dr_grpo")
        seen = gradients(made)
        made.update(ragged(7), [float(i == j) for j in range(7)])
        alone = learner(llama(), loss_type="dr_grpo")
        lone = gradients(alone)
        alone.update([ragged(7)[i]], [1.0])
        torch.testing.assert_close(seen[0], [g / 7 for g in lone[0]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("loss_type", LOSSES)
def test_turns_that_share_an_advantage_learn_as_their_trajectory(loss_type: str) -> None:
    after: list[dict[str, Tensor]] = []
    for by_turn in (None, [[a] * len(t.turns) for a, t in zip(ADVANTAGES, ragged(7), strict=True)]):
        made = learner(llama(), loss_type=loss_type)
        made.update(ragged(7), ADVANTAGES, by_turn)
        after.append(weights(made.model))
    assert same(*after)


def test_each_turn_gets_its_own_advantage() -> None:
    """Of a whole transcript only the turn with an advantage is learned: minus the gradient of its own log-probs."""
    (t,) = [t for t in ragged(3) if len(t.turns) == 3]
    model, made = llama(), learner(llama(), loss_type="dapo")
    (t,), seen = scored(made.model, [t]), gradients(made)
    made.update([t], [0.0], [[0.0, 1.0, 0.0]])
    whole = torch.tensor([[*t.turns[2].prompt_ids, *t.turns[2].token_ids]])
    logp = torch.log_softmax(model(input_ids=whole).logits[0, :-1] / 0.8, -1)
    each = logp[torch.arange(whole.shape[1] - 1), whole[0, 1:]]
    start = len(t.turns[1].prompt_ids) - 1
    loss = -each[start : start + len(t.turns[1].token_ids)].sum() / sum(len(u.token_ids) for u in t.turns)
    for mine, theirs in zip(seen[0], torch.autograd.grad(loss, list(model.parameters())), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("loss_type", [n for n in LOSSES if n != "gspo"])
def test_each_token_gets_its_own_advantage(loss_type: str) -> None:
    """Over the segments of a trajectory, sampled ids are numbered through: minus the gradient of one log-prob."""
    (t,) = [t for i, t in enumerate(ragged(12)) if i == 11]  # three turns that do not go on from each other
    assert len(segments_of(t, 0)) == 3
    counts = [len(u.token_ids) for u in t.turns]
    model = llama()
    (t,) = scored(model, [t])
    for n in range(sum(counts)):
        made = learner(llama(), loss_type=loss_type, normaliser="dapo")
        seen = gradients(made)
        row = [float(i == n) for i in range(sum(counts))]
        made.update([t], [0.0], by_token=[row])
        turn_index = next(k for k in range(3) if n < sum(counts[: k + 1]))
        u, at = t.turns[turn_index], n - sum(counts[:turn_index])
        ids = torch.tensor([[*u.prompt_ids, *u.token_ids]])
        logp = torch.log_softmax(model(input_ids=ids).logits[0, :-1] / 0.8, -1)
        place = len(u.prompt_ids) - 1 + at
        loss = -logp[place, ids[0, place + 1]] / sum(counts)
        for mine, theirs in zip(seen[0], torch.autograd.grad(loss, list(model.parameters())), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("loss_type", LOSSES)
def test_tokens_that_share_an_advantage_learn_as_their_trajectory(loss_type: str) -> None:
    after: list[dict[str, Tensor]] = []
    counts = [sum(len(u.token_ids) for u in t.turns) for t in ragged(7)]
    for by_token in (None, [[a] * n for a, n in zip(ADVANTAGES, counts, strict=True)]):
        made = learner(llama(), loss_type=loss_type)
        made.update(ragged(7), ADVANTAGES, by_token=by_token)
        after.append(weights(made.model))
    assert same(*after)


def test_the_entropy_bonus_has_the_gradient_of_the_entropy() -> None:
    """Without advantages the gradient is minus that of the entropy, weighed as the loss weighs its tokens."""
    model, made = llama(), learner(llama(), entropy_coef=0.3, loss_type="dapo")
    seen = gradients(made)
    metrics = made.update(ragged(3), [0.0, 0.0, 0.0])
    total, count = torch.zeros((), dtype=torch.float64), 0
    for u in [u for t in ragged(3) for u in t.turns]:
        ids = torch.tensor([[*u.prompt_ids, *u.token_ids]])
        logp = torch.log_softmax(model(input_ids=ids).logits[0, :-1] / 0.8, -1)[len(u.prompt_ids) - 1 :]
        total, count = total - (logp.exp() * logp).sum(), count + len(u.token_ids)
    assert metrics["entropy"] == pytest.approx(float(total.detach()) / count, abs=1e-6)
    assert metrics["loss"] == pytest.approx(-0.3 * float(total.detach()) / count, abs=1e-6)
    for mine, theirs in zip(seen[0], torch.autograd.grad(-0.3 * total / count, list(model.parameters())), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-6)


def test_the_entropy_bonus_waits_for_entropy_below_its_target() -> None:
    made = learner(llama(), entropy_coef=0.3, entropy_target=1.0)
    assert made.update(ragged(3), [0.0, 0.0, 0.0])["update/skipped"] == 1.0  # no entropy is known yet
    for known, acts in ((1.01, False), (0.99, True)):
        made.entropy = known
        assert ("update/skipped" not in made.update(ragged(3), [0.0, 0.0, 0.0])) is acts
    assert made.entropy not in (None, 0.99)
    twin = learner(llama(), entropy_coef=0.3, entropy_target=1.0)
    twin.load_state_dict(made.state_dict())
    assert twin.entropy == made.entropy


def test_entropy_with_a_target_is_known_of_all_tokens_whether_anything_is_learned_or_not() -> None:
    learned = learner(llama(), entropy_coef=0.3).update(ragged(3), [0.0, 0.0, 0.0])["entropy"]
    made = learner(llama(), entropy_coef=0.3, entropy_target=1.0)
    before = weights(made.model)
    assert made.update(ragged(3), [0.0, 0.0, 0.0]) == {
        "update/skipped": 1.0, "entropy": pytest.approx(learned, abs=1e-9)}  # fmt: skip
    assert same(before, weights(made.model))
    assert made.entropy == pytest.approx(learned, abs=1e-9)
    made.entropy = 9.0  # the bonus does not act: two of three add nothing to the loss, and are looked at nevertheless
    assert made.update(ragged(3), [1.0, 0.0, 0.0])["entropy"] == pytest.approx(learned, abs=1e-9)


def test_a_policy_that_has_collapsed_gets_the_bonus_though_nothing_has_an_advantage() -> None:
    made = learner(llama(), entropy_coef=0.3, entropy_target=100.0)
    made.entropy = 101.0  # from before it collapsed
    assert [made.update(ragged(3), [0.0, 0.0, 0.0]).get("update/skipped") for _ in range(2)] == [1.0, None]


def test_the_entropy_bonus_flattens_the_policy() -> None:
    made = learner(llama(), entropy_coef=0.1, learning_rate=0.01)
    entropy = [made.update(ragged(3), [0.0, 0.0, 0.0])["entropy"] for _ in range(10)]
    assert entropy[-1] > entropy[0] + 0.1


@pytest.mark.parametrize("wrap", ["full", "lora"])
def test_the_ratio_is_exactly_1_before_the_first_step(wrap: str) -> None:
    """Dropout included: the second iteration of a step that moved nothing compares old with new log-probabilities."""
    model = llama(dtype=torch.float32, attention_dropout=0.3) if wrap == "full" else (
        lora(llama(dtype=torch.float32), dropout=0.5, trained=True))  # fmt: skip
    model.train()
    made = learner(model, num_iterations=2, learning_rate=1e-300, weight_decay=0.0, per_device_train_batch_size=3)
    metrics = made.update(scored(model, ragged(7)), ADVANTAGES)
    assert metrics["ratio_deviation"] == 0.0
    assert metrics["clip_share"] == 0.0
    assert metrics["mismatch_kl"] == pytest.approx(0.0, abs=1e-9)


def test_further_iterations_compare_with_the_log_probabilities_before_the_first() -> None:
    made = learner(llama(), num_iterations=2, learning_rate=0.02, max_grad_norm=1.0)
    twin = copy.deepcopy(made.model)
    metrics = made.update(ragged(7), ADVANTAGES)
    first = learner(llama(), num_iterations=1, learning_rate=0.02, max_grad_norm=1.0)
    assert first.update(ragged(7), ADVANTAGES)["ratio_deviation"] == 0.0
    batch = whole_batch(skip_zero=True)
    old, between = (Scorer(m.eval(), 0.8)(batch.ids, batch.mask)[0].detach() for m in (twin, first.model))
    deviation = float(((between - old).exp() - 1).abs()[batch.mask].max())
    assert deviation > 0.01
    assert metrics["ratio_deviation"] == pytest.approx(deviation, abs=1e-9)


def test_further_iterations_need_no_pass_of_their_own_for_the_old_policy() -> None:
    passes = dict.fromkeys((1, 2, 3), 0)
    for iterations in passes:
        made = learner(llama(), num_iterations=iterations, per_device_train_batch_size=3, prefix_sharing=False)

        def count(*_: object, iterations: int = iterations) -> None:
            passes[iterations] += 1

        made.model.get_decoder().register_forward_hook(count)
        made.update(ragged(7), ADVANTAGES)
    assert passes[3] - passes[2] == passes[2] - passes[1] == 2


def whole_batch(skip_zero: bool = False) -> MicroBatch:
    segments = [s for i, t in enumerate(ragged(7)) for s in segments_of(t, i) if ADVANTAGES[i] or not skip_zero]
    return collate(segments, torch.tensor(ADVANTAGES).double(), token_counts(segments, 7).double())


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    made = learner(llama())
    before = weights(made.model)
    bad = [trajectory("t", [turn([2, 3], [4], [float("nan")])])]
    metrics = made.update([*ragged(2), *bad], [1.0, -1.0, 0.5])
    assert metrics["update/not_finite"] == 1.0
    assert same(before, weights(made.model))
    assert made.optimizer.state_dict()["state"] == {}
    clean = learner(llama())
    clean.scheduler.step()
    assert made.update(ragged(2), [1.0, -1.0])["update/not_finite"] == 0.0
    clean.update(ragged(2), [1.0, -1.0])
    assert same(weights(made.model), weights(clean.model))


def test_a_batch_without_spread_is_skipped() -> None:
    made = learner(llama())
    before = weights(made.model)
    assert made.update(ragged(3), [0.0, 0.0, 0.0]) == {"update/skipped": 1.0}
    assert made.update([], []) == {"update/skipped": 1.0}
    assert same(before, weights(made.model))


def test_a_batch_without_spread_is_pulled_by_kl() -> None:
    made = learner(llama(), frozen_copy(llama(seed=1)), kl_coef=0.1)
    before = weights(made.model)
    assert "update/skipped" not in made.update(ragged(3), [0.0, 0.0, 0.0])
    assert not same(before, weights(made.model))


def test_trajectories_without_advantage_count_in_the_normaliser() -> None:
    made, other = learner(llama(), loss_type="grpo"), learner(llama(), loss_type="grpo")
    seen, lone = gradients(made), gradients(other)
    made.update(ragged(3), [1.0, 0.0, 0.0])
    other.update(ragged(1), [1.0])
    torch.testing.assert_close([3 * g for g in seen[0]], lone[0], rtol=0, atol=1e-5)


def test_a_mismatch_names_the_trajectory() -> None:
    bad = trajectory("s000007-00001", [turn([2, 3], [4, 5], [-1.0])])
    with pytest.raises(ValueError, match="trajectory s000007-00001, turn 0"):
        learner(llama()).update([bad], [1.0])


def test_gradient_is_clipped_to_the_norm() -> None:
    made = learner(llama(), max_grad_norm=1e-3)
    seen = gradients(made)
    assert made.update(ragged(7), ADVANTAGES)["grad_norm"] > 1e-3
    norm = torch.stack([g.norm() for g in seen[0]]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_warm_up_and_decay_of_the_learning_rate() -> None:
    made = Learner(llama(), arguments(lr_scheduler_type="linear", warmup_steps=2), 1.0, 6)
    rates = [made.update(ragged(2), [1.0, -1.0])["learning_rate"] for _ in range(6)]
    assert rates == pytest.approx([0.0, 5e-4, 1e-3, 7.5e-4, 5e-4, 2.5e-4])
    ratio = Learner(llama(), arguments(warmup_ratio=0.5), 1.0, 4)
    rates = [ratio.update(ragged(2), [1.0, -1.0])["learning_rate"] for _ in range(4)]
    assert rates == pytest.approx([0.0, 5e-4, 1e-3, 1e-3])


@pytest.mark.parametrize("adapter", [None, LoraArgs(r=2)])
def test_gradient_checkpointing_saves_activations_and_changes_nothing(tmp_path: Path, adapter: LoraArgs | None) -> None:
    base, grads, runs = save_tiny_model(tmp_path / "base"), [], []
    for on in (False, True):
        torch.manual_seed(0)
        model, _ = build_model(find_model(str(base)), arguments(gradient_checkpointing=on, lora=adapter))
        made, calls = learner(model, per_device_train_batch_size=3), list[int]()
        layer = next(m for m in model.modules() if type(m).__name__ == "LlamaMLP")
        layer.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        seen = gradients(made)
        made.update(ragged(3), [1.0, -1.0, 0.5])
        grads.append(seen[0])
        runs.append(len(calls))
    torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=1e-6)
    assert runs[1] > runs[0]  # the backward pass ran the layer again
