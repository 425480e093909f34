"""The suite under TRL's calling convention, and in real runs of its GRPOTrainer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_model import save_tiny_model

import mmrl
import mmrl.bridges.trl as bridge
from mmrl.bridges.trl import as_reward_func, as_reward_funcs
from mmrl.run_state import START, RunState

ROWS = {"prompts": ["1 + 1?", "2 + 2?"], "completions": ["2", "5"]}


def suite_of(*entries: dict[str, Any]) -> mmrl.RewardSuite:
    return mmrl.RewardSuite.from_config(entries)


class Seen(mmrl.RewardPlugin):
    """Keeps the trajectories that it is shown."""

    def __init__(self) -> None:
        self.trajectories: list[mmrl.Trajectory] = []

    def score(self, trajectories: Sequence[mmrl.Trajectory], state: RunState = START) -> list[mmrl.Score]:
        self.trajectories += trajectories
        return [mmrl.Score(float(state.step)) for _ in trajectories]


def shown(monkeypatch: pytest.MonkeyPatch) -> tuple[Seen, Callable[..., list[float | None]]]:
    from mmrl.registry import PLUGINS

    seen = Seen()
    monkeypatch.setitem(PLUGINS.local, "seen", seen)
    return seen, as_reward_func(suite_of({"name": "seen"}))


def test_plain_text_and_the_reference_column():
    func = as_reward_func(suite_of({"name": "exact_match"}))
    assert func(**ROWS, reference=["2", "4"], trainer_state=None) == [1.0, 0.0]
    assert as_reward_func(suite_of({"name": "exact_match"}), "answer")(**ROWS, answer=[2, [4, 5]]) == [1.0, 1.0]


def test_a_reference_column_that_is_missing_is_an_error_that_names_the_plugin():
    func = as_reward_func(suite_of({"name": "exact_match"}))
    message = "no column 'reference' with the ground truth that plugin 'exact_match' needs; it has solution, level: "
    with pytest.raises(mmrl.BadInput, match=message):
        func(**ROWS, solution=["2", "4"], level=[1, 1])
    with pytest.raises(mmrl.BadInput, match="no column 'answr'"):
        as_reward_func(suite_of({"name": "env_reward"}), "answr")(**ROWS, answer=["2", "4"])
    with pytest.raises(mmrl.BadInput, match="column 'reference' is a list of 2, one a completion, not '24'"):
        func(**ROWS, reference="24")


def test_a_conversation_becomes_turns(monkeypatch: pytest.MonkeyPatch):
    seen, func = shown(monkeypatch)
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is it?"}]
    completion = [
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "look"}}]},
        {"role": "tool", "name": "look", "content": "a box"},
        {"role": "assistant", "content": "In the box."},
    ]
    assert func(prompts=[prompt], completions=[completion], completion_ids=[[1, 2, 3]]) == [0.0]
    (t,) = seen.trajectories
    assert [(m.role, m.text) for m in t.messages] == [
        ("system", "Be brief."), ("user", "Where is it?"), ("assistant", ""), ("user", "a box"),
        ("assistant", "In the box.")]  # fmt: skip
    assert [mmrl.text_of(turn.observation) for turn in t.turns] == ["Where is it?", "a box"]
    assert [turn.token_ids for turn in t.turns] == [(), ()]  # whose tokens are whose is not said
    func(prompts=[prompt], completions=[completion[2:]], completion_ids=[[1, 2, 3]])
    assert seen.trajectories[1].turns[0].token_ids == (1, 2, 3)


def test_images_arrive_as_trl_places_them(monkeypatch: pytest.MonkeyPatch):
    from trl.data_utils import prepare_multimodal_messages

    seen, func = shown(monkeypatch)
    image = mmrl.Image(np.full((2, 3, 3), 7, np.uint8))
    prompt = prepare_multimodal_messages([{"role": "user", "content": "What is it?"}], images=[image.to_pil()])
    func(prompts=[prompt], completions=[[{"role": "assistant", "content": "grey"}]], images=[[image.to_pil()]])
    assert seen.trajectories[0].sample.messages == (mmrl.Message("user", (image, mmrl.Text("What is it?"))),)


def test_a_message_of_another_form_is_named(monkeypatch: pytest.MonkeyPatch):
    _, func = shown(monkeypatch)
    with pytest.raises(mmrl.BadInput, match=r"^completion 1: a message's role is one of .*, not 'critic'"):
        func(prompts=["a", "b"], completions=["c", [{"role": "critic", "content": "no"}]])


def test_no_reward_is_none_and_counted(plugins: str, caplog: pytest.LogCaptureFixture):
    funcs, weights = as_reward_funcs(suite_of(
        {"name": f"{plugins}:Vowels", "as": "vowels"}, {"name": f"{plugins}:Picky", "as": "picky", "weight": 3}))
    logged: dict[str, float] = {}
    batch = {"prompts": ["?"] * 3, "completions": ["ab", "abc", ""], "log_metric": logged.__setitem__}
    with caplog.at_level(logging.WARNING):
        rewards = [func(**batch) for func in funcs]
    assert [func.__name__ for func in funcs] == ["suite", "vowels", "picky"]
    assert weights == [1.0, 0.0, 0.0]
    # A failed score takes the whole row out, of every function; one that does not apply leaves the others scaled up.
    assert rewards == [[0.5 + 3 * 1.0, None, 0.0], [0.5, None, 0.0], [1.0, None, None]]
    assert logged == {"invalid": 1.0, "reward/vowels": pytest.approx((0.5 + 1 / 3) / 3), "failed/vowels": 0.0,
                      "reward/picky": 1.0, "failed/picky": 1.0}  # fmt: skip
    assert [r.getMessage() for r in caplog.records] == [
        "1 of 3 completions have no reward, the first because picky failed: ValueError: odd: abc"]


def test_a_plugins_function_called_by_itself_scores(plugins: str):
    funcs, _ = as_reward_funcs(suite_of({"name": f"{plugins}:Size", "as": "size"}))
    assert funcs[1](prompts=["?"], completions=["four"]) == [4.0]
    assert funcs[1](prompts=["?"], completions=["three"], plugin=["a column"]) == [5.0]


def test_there_is_no_environment_to_pay_or_to_judge():
    for name in ("env_reward", "task_completion", "action_cost"):
        assert as_reward_func(suite_of({"name": name}))(**ROWS) == [None, None]


def test_weights_follow_the_trainers_state(plugins: str):
    def reward(weight: dict[str, Any], step: int, *log: dict[str, Any]) -> float | None:
        suite = suite_of({"name": f"{plugins}:Size", "weight": weight})
        state = SimpleNamespace(global_step=step, max_steps=4, log_history=list(log))
        return as_reward_func(suite)(prompts=["?"], completions=["a"], trainer_state=state)[0]

    linear = {"schedule": "linear", "from": 0, "to": 8}
    assert [reward(linear, step) for step in (0, 1, 4, 5)] == [0.0, 2.0, 8.0, 8.0]
    steps = {"schedule": "steps", "values": {1: 1, 3: 5}}
    assert [reward(steps, step) for step in (0, 1, 2)] == [1.0, 1.0, 5.0]
    metric = {"schedule": "metric", "metric": "reward", "from": 1, "to": 3}
    log = [{"reward": 0.5, "kl": None}, {"eval_reward": 1.0}]
    assert [reward(metric, 1, *log[:n]) for n in (0, 1, 2)] == [1.0, 2.0, 2.0]
    with pytest.raises(mmrl.BadInput, match="the weight of 'size' is scheduled, but the trainer does not say"):
        as_reward_func(suite_of({"name": f"{plugins}:Size", "as": "size", "weight": linear}))(**ROWS)


def test_an_older_trl_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bridge, "version", lambda _: "1.5.2")
    with pytest.raises(mmrl.BadInput, match=r"TRL 1\.5\.2 counts .* without a reward as 0; install trl>=1\.6"):
        as_reward_func(suite_of({"name": "exact_match"}))
    with pytest.raises(mmrl.BadInput, match=r"install trl>=1\.6"):
        as_reward_funcs(suite_of({"name": "exact_match"}))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("model")))


def train(model: str, out: Path, prompts: list[Any], funcs: Any, weights: list[float] | None = None) -> Any:
    """Two steps of TRL's own trainer on the CPU, sixteen completions each."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    args = GRPOConfig(
        output_dir=str(out), max_steps=2, per_device_train_batch_size=16, num_generations=16, max_completion_length=6,
        logging_steps=1, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True, learning_rate=1e-2,
        reward_weights=weights, seed=1,
    )  # fmt: skip
    data = Dataset.from_dict({"prompt": prompts, "answer": ["4"] * len(prompts)})
    trainer = GRPOTrainer(model=model, reward_funcs=funcs, args=args, train_dataset=data)
    trainer.train()
    return trainer


def test_a_run_of_trl_is_paid_what_the_suite_says(model: str, plugins: str, tmp_path: Path):
    entries = [
        {"name": f"{plugins}:Vowels", "as": "vowels", "weight": {"schedule": "linear", "from": 2, "to": 0}},
        {"name": f"{plugins}:Size", "as": "size", "weight": 0.25},
        {"name": "exact_match", "weight": 1.0},
    ]
    funcs, weights = as_reward_funcs(suite_of(*entries), reference="answer")
    batches: list[tuple[list[Any], list[Any], list[float | None]]] = []

    def recording(prompts: list[Any], completions: list[Any], **kwargs: Any) -> list[float | None]:
        batches.append((prompts, completions, funcs[0](prompts, completions, **kwargs)))
        return batches[-1][2]

    recording.__name__ = "suite"
    prompts = [[{"role": "user", "content": f"{i} + {4 - i}?"}] for i in range(4)]
    trainer = train(model, tmp_path / "run", prompts, [recording, *funcs[1:]], weights)

    assert len(batches) == 2
    for i, (asked, said, rewards) in enumerate(batches):
        rollouts = []
        for prompt, completion in zip(asked, said, strict=True):
            sample = mmrl.Sample.ask(prompt[0]["content"], "4")
            turn = mmrl.Turn(sample.messages[0].content, completion[0]["content"])
            rollouts.append(mmrl.Trajectory("", "", 0, "", sample, (turn,), True, False))
        own = suite_of(*entries).score(rollouts, RunState(i + 1, i / 2))
        assert rewards == [r.value for r in own]
        assert len(set(rewards)) > 1
        log = trainer.state.log_history[i]
        assert log["step"] == i + 1
        assert log["reward"] == pytest.approx(np.mean(rewards), rel=1e-6)
        for name in ("vowels", "size", "exact_match"):
            mean = np.mean([r.scores[name].value for r in own])
            assert log[f"rewards/{name}/mean"] == pytest.approx(mean, rel=1e-6)
            assert log[f"reward/{name}"] == pytest.approx(mean, rel=1e-6)
        assert log["invalid"] == 0.0


def test_trl_leaves_out_what_has_no_reward(model: str, plugins: str, tmp_path: Path):
    suite = suite_of({"name": f"{plugins}:Size", "as": "size"}, {"name": f"{plugins}:Picky", "as": "picky"})
    func = as_reward_func(suite)
    trainer = train(model, tmp_path / "run", ["Say something:"] * 4, func)
    texts, advantages = list(trainer._logs["completion"]), np.array(trainer._logs["advantages"])
    rewards = func(["Say something:"] * len(texts), texts)
    valid = np.array([r is not None for r in rewards])
    assert 1 < valid.sum() < len(valid)
    kept = np.array([r for r in rewards if r is not None])
    log = trainer.state.log_history[1]
    assert log["reward"] == pytest.approx(kept.mean(), rel=1e-6)
    assert (log["invalid"], log["failed/picky"]) == ((~valid).sum(), (~valid).sum())
    assert (advantages[~valid] == 0).all()
    assert advantages[valid] == pytest.approx((kept - kept.mean()) / (kept.std(ddof=1) + 1e-4), rel=1e-4)
