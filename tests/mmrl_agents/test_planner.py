from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from learner_tools import run_config

from mmrl.config import Config, LoraArgs
from mmrl.memory import Phase
from mmrl.trainer import Planner
from mmrl_agents.planner import KNOBS, turn, with_settings
from mmrl_agents.train import Grpo

Costs = Callable[[Config], Mapping[str, int]]


def phases_of(costs: Costs) -> Callable[[Config], tuple[Phase, ...]]:
    return lambda config: tuple(Phase(name, {"all": n}) for name, n in costs(config).items())


def advised(config: Config, limit: int, costs: Costs) -> list[tuple[str, int]]:
    of = phases_of(costs)
    return [(" ".join(t.settings), t.peak) for t in turn(config, of(config), limit, of)]


def by_rows(config: Config) -> Mapping[str, int]:
    """A run whose update takes 100 a row, half with checkpointing, beside weights of 1000."""
    args = config.training_args
    layers = 50 if args.gradient_checkpointing else 100
    return {"rollout": 1000, "update": (500 if args.bf16 else 1000) + layers * args.per_device_train_batch_size}


def test_what_changes_no_result_is_turned_first(tmp_path: Path) -> None:
    config = run_config(tmp_path, training_args={"per_device_train_batch_size": 16}).config
    assert by_rows(config)["update"] == 2600
    assert advised(config, 2600, by_rows) == []
    rows = "training_args.per_device_train_batch_size={} training_args.gradient_accumulation_steps={}"
    assert advised(config, 1900, by_rows) == [(rows.format(8, 4), 1800)]
    assert advised(config, 1300, by_rows) == [(rows.format(2, 16), 1200)]  # one line for three halvings
    assert advised(config, 1060, by_rows) == [(rows.format(1, 32), 1100), ("training_args.gradient_checkpointing=true", 1050)]


def test_settings_that_do_nothing_are_left(tmp_path: Path) -> None:
    config = run_config(tmp_path, training_args={"per_device_train_batch_size": 4}).config
    flat = {"rollout": 3000, "update": 1000}
    assert advised(config, 2000, lambda c: flat) == []
    assert advised(config, 2000, lambda c: {**flat, "rollout": 1500 if c.training_args.bf16 else 3000}) == [
        ("training_args.bf16=true", 1500)
    ]


def test_a_peak_that_moves_to_another_phase_begins_from_the_first_setting(tmp_path: Path) -> None:
    """The evaluation is the worst until fewer episodes run at once; then the update is, and its rows count."""
    config = run_config(tmp_path, eval={"final_episodes": 64}).config

    def costs(c: Config) -> Mapping[str, int]:
        return {"evaluation": 100 * min(c.rollout.concurrency, 64), "update": 800 * c.training_args.per_device_train_batch_size}

    assert advised(config, 2000, costs) == [
        ("rollout.concurrency=32", 3200),
        ("training_args.per_device_train_batch_size=2 training_args.gradient_accumulation_steps=4", 3200),
        ("rollout.concurrency=16", 1600),
    ]


def test_every_setting_is_one_of_the_configuration(tmp_path: Path) -> None:
    config = run_config(tmp_path, eval={"episodes": 9}).config
    for knob in KNOBS:
        settings = knob.settings(config)
        if settings:
            assert with_settings(config, settings) != config
            assert Config.model_validate(with_settings(config, settings).model_dump(by_alias=True))
    adapter = with_settings(config, {"training_args.lora": LoraArgs()})
    (four_bit,) = [k for k in KNOBS if "load_in_4bit" in str(k.settings(adapter))]
    assert four_bit.settings(config) == {}
    assert four_bit.settings(with_settings(adapter, four_bit.settings(adapter))) == {}


@pytest.mark.parametrize("limit", [None, 2_700_000])
def test_a_plan_of_a_real_run(tmp_path: Path, limit: int | None) -> None:
    loaded = run_config(tmp_path, rollout={"max_new_tokens": 30})
    trainer = Grpo()
    assert isinstance(trainer, Planner)
    found = trainer.plan(loaded, limit)
    assert [p.name for p in found.phases] == ["rollout", "update", *(["checkpoint"] if limit is None else [])]
    assert found.peak == found.phases[1].total > 2_000_000
    assert found.phases[0].parts["optimiser"] == 2 * found.phases[1].parts["gradients"]
    assert "every answer 30 tokens long" in found.basis[0]
    assert not (tmp_path / "run").exists()
    if limit is None:
        assert found.turned == ()
    else:
        assert found.turned[0].settings[0] == "training_args.per_device_train_batch_size=2"
        assert found.turned[-1].peak <= limit < found.peak
