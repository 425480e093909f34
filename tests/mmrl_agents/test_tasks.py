from pathlib import Path
from typing import Any

import pytest
from learner_tools import run_config

from mmrl.config import Config, EnvironmentConfig, Seeds
from mmrl.errors import BadInput
from mmrl_agents.tasks import BATCH, Plan, check_batch, plan, step_entries, step_specs, task_seed


def config(environments: list[dict[str, Any]], **args: Any) -> Config:
    return Config.model_validate(
        {"train_type": "GRPO", "model_id": "m", "environments": environments, "training_args": args}
    )


ONE = [{"id": "a"}]
MIX = [{"id": "a", "weight": 3.0, "seeds": {"start": 10, "count": 4}}, {"id": "b", "kwargs": {"k": 1}}]


def test_plan_cuts_the_batch_into_groups() -> None:
    sizes = {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 4, "num_generations": 8}
    assert plan(config(ONE, max_steps=5, **sizes)) == Plan(groups=3, size=8, steps=5)
    assert plan(config(ONE, num_train_epochs=1.5, **sizes)) == Plan(3, 8, 500)
    assert plan(config(MIX, **sizes)) == Plan(3, 8, round(1004 / 3))
    assert plan(config([{"id": "a", "seeds": {"count": 1}}], **sizes)).steps == 1


def test_a_batch_of_broken_groups_is_bad_input() -> None:
    with pytest.raises(BadInput, match=r"is 12, which must be a multiple of num_generations \(8\)"):
        plan(config(ONE, per_device_train_batch_size=12, num_generations=8))


def test_a_group_shares_environment_and_seed_and_nothing_shares_noise() -> None:
    c, sizes = config(MIX, seed=5), Plan(6, 4, 10)
    specs, cursor = step_specs(c, sizes, 3, (0, 0))
    assert len(specs) == 24
    for g in range(6):
        group = specs[4 * g : 4 * g + 4]
        assert len({(s.env_id, s.seed, s.group) for s in group}) == 1
    assert len({s.id for s in specs}) == len({s.key for s in specs}) == 24
    assert len({s.group for s in specs}) == 6
    assert specs == sorted(specs, key=lambda s: s.id)
    assert sum(cursor) == 6
    assert {s.env_id: dict(s.kwargs) for s in specs} == {"a": {}, "b": {"k": 1}}
    other, _ = step_specs(c, sizes, 4, (0, 0))
    assert not {s.key for s in specs} & {s.key for s in other}
    assert not {s.group for s in specs} & {s.group for s in other}


def test_specs_are_a_function_of_config_step_and_cursor() -> None:
    c = config(MIX)
    assert step_specs(c, Plan(3, 2, 9), 2, (1, 7)) == step_specs(c, Plan(3, 2, 9), 2, (1, 7))


def test_the_cursor_walks_through_the_tasks_and_around() -> None:
    c, cursor, seeds = config([{"id": "a", "seeds": {"start": 10, "count": 4}}]), [0], []
    for step in range(1, 4):
        specs, cursor = step_specs(c, Plan(2, 2, 9), step, cursor)
        seeds += [s.seed for s in specs][::2]
    assert (seeds, cursor) == ([10, 11, 12, 13, 10, 11], [6])
    assert task_seed(EnvironmentConfig(id="a", seeds=Seeds(start=7)), 10**6) == 7 + 10**6


def test_weights_are_shares_of_the_tasks() -> None:
    c, cursor = config(MIX), [0, 0]
    for step in range(1, 51):
        _, cursor = step_specs(c, Plan(8, 2, 50), step, cursor)
    assert sum(cursor) == 400
    assert cursor[0] == pytest.approx(300, abs=30)


def test_a_further_round_goes_on_with_numbers_noise_and_mix() -> None:
    """Two rounds, 3 tasks and then 2, are the episodes of one round of 5."""
    c = config(MIX, seed=5)
    first, cursor = step_specs(c, Plan(3, 2, 9), 2, (1, 7))
    second, after = step_specs(c, Plan(2, 2, 9), 2, cursor, first=3)
    assert (first + second, after) == step_specs(c, Plan(5, 2, 9), 2, (1, 7))
    assert [s.id for s in second] == [f"s000002-{n:05d}" for n in range(6, 10)]
    assert [s.key for s in second] == [(1, 5, 2, n) for n in range(6, 10)]
    assert [s.group for s in second][::2] == ["s000002-g0003", "s000002-g0004"]


def test_entries_say_which_environment_a_task_is_of() -> None:
    c = config([*MIX, {"id": "a"}], seed=5)
    entries = step_entries(c, 3, 40)
    assert set(entries) == {0, 1, 2}
    assert [("a", "b", "a")[e] for e in entries] == [s.env_id for s in step_specs(c, Plan(40, 1, 9), 3, (0, 0, 0))[0]]
    assert step_entries(c, 3, 7) == entries[:7]
    assert set(step_entries(c, 3, 40, (0.0, 1.0, 1.0))) == {1, 2}


def test_training_seeds_never_meet_the_held_out_ones(tmp_path: Path) -> None:
    c = run_config(tmp_path).config
    first = min(s.seed for s in step_specs(c, plan(c), 1, (0,))[0])
    assert first > c.eval.seed + c.eval.episodes
    assert first > c.eval.final_seed + c.eval.final_episodes


def test_a_batch_that_holds_no_whole_groups_is_named_with_its_lines(tmp_path: Path) -> None:
    loaded = run_config(tmp_path, training_args={"num_generations": 3})
    with pytest.raises(BadInput) as error:
        check_batch(loaded)
    path = tmp_path / "run.yaml"
    lines = path.read_text().splitlines()
    places = [f"{path}:{next(n for n, line in enumerate(lines, 1) if f'{key}:' in line)}" for key in BATCH]
    assert str(error.value) == (
        f"{' and '.join(places)}: training_args: per_device_train_batch_size (4) * gradient_accumulation_steps (2) is "
        "8, which must be a multiple of num_generations (3)"
    )
    check_batch(run_config(tmp_path))
