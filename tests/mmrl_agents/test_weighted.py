import json
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_tools import StopAfter, llama, lora, ragged, repeatable, run_config
from safetensors.torch import load_file
from torch import Tensor

from mmrl.check_config import check_config
from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.report import Quiet
from mmrl.store import RunStore, read_trajectories
from mmrl.training_args import TrainingArgs
from mmrl_agents.batch import Segment, segments_of
from mmrl_agents.learner import Learner
from mmrl_agents.logprobs import Scorer
from mmrl_agents.reference import adapter_off, frozen_copy
from mmrl_agents.train import Grpo
from mmrl_agents.weighted import WeightedLogRatio, load_logged, scored, worths

WORTH = [1.5, -0.5, 0.0, 0.7, -1.2, 2.0, -0.1]


def segments() -> list[Segment]:
    return [s for i, t in enumerate(ragged(7)) for s in segments_of(t, i)]


def learner(model: Any = None, reference: Any = None, **changes: Any) -> Learner:
    args = TrainingArgs(**{"learning_rate": 1e-3, "max_grad_norm": 1e9, "per_device_train_batch_size": 100, **changes})
    return Learner(llama() if model is None else model, args, 0.8, 10, reference or frozen_copy(llama(seed=1)), 20)


def gradients(made: Learner) -> list[list[Tensor]]:
    seen: list[list[Tensor]] = []
    made.optimizer.register_step_pre_hook(lambda *_: seen.append([p.grad.clone() for p in made.parameters]))
    return seen


@pytest.mark.parametrize("changes", [{}, {"kl_coef": 0.2}, {"normaliser": "dapo"}, {"normaliser": "dr_grpo"}], ids=str)
def test_accumulation_does_not_change_the_gradient(changes: dict[str, Any]) -> None:
    results = []
    for rows, tokens in ((100, 10**6), (1, 10**6), (3, 10**6), (100, 40)):
        made = learner(per_device_train_batch_size=rows, max_tokens_per_micro_batch=tokens, **changes)
        seen = gradients(made)
        results.append((made.weigh(segments(), WORTH), seen[0]))
    for metrics, split in results[1:]:
        torch.testing.assert_close(split, results[0][1], rtol=0, atol=1e-10)
        assert metrics == pytest.approx(results[0][0], abs=1e-6)


@pytest.mark.parametrize(("normaliser", "norm"), [
    (None, lambda n, total: 7 * n), ("dapo", lambda n, total: total), ("dr_grpo", lambda n, total: 7 * 20),
])  # fmt: skip
def test_value_and_gradient_are_those_of_the_weighted_log_ratio_written_out(normaliser: Any, norm: Any) -> None:
    model, ref, made = llama(), llama(seed=1).eval(), learner(normaliser=normaliser)
    seen = gradients(made)
    metrics = made.weigh(segments(), WORTH)
    counts = [sum(len(u.token_ids) for u in t.turns) for t in ragged(7)]
    total = torch.zeros((), dtype=torch.float64)
    for t, w, n in zip(ragged(7), WORTH, counts, strict=True):
        for u in t.turns:
            ids = torch.tensor([[*u.prompt_ids, *u.token_ids]])
            mask = torch.tensor([[i >= len(u.prompt_ids) - 1 for i in range(ids.shape[1] - 1)]])
            d = Scorer(model, 0.8)(ids, mask)[0] - Scorer(ref, 0.8)(ids, mask)[0].detach()
            total = total - w * d.sum() / norm(n, sum(counts))
    assert metrics["loss"] == pytest.approx(float(total.detach()), abs=1e-6)
    expected = torch.autograd.grad(total, list(model.parameters()))
    for mine, theirs in zip(seen[0], expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)  # Llama's norms compute in single precision


def test_a_step_counts_the_rollouts_that_it_learns_from() -> None:
    """Two of seven are a batch of two, whatever their places."""
    few = [s for s in segments() if s.trajectory in (1, 5)]
    made, alone = learner(), learner()
    lone = [Segment(s.ids, s.mask, s.mu, s.turn, [1, 5].index(s.trajectory), s.images, s.before) for s in few]
    assert made.weigh(few, WORTH) == alone.weigh(lone, [WORTH[1], WORTH[5]])


def test_the_log_ratio_is_0_before_the_first_step_and_parts_after_it() -> None:
    """Dropout included."""
    model = lora(llama(dtype=torch.float32, attention_dropout=0.3), dropout=0.5)
    model.train()
    made = learner(model, adapter_off(model), learning_rate=0.01)
    first = made.weigh(segments(), WORTH)
    assert (first["loss"], first["log_ratio_up"], first["log_ratio_down"]) == (0.0, 0.0, 0.0)
    last = [made.weigh(segments(), WORTH) for _ in range(20)][-1]
    assert last["loss"] < -0.1
    assert last["log_ratio_up"] > 0 > last["log_ratio_down"]


def test_kl_holds_what_has_no_bound() -> None:
    """With negative weights alone a policy runs away; k2 keeps it."""
    down = list[float]()
    for coef in (0.0, 1.0):
        made = learner(llama(), frozen_copy(llama()), learning_rate=0.01, kl_coef=coef, kl_estimator="k2")
        down.append([made.weigh(segments(), [-1.0] * 7)["log_ratio_down"] for _ in range(40)][-1])
    assert down[0] < 2 * down[1] < 0


ROWS = [{"prompt": f"{a} + {b}?", "chosen": str(a + b), "rejected": "no idea"} for a in range(3) for b in range(2)]


def config(folder: Path, name: str = "run", logged: dict[str, Any] | None = None, **sections: Any) -> LoadedConfig:
    """Learns six pairs by which answer was preferred."""
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return run_config(folder, name, **{
        "train_type": "WEIGHTED_LOG_RATIO", "reward_plugins": [{"name": "env_reward"}],
        "logged": {"rollouts": [str(folder / "pairs.jsonl")], "weight": "dr_grpo", **(logged or {})}, **sections,
    })  # fmt: skip


def train(loaded: LoadedConfig, resume: bool = False, reporter: Any = None) -> Path:
    WeightedLogRatio().check(loaded)
    return WeightedLogRatio().train(loaded, resume, reporter or Quiet())


KINDS: dict[str, dict[str, Any]] = {
    "full": {"learning_rate": 0.01},
    "lora": {"learning_rate": 0.01, "kl_coef": 0.1, "lora": {"r": 4, "dropout": 0.1}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_preferences_are_learned_and_a_resumed_run_ends_in_the_same_bits(tmp_path: Path, kind: str) -> None:
    whole = train(config(tmp_path, "whole", training_args=KINDS[kind]))
    lines = RunStore(whole).metrics()
    assert lines[0]["loss"] == 0.0
    assert lines[-1]["log_ratio_up"] > lines[-1]["log_ratio_down"]
    cut = config(tmp_path, "cut", training_args=KINDS[kind])
    with pytest.raises(KeyboardInterrupt):
        train(cut, reporter=StopAfter(2))
    train(cut, resume=True)
    (a,), (b,) = (list((root / "final").glob("*.safetensors")) for root in (whole, cut.output_dir))
    assert all(torch.equal(t, load_file(b)[n]) for n, t in load_file(a).items())
    states = [torch.load(r / "checkpoints/step-4/learner.pt", weights_only=True) for r in (whole, cut.output_dir)]
    for mine, theirs in zip(*(s["optimizer"]["state"].values() for s in states), strict=True):
        assert all(torch.equal(mine[k], theirs[k]) for k in mine)
    told = [repeatable(RunStore(r).metrics()) for r in (whole, cut.output_dir)]
    assert told[0] == told[1]


def test_rollouts_of_a_run_are_scored_by_the_plugins_of_this_one(tmp_path: Path) -> None:
    collected = Grpo().train(run_config(tmp_path, "collected", training_args={"max_steps": 1}), False, Quiet())
    letters = run_config(tmp_path, "x").config.reward_plugins
    loaded = config(tmp_path, logged={"rollouts": [str(collected)], "weight": "reward"},
                    reward_plugins=[{"name": letters[0].name, "as": "letters", "weight": 2.0}])  # fmt: skip
    root = train(loaded)
    stored = read_trajectories(collected)
    assert len(stored) == 8
    early = [sum(c < "n" for c in t.response) / 10 for t in stored]
    found = worths(scored(load_logged(loaded.config), check_config(loaded)[1]), loaded)
    assert found == pytest.approx([2 * e for e in early], abs=1e-12)
    assert len(RunStore(root).metrics()) == 4


def test_groups_of_different_files_are_compared_apart(tmp_path: Path) -> None:
    more = [{"prompt": "x", "chosen": "y", "rejected": "z"}, {"prompt": "x", "chosen": "yy", "rejected": "z"}]
    (tmp_path / "more.jsonl").write_text("\n".join(map(json.dumps, more)))
    loaded = config(tmp_path, logged={"rollouts": [str(tmp_path / n) for n in ("pairs.jsonl", "more.jsonl")]})
    found = worths(scored(load_logged(loaded.config), check_config(loaded)[1]), loaded)
    assert found == [0.5, -0.5] * 8


@pytest.mark.parametrize(("sections", "said"), [
    ({"logged": None}, "WEIGHTED_LOG_RATIO needs a section 'logged' with 'rollouts: [folder, ...]'"),
    ({"reward_plugins": []}, "WEIGHTED_LOG_RATIO needs at least one entry in reward_plugins"),
    ({"reward_plugins": [{"name": "env_reward", "weight": {"schedule": "linear", "from": 0, "to": 1}}]},
     "'reward_plugins.0.weight' so: stored rollouts are scored once"),
    ({"sft": {"rollouts": ["x"]}}, "'sft' so: it learns from what 'logged' names"),
    ({"warm_start": {}}, "'warm_start' so: it learns from what 'logged' names"),
    ({"curriculum": {}}, "'curriculum' so: it learns from what 'logged' names"),
    ({"replay": {}}, "'replay' so: it learns from what 'logged' names"),
    ({"rewards": {"normalise": "normalise_then_sum"}}, "'rewards.normalise' so: rewards are compared by logged.weight"),
    ({"training_args": {"kl_in": "reward", "kl_coef": 0.1}}, "'training_args.kl_in' so: it is for tokens that the"),
    ({"training_args": {"kl_estimator": "rho_k3", "kl_coef": 1}}, "'training_args.kl_estimator' so: it is for tokens"),
])  # fmt: skip
def test_what_does_not_go_together_is_bad_input(tmp_path: Path, sections: dict[str, Any], said: str) -> None:
    if "logged" in sections:
        loaded = run_config(tmp_path, train_type="WEIGHTED_LOG_RATIO")  # type: ignore[arg-type]
    else:
        loaded = config(tmp_path, **sections)
    with pytest.raises(BadInput) as error:
        WeightedLogRatio().check(loaded)
    assert said in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}/run.yaml:")


def test_missing_rollouts_and_rollouts_without_weight_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"run\.yaml:\d+: no rollouts at nowhere; make some with: mmrl collect"):
        WeightedLogRatio().check(config(tmp_path, logged={"rollouts": ["nowhere"]}))
    same = [{**row, "rejected": row["chosen"]} for row in ROWS]
    with pytest.raises(BadInput, match=r"none of the 12 rollouts has a reward: some plugin failed on each, or none ap"):
        train(config(tmp_path, reward_plugins=[{"name": "exact_match"}]))  # pairs have no ground truth
    length = {"name": "length", "kwargs": {"max_length": 99, "unit": "characters"}}
    loaded = config(tmp_path, "other", reward_plugins=[length])
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, same)))
    with pytest.raises(BadInput, match=r"nothing to learn from 12 scored rollouts: with logged\.weight 'dr_grpo'"):
        train(loaded)
    (tmp_path / "pairs.jsonl").write_text("")
    with pytest.raises(BadInput, match=r"logged\.rollouts: no whole episode in them"):
        train(loaded)
