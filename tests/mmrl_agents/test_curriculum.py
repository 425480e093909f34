from pathlib import Path

import pytest
from learner_tools import run_config

from mmrl.config import Config, EnvironmentConfig
from mmrl.errors import BadInput
from mmrl.sampling_config import Curriculum
from mmrl_agents.curriculum import (
    check_curriculum,
    entry_names,
    followed,
    learnability,
    mix_metrics,
    mix_weights,
    success_by_entry,
)

MIX = [{"id": "a", "weight": 3.0}, {"id": "b"}, {"id": "b", "kwargs": {"hard": True}}]


def config(**keys: object) -> Config:
    return Config.model_validate({"train_type": "GRPO", "model_id": "m", "environments": MIX, **keys})


def test_learnability_by_hand() -> None:
    assert [learnability(p, 0.1) for p in (0.0, 0.25, 0.5, 0.75, 1.0, None)] == [0.1, 0.75, 1.0, 0.75, 0.1, 1.0]
    assert learnability(0.02, 0.1) == 0.1
    assert learnability(0.02, 0.01) == pytest.approx(4 * 0.02 * 0.98)


def test_weights_are_the_configs_times_learnability() -> None:
    success = (0.25, None, 1.0)
    assert mix_weights(config(), success) == [3.0, 1.0, 1.0]
    assert mix_weights(config(curriculum={"floor": 0.2}), success) == pytest.approx([2.25, 1.0, 0.2])
    assert mix_weights(config(curriculum={"floor": 1.0}), success) == [3.0, 1.0, 1.0]


def test_success_is_smoothed_and_the_first_is_taken_as_it_is() -> None:
    curriculum = Curriculum(smoothing=0.75)
    once = followed(curriculum, (None, None, 0.5), (0.4, None, 1.0))
    assert once == (0.4, None, 0.75 * 0.5 + 0.25)
    assert followed(curriculum, once, (0.0, 1.0, None)) == pytest.approx((0.3, 1.0, 0.625))
    assert followed(Curriculum(smoothing=0.0), (0.9, 0.9, 0.9), (0.1, None, 0.3)) == (0.1, 0.9, 0.3)
    assert followed(None, (None, None), (0.4, 0.5)) == (None, None)


def test_success_of_each_entry_is_over_all_of_its_episodes() -> None:
    wins = [True, False, False, False, True, True]
    assert success_by_entry([2, 0, 2], wins, 2, 3) == [0.0, None, 0.75]


def test_metrics_of_the_mix() -> None:
    environments = config().environments
    assert entry_names(environments) == ["a", "b", "b#2"]
    assert mix_metrics(environments, [2.0, 1.0, 1.0], [0.5, None, 0.0]) == {
        "mix/a": 0.5, "mix/b": 0.25, "mix/b#2": 0.25, "success/a": 0.5, "success/b#2": 0.0,
    }  # fmt: skip
    assert mix_metrics([EnvironmentConfig(id="a")], [2.0], [0.5]) == {}


def test_a_curriculum_of_one_environment_is_bad_input(tmp_path: Path) -> None:
    loaded = run_config(tmp_path, curriculum={"floor": 0.2})
    with pytest.raises(BadInput, match=r"run\.yaml:\d+: a curriculum weighs environments against each other; list two"):
        check_curriculum(loaded)
    check_curriculum(run_config(tmp_path))
    check_curriculum(run_config(tmp_path, environments=[{"id": "text/arithmetic"}] * 2, curriculum={}))


@pytest.mark.parametrize(("key", "value"), [("floor", 0.0), ("floor", 1.1), ("smoothing", 1.0), ("smoothing", -0.1)])
def test_values_out_of_range_are_refused(key: str, value: float) -> None:
    with pytest.raises(ValueError, match="should be"):
        Curriculum.model_validate({key: value})
