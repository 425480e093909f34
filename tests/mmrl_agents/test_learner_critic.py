"""The learner with a critic beside the policy, and with KL taken off the reward."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
from learner_tools import llama, lora, ragged
from torch import Tensor

from mmrl.training_args import TrainingArgs
from mmrl.trajectory import Trajectory
from mmrl_agents.batch import segments_of, token_counts
from mmrl_agents.critic import Critic
from mmrl_agents.foresight import NOTHING, Foreseen, Foresight
from mmrl_agents.learner import Learner
from mmrl_agents.logprobs import Scorer
from mmrl_agents.loss_type import LOSSES
from mmrl_agents.reference import adapter_off, frozen_copy

ADVANTAGES = [1.5, -0.5, 0.0, 0.7, -1.2, 2.0, -0.1]
BATCHES = ((100, 10**6), (1, 10**6), (3, 10**6), (100, 40))


def learner(model: Any = None, reference: Any = None, seed: int | None = 0, **changes: Any) -> Learner:
    """One with a critic; a seed gives it something to say."""
    model = llama() if model is None else model
    args = TrainingArgs(**{"learning_rate": 1e-3, "max_grad_norm": 1e9, "per_device_train_batch_size": 100,
                           "advantage": "gae", **changes})  # fmt: skip
    critic = Critic.of(model)
    if seed is not None:
        g = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            critic.weight.copy_(torch.randn(len(critic.weight), generator=g))
    return Learner(model, args, 0.8, 10, reference, 20, critic=critic)


def gradients(made: Learner) -> list[list[Tensor]]:
    """Filled with the gradients that each optimiser step sees, the critic's last."""
    seen: list[list[Tensor]] = []
    assert made.critic is not None
    every = [*made.parameters, *made.critic.parameters()]
    made.optimizer.register_step_pre_hook(
        lambda *_: seen.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in every])
    )
    return seen


def counts(trajectories: list[Trajectory]) -> list[int]:
    segments = [s for i, t in enumerate(trajectories) for s in segments_of(t, i)]
    return token_counts(segments, len(trajectories)).tolist()


def known(trajectories: list[Trajectory], seed: int = 1) -> tuple[list[list[float | None]], Foreseen]:
    """Returns at two of three tokens, and what the model is said to have said: near what it does say, and far."""
    g = torch.Generator().manual_seed(seed)
    returns, foreseen = list[list[float | None]](), dict[str, Foresight]()
    for t, n in zip(trajectories, counts(trajectories), strict=True):
        r, old, logp = torch.randn((3, n), generator=g).tolist()
        returns.append([None if i % 3 == 1 else x for i, x in enumerate(r)])
        foreseen[t.id] = Foresight(tuple(-4 + x for x in logp), tuple(old))
    return returns, foreseen


@pytest.mark.parametrize("loss_type", LOSSES)
@pytest.mark.parametrize("iterations", [1, 2])
def test_accumulation_does_not_change_the_gradient(loss_type: str, iterations: int) -> None:
    results = []
    for rows, tokens in BATCHES:
        made = learner(loss_type=loss_type, per_device_train_batch_size=rows, max_tokens_per_micro_batch=tokens,
                       num_iterations=iterations, adam_epsilon=1e-2)  # fmt: skip
        seen, (returns, foreseen) = gradients(made), known(ragged(7))
        metrics = made.update(ragged(7), ADVANTAGES, returns=returns, foreseen=foreseen)
        results.append((seen, metrics))
    whole, whole_metrics = results[0]
    assert min(float(g.abs().max()) for g in whole[0][-2:]) > 1e-4
    for split, metrics in results[1:]:
        for step in range(iterations):
            torch.testing.assert_close(split[step], whole[step], rtol=0, atol=1e-10)
        for key in ("loss", "value_loss", "value", "explained_variance", "entropy"):
            assert metrics[key] == pytest.approx(whole_metrics[key], abs=1e-10), key


@pytest.mark.parametrize("clip", [None, 0.2])
def test_gradient_is_the_policys_plus_the_critics_written_out(clip: float | None) -> None:
    """Without advantages: value_coef times the mean over all asked tokens of the clipped error of w h + b."""
    model, made = llama(), learner(loss_type="dapo", value_coef=0.3, value_clip=clip)
    trajectories, seen = ragged(7), gradients(made)
    returns, foreseen = known(trajectories)
    metrics = made.update(trajectories, [0.0] * 7, returns=returns, foreseen=foreseen)
    fresh = learner(model).critic
    assert fresh is not None
    total, asked = torch.zeros((), dtype=torch.float64), sum(r is not None for row in returns for r in row)
    for t, row in zip(trajectories, returns, strict=True):
        place = 0
        for u in t.turns:
            ids = torch.tensor([[*u.prompt_ids, *u.token_ids]])
            hidden = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
            for k in range(len(u.token_ids)):
                r, old = row[place], foreseen[t.id].values[place]
                place += 1
                if r is None:
                    continue
                v = hidden[len(u.prompt_ids) - 1 + k] @ fresh.weight + fresh.bias
                error = (v - r) ** 2
                if clip is not None:
                    error = torch.maximum(error, (v.clamp(old - clip, old + clip) - r) ** 2)
                total = total + error / 2 / asked
    assert metrics["value_loss"] == pytest.approx(float(total.detach()), abs=1e-6)
    assert metrics["loss"] == 0.0
    expected = torch.autograd.grad(0.3 * total, [*model.parameters(), *fresh.parameters()], materialize_grads=True)
    assert float(expected[0].abs().max()) > 1e-3
    for mine, theirs in zip(seen[0], expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)  # Llama's norms compute in single precision


def test_policy_and_critic_add_up() -> None:
    parts = []
    for advantages, coef in ((ADVANTAGES, 0.3), (ADVANTAGES, 1e-300), ([0.0] * 7, 0.3)):
        made = learner(value_coef=coef)
        seen, (returns, foreseen) = gradients(made), known(ragged(7))
        made.update(ragged(7), advantages, returns=returns, foreseen=foreseen)
        parts.append(seen[0])
    both, policy, critic = parts
    expected = [a + b for a, b in zip(policy, critic, strict=True)]
    torch.testing.assert_close(both, expected, rtol=0, atol=5e-6)  # Llama's norms compute in single precision
    assert all(float((both[0] - part[0]).abs().max()) > 1e-2 for part in (policy, critic))


@pytest.mark.parametrize("order", [[6, 5, 4, 3, 2, 1, 0], [2, 0, 1, 5, 6, 3, 4]])
def test_the_order_of_the_trajectories_changes_nothing(order: list[int]) -> None:
    after = []
    for places in (list(range(7)), order):
        made, trajectories = learner(num_iterations=2), ragged(7)
        returns, foreseen = known(trajectories)
        made.update([trajectories[i] for i in places], [ADVANTAGES[i] for i in places],
                    returns=[returns[i] for i in places], foreseen=foreseen)  # fmt: skip
        assert made.critic is not None
        after.append([p.detach().clone() for p in (*made.model.parameters(), *made.critic.parameters())])
    torch.testing.assert_close(after[0], after[1], rtol=0, atol=1e-12)


def test_nothing_is_foreseen_where_no_credit_asks() -> None:
    args = TrainingArgs(kl_coef=0.1)
    assert Learner(llama(), args, 1.0, 10, frozen_copy(llama())).foresee(ragged(3)) is NOTHING


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_what_is_foreseen_is_what_the_models_say(rows: int) -> None:
    """Of every valid trajectory, over all of its segments: the policy's, the reference's and the critic's words."""
    reference = llama(seed=1)
    made = learner(None, frozen_copy(reference), kl_coef=0.5, kl_in="reward", per_device_train_batch_size=rows)
    trajectories = ragged(12)
    trajectories[4] = dataclasses.replace(trajectories[4], error="gone")
    foreseen = made.foresee(trajectories)
    assert set(foreseen) == {t.id for i, t in enumerate(trajectories) if i != 4}
    assert made.critic is not None
    for t in [t for t in trajectories if t.id in foreseen]:
        old, ref, values = list[float](), list[float](), list[float]()
        for u in t.turns:
            ids = torch.tensor([[*u.prompt_ids, *u.token_ids]])
            mask = torch.tensor([[i >= len(u.prompt_ids) - 1 for i in range(ids.shape[1] - 1)]])
            logp, _, said = Scorer(made.model, 0.8).with_values(ids, mask, (), made.critic)
            old += logp[mask].tolist()
            values += said[mask].tolist()
            ref += Scorer(reference.eval(), 0.8)(ids, mask)[0][mask].tolist()
        seen = foreseen[t.id]
        assert seen.old == pytest.approx(old, abs=1e-6)
        assert seen.values == pytest.approx(values, abs=1e-6)
        assert seen.divergence == pytest.approx([a - b for a, b in zip(old, ref, strict=True)], abs=1e-6)
        assert seen.charges == pytest.approx([0.5 * (a - b) for a, b in zip(old, ref, strict=True)], abs=1e-6)
        assert max(map(abs, seen.charges)) > 1e-3


def test_before_the_first_step_nothing_is_charged() -> None:
    model = lora(llama(dtype=torch.float32))
    made = learner(model, adapter_off(model), kl_coef=0.5, kl_in="reward", learning_rate=0.01)
    first = made.foresee(ragged(5))
    assert {c for f in first.values() for c in f.charges} == {0.0}
    returns, _ = known(ragged(5))
    made.update(ragged(5), ADVANTAGES[:5], returns=returns, foreseen=first)
    assert max(abs(c) for f in made.foresee(ragged(5)).values() for c in f.charges) > 1e-5


def test_kl_in_the_reward_is_no_part_of_the_loss() -> None:
    seen = []
    for changes in ({}, {"kl_coef": 0.5, "kl_in": "reward"}):
        args = TrainingArgs(learning_rate=1e-3, per_device_train_batch_size=100, **changes)
        made = Learner(llama(), args, 0.8, 10, frozen_copy(llama(seed=1)) if changes else None)
        metrics = made.update(ragged(7), ADVANTAGES)
        seen.append((metrics, [p.detach().clone() for p in made.model.parameters()]))
    assert seen[0][0] == seen[1][0]
    assert all(torch.equal(a, b) for a, b in zip(seen[0][1], seen[1][1], strict=True))


@pytest.mark.parametrize("wrap", ["full", "lora"])
def test_the_ratio_is_exactly_1_before_the_first_step(wrap: str) -> None:
    """The old log-probabilities are those of the pass that gave the values, dropout or not."""
    model = llama(dtype=torch.float32, attention_dropout=0.3) if wrap == "full" else (
        lora(llama(dtype=torch.float32), dropout=0.5, trained=True))  # fmt: skip
    model.train()
    made = learner(model, num_iterations=2, learning_rate=1e-300, critic_learning_rate=1e-300,
                   per_device_train_batch_size=3)  # fmt: skip
    returns, _ = known(ragged(7))
    metrics = made.update(ragged(7), ADVANTAGES, returns=returns, foreseen=made.foresee(ragged(7)))
    assert metrics["ratio_deviation"] == 0.0


def test_further_iterations_compare_with_what_was_foreseen() -> None:
    """The ratio is to the old log-probabilities that were given, in the last iteration too."""
    trajectories = ragged(7)
    made = learner(None, num_iterations=3, learning_rate=1e-300, value_clip=0.2)
    assert made.critic is not None
    foreseen = made.foresee(trajectories)
    off = {k: dataclasses.replace(f, old=tuple(x - 0.5 for x in f.old)) for k, f in foreseen.items()}
    returns = [[v + 5.0 for v in foreseen[t.id].values] for t in trajectories]
    metrics = made.update(trajectories, ADVANTAGES, returns=returns, foreseen=off)
    assert metrics["ratio_deviation"] == pytest.approx(torch.tensor(0.5).exp().item() - 1, abs=1e-6)
    assert metrics["value"] == pytest.approx(
        sum(v for f in foreseen.values() for v in f.values) / sum(counts(trajectories)), abs=1e-6
    )


def test_the_critic_learns_at_its_own_rate_without_any_advantage() -> None:
    trajectories = ragged(7)
    made = learner(seed=None, learning_rate=1e-300, critic_learning_rate=0.05, loss_type="dapo", value_clip=None)
    returns: list[list[float | None]] = [[float(i)] * n for i, n in enumerate(counts(trajectories))]
    told = [made.update(trajectories, [0.0] * 7, returns=returns, foreseen=made.foresee(trajectories))
            for _ in range(40)]  # fmt: skip
    assert told[0]["value"] == told[0]["explained_variance"] == 0.0
    assert told[-1]["explained_variance"] > 0.5
    assert told[-1]["value_loss"] < told[0]["value_loss"] / 4
    assert [told[0]["learning_rate"], made.optimizer.param_groups[1]["lr"]] == [1e-300, 0.05]
    assert made.critic is not None
    assert not made.critic.weight.equal(torch.zeros(32))


def test_critic_and_policy_are_clipped_apart() -> None:
    norms = []
    for scale in (1.0, 1000.0):
        made = learner(max_grad_norm=1e-3, value_coef=1e-300)
        seen, (returns, foreseen) = gradients(made), known(ragged(7))
        far = [[None if r is None else scale * r for r in row] for row in returns]
        made.update(ragged(7), ADVANTAGES, returns=far, foreseen=foreseen)
        norms.append(torch.stack([g.norm() for g in seen[0][:-2]]).norm())
    assert norms[0] == norms[1] == pytest.approx(1e-3, rel=1e-3)


def test_a_critic_that_is_not_finite_changes_nothing() -> None:
    made = learner()
    before = [p.detach().clone() for p in made.model.parameters()]
    returns, foreseen = known(ragged(3))
    returns[0][0] = float("nan")
    assert made.update(ragged(3), ADVANTAGES[:3], returns=returns, foreseen=foreseen)["update/not_finite"] == 1.0
    assert all(torch.equal(a, b) for a, b in zip(before, made.model.parameters(), strict=True))


def test_a_critic_goes_on_from_a_checkpoint_to_the_same_bits() -> None:
    made, twin = learner(), learner(seed=None)
    trajectories = ragged(5)
    returns, _ = known(trajectories)

    def step(one: Learner) -> dict[str, float]:
        return one.update(trajectories, ADVANTAGES[:5], returns=returns, foreseen=one.foresee(trajectories))

    step(made)
    twin.model.load_state_dict(made.model.state_dict())
    twin.load_state_dict(copy.deepcopy(made.state_dict()))
    assert step(made) == step(twin)
    assert made.critic is not None
    assert twin.critic is not None
    assert all(torch.equal(a, b) for a, b in zip(made.critic.parameters(), twin.critic.parameters(), strict=True))
