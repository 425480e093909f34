"""What every loss must get right, in both context modes: the bugs that trainers have shipped, each with its test."""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from every_loss import BUDGET, COMPARING, MODES, SAMPLING, TEMPERATURE, WAYS, WORTH, Way, counts, episodes, gradients
from learner_tools import VOCAB, llama, lora, scored
from torch import Tensor
from trees import precise

import mmrl_agents.learner
from mmrl.config import Config
from mmrl.episode import EpisodeLimits, EpisodeSpec
from mmrl.policy import Completion, Request
from mmrl.rollout import Scheduler
from mmrl.run_sync import run_sync
from mmrl.trajectory import Trajectory
from mmrl_agents import checkpoint
from mmrl_agents.batch import MicroBatch, Segment, collate, segments_of
from mmrl_agents.checkpoint import Progress
from mmrl_agents.credit import METHODS, credit
from mmrl_agents.foresight import foresight
from mmrl_agents.learner import Learner
from mmrl_agents.models import find_model, load_model, load_processing
from mmrl_agents.policies.hf import HFPolicy
from mmrl_agents.reference import Reference, adapter_copy, adapter_off, frozen_copy

EVERY = pytest.mark.parametrize("name", WAYS)
EVERY_SAMPLING = pytest.mark.parametrize("name", SAMPLING)
EVERY_COMPARING = pytest.mark.parametrize("name", COMPARING)
Made = Callable[[Path], tuple[Any, Reference]]
BOTH_MODES = pytest.mark.parametrize("window", MODES.values(), ids=MODES.keys())


def small(seed: int = 0, **config: Any) -> Any:
    """A model of one layer."""
    return precise(llama(seed, num_hidden_layers=1, **config))


def learner(way: Way, **changes: Any) -> Learner:
    """A double-precision learner with a reference of its own."""
    return way.learner(small(), frozen_copy(small(seed=1)), **changes)


@BOTH_MODES
def test_the_modes_are_what_they_are_called(window: int | None) -> None:
    turns = [len(t.turns) for t in episodes(window)]
    assert turns == [1, 2, 3, 2, 3, 1]
    assert [len(segments_of(t, 0)) for t in episodes(window)] == [1 if window is None or n < 3 else 2 for n in turns]


@EVERY
@BOTH_MODES
def test_accumulation_does_not_change_the_gradient(name: str, window: int | None) -> None:
    """Two steps on one batch: in the second, ratios have left 1."""
    found: list[list[list[Tensor]]] = []
    for rows, tokens in ((100, 10**6), (1, 10**6), (100, 40)):
        made = learner(WAYS[name], per_device_train_batch_size=rows, max_tokens_per_micro_batch=tokens,
                       num_iterations=2, learning_rate=0.01, adam_epsilon=1e-2)  # fmt: skip
        found.append(gradients(made))
        WAYS[name].step(made, episodes(window), WORTH)
    assert max(float(g.abs().max()) for g in found[0][0]) > 1e-3
    for split in found[1:]:
        torch.testing.assert_close(split, found[0], rtol=0, atol=1e-10)


@EVERY
@BOTH_MODES
def test_garbage_where_nothing_was_sampled_changes_nothing(name: str, window: int | None,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Padding full of ids, and no number in what the mask leaves out."""

    def dirty(chunk: list[Segment], *rest: Any, **named: Any) -> MicroBatch:
        b = collate(chunk, *rest, **named)
        ids = b.ids.clone()
        for row, segment in zip(ids, chunk, strict=True):
            row[len(segment.ids) :] = torch.arange(len(row) - len(segment.ids)) % VOCAB
        mu, advantage, weight = (torch.where(b.mask, t, float("nan")) for t in (b.mu, b.advantage, b.weight))
        return dataclasses.replace(b, ids=ids, mu=mu, advantage=advantage, weight=weight)

    found: list[tuple[list[list[Tensor]], dict[str, float]]] = []
    for how in (collate, dirty):
        monkeypatch.setattr(mmrl_agents.learner, "collate", how)
        made = learner(WAYS[name], kl_coef=0.1, num_iterations=2)
        seen = gradients(made)
        found.append((seen, WAYS[name].step(made, episodes(window), WORTH)))
    assert found[0][1] == found[1][1]
    torch.testing.assert_close(found[1][0], found[0][0], rtol=0, atol=0)


@EVERY
@BOTH_MODES
def test_the_first_gradient_written_out(name: str, window: int | None) -> None:
    """Each sampled token's own log-probability at the sampler's temperature, straight from the logits, times its worth.

    A shift by one, another temperature, worth in the wrong row and a wrong normaliser all show here.
    """
    way, model = WAYS[name], small()
    trajectories, made = scored(model, episodes(window), TEMPERATURE), learner(way)
    seen = gradients(made)
    way.step(made, trajectories, WORTH)
    n = torch.tensor(counts(trajectories))
    weight = way.normaliser(n, BUDGET).tolist()
    total = torch.zeros((), dtype=torch.float64)
    for t, w, worth in zip(trajectories, weight, WORTH, strict=True):
        for u in t.turns:
            ids = torch.tensor([[*u.prompt_ids, *u.token_ids]])
            logp = torch.log_softmax(model(input_ids=ids).logits[0, :-1] / TEMPERATURE, -1)
            said = logp[torch.arange(ids.shape[1] - 1), ids[0, 1:]][len(u.prompt_ids) - 1 :]
            total = total - w * (1.0 if name == "sft" else worth) * said.sum()
    expected = torch.autograd.grad(total, list(model.parameters()))
    for mine, theirs in zip(seen[0], expected, strict=False):  # a critic at 0 pulls at nothing that it shares
        torch.testing.assert_close(mine, theirs, rtol=0, atol=5e-6)  # weights and worth travel in single precision


@EVERY
@BOTH_MODES
def test_the_order_of_the_trajectories_changes_nothing(name: str, window: int | None) -> None:
    found: list[list[list[Tensor]]] = []
    for order in ([0, 1, 2, 3, 4, 5], [4, 1, 5, 0, 3, 2]):
        made = learner(WAYS[name], num_iterations=2, per_device_train_batch_size=3, adam_epsilon=1e-2)
        found.append(gradients(made))
        WAYS[name].step(made, [episodes(window)[i] for i in order], [WORTH[i] for i in order])
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
@BOTH_MODES
def test_the_order_of_the_trajectories_changes_no_advantage(method: str, window: int | None) -> None:
    """A reward of its own for each; the groups change places, and the members of a group."""
    args = {"advantage": method, **({"turn_discount": 0.9} if "turn_discount" in METHODS[method].keys else {})}
    config = Config.model_validate({"train_type": "GRPO", "model_id": "m", "environments": [{"id": "e"}],
                                    "training_args": args})  # fmt: skip
    keyed = [dataclasses.replace(t, turns=tuple(dataclasses.replace(u, info={"state_key": n}) for n, u in
                                                enumerate(t.turns))) for t in episodes(window)]  # fmt: skip
    seen = {t.id: foresight([-1.0] * n, torch.linspace(-1, t.record.value, n).tolist(), [], 0.0)
            for t, n in zip(keyed, counts(keyed), strict=True) if t.record}  # fmt: skip
    order = [5, 3, 4, 1, 0, 2]
    one, other = (dataclasses.asdict(credit([keyed[i] for i in places], 3, config, seen))
                  for places in (range(6), order))  # fmt: skip
    assert len(set(one["advantages"])) == 6
    for key, rows in one.items():
        moved = rows and [rows[i] for i in order]
        for mine, theirs in zip(moved or [], other[key] or [], strict=True):
            assert mine == pytest.approx(theirs, abs=1e-12)


@EVERY
@BOTH_MODES
def test_shared_prefixes_change_nothing(name: str, window: int | None) -> None:
    found: list[list[list[Tensor]]] = []
    lines: list[str] = []
    for sharing in (True, False):
        made = learner(WAYS[name], tell=lines.append, prefix_sharing=sharing, num_iterations=2, adam_epsilon=1e-2)
        found.append(gradients(made))
        WAYS[name].step(made, episodes(window), WORTH)
    assert lines[0].startswith("prefix sharing: on")
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-9)


def adapted(trained: bool = True) -> Any:
    """A model with dropout in its attention and in front of its adapter, switched on."""
    return lora(small(dtype=torch.float32, attention_dropout=0.3), dropout=0.5, trained=trained).train()


@EVERY_SAMPLING
@BOTH_MODES
def test_the_ratio_is_exactly_1_before_the_first_step(name: str, window: int | None) -> None:
    """With dropout in the model, and a second step after a first that moves nothing."""
    model = adapted()
    made = WAYS[name].learner(model, num_iterations=2, learning_rate=1e-300, per_device_train_batch_size=3)
    metrics = WAYS[name].step(made, scored(model, episodes(window), TEMPERATURE), WORTH)
    assert (metrics["ratio_deviation"], metrics["clip_share"]) == (0.0, 0.0)
    assert metrics["mismatch_kl"] == pytest.approx(0.0, abs=1e-9)


def frozen(folder: Path) -> tuple[Any, Reference]:
    """A model, and a copy of it."""
    model = small(dtype=torch.float32, attention_dropout=0.3).train()
    return model, frozen_copy(model)


def switched_off(folder: Path) -> tuple[Any, Reference]:
    """A model with a new adapter, and itself without it."""
    model = adapted(trained=False)
    return model, adapter_off(model)


def copied(folder: Path) -> tuple[Any, Reference]:
    """A model whose adapter was trained before, and a copy of that adapter."""
    model = adapted()
    model.save_pretrained(folder)
    return model, adapter_copy(model, str(folder))


@EVERY_COMPARING
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [frozen, switched_off, copied])
def test_the_reference_is_the_policy_before_the_first_step(name: str, mode: str, make: Made,
                                                           tmp_path: Path) -> None:  # fmt: skip
    (model, reference), way, window = make(tmp_path), WAYS[name], MODES[mode]
    keys = ("kl",) if way.samples else ("log_ratio_up", "log_ratio_down")
    made = way.learner(model, reference, kl_coef=0.1, learning_rate=0.01)
    trained = [p for p in model.parameters() if p.requires_grad]
    first, second = (way.step(made, episodes(window), WORTH) for _ in range(2))
    assert [first[k] for k in keys] == [0.0] * len(keys)
    assert all(abs(second[k]) > 1e-5 for k in keys)
    assert all(a is b for a, b in zip([p for p in model.parameters() if p.requires_grad], trained, strict=True))
    assert make is frozen or model.active_adapters == ["default"]


class Moved:
    """A policy that learns between the first turn of its episodes and the second, which goes on from what it kept."""

    def __init__(self, policy: HFPolicy, learn: Callable[[], None]) -> None:
        self.policy, self.learn = policy, learn

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        if requests[0].turn == 1:
            self.learn()
        return await self.policy.generate(requests)


def gap(model: Any, trajectories: Sequence[Trajectory], turns: slice) -> float:
    """The largest distance of the sampler's log-probabilities from the model's."""
    cut = [dataclasses.replace(t, turns=t.turns[turns]) for t in trajectories]
    return max(abs(a - b) for t, own in zip(cut, scored(model, cut, TEMPERATURE), strict=True)
               for u, v in zip(t.turns, own.turns, strict=True)
               for a, b in zip(u.logprobs, v.logprobs, strict=True))  # fmt: skip


@EVERY
@BOTH_MODES
def test_the_sampler_follows_a_large_step(name: str, window: int | None, tiny: Path) -> None:
    """Before it and after it, sampler and learner agree at their temperature; after it, not on the old weights."""
    way, files = WAYS[name], find_model(str(tiny))
    model = load_model(files, trainable=True)
    before, policy = copy.deepcopy(model), HFPolicy(model, load_processing(files), TEMPERATURE, 3)
    made = way.learner(model, frozen_copy(model), learning_rate=0.05)

    def learn() -> None:
        assert way.step(made, episodes(window), WORTH)["grad_norm"] > 0
        policy.updated(1)

    specs = [EpisodeSpec(f"e{i}", "babyai/GoToLocal", 0, "g", (9, i)) for i in range(2)]
    found = run_sync(Scheduler(EpisodeLimits(3, window)).run(specs, Moved(policy, learn)))
    assert gap(before, found, slice(0, 1)) < 1e-5
    assert gap(model, found, slice(1, 3)) < 1e-4
    assert gap(before, found, slice(1, 3)) > 1e-2


def bits(made: Learner) -> list[Tensor]:
    """Weights and moments."""
    moments = [v for s in made.optimizer.state_dict()["state"].values() for v in s.values()]
    critic = [] if made.critic is None else list(made.critic.parameters())
    return [t.detach().clone() for t in (*made.model.parameters(), *critic, *moments)]


@EVERY
@BOTH_MODES
def test_four_steps_are_two_and_two_more_after_a_checkpoint(name: str, window: int | None, tiny: Path,
                                                            tmp_path: Path) -> None:  # fmt: skip
    way, files = WAYS[name], find_model(str(tiny))

    def start() -> Learner:
        model = load_model(files, trainable=True)
        return way.learner(model, frozen_copy(model), learning_rate=0.01, kl_coef=0.1, lr_scheduler_type="linear")

    whole, cut = start(), start()
    for made, steps in ((whole, 4), (cut, 2)):
        for _ in range(steps):
            way.step(made, episodes(window), WORTH)
    checkpoint.save(tmp_path / "c", cut.model, load_processing(files), cut.state_dict(), Progress())
    resumed = start()
    checkpoint.restore_policy(tmp_path / "c", resumed.model)
    checkpoint.restore_learner(tmp_path / "c", resumed)
    assert all(torch.equal(a, b) for a, b in zip(bits(resumed), bits(cut), strict=True))
    for _ in range(2):
        way.step(resumed, episodes(window), WORTH)
    assert all(torch.equal(a, b) for a, b in zip(bits(resumed), bits(whole), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(bits(resumed), bits(cut), strict=True))
