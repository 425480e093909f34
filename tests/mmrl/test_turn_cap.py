from pathlib import Path
from typing import Any

import pytest

from mmrl.config import RolloutConfig
from mmrl.config_load import dump_config, load_config
from mmrl.errors import BadInput
from mmrl.run_state import RunState
from mmrl.turn_cap import cap_at, cap_metrics, largest

LINEAR = {"schedule": "linear", "from": 8, "to": 20, "end": 0.5}


def cap(value: Any) -> Any:
    return RolloutConfig.model_validate({"max_turns": value}).max_turns


def test_a_number_and_nothing_stay() -> None:
    for value in (7, None):
        assert [cap_at(cap(value), RunState(s, s / 10)) for s in range(10)] == [value] * 10
        assert largest(cap(value)) == value
        assert cap_metrics(cap(value), RunState(3)) == {}


def test_linear_at_each_step() -> None:
    """A run of 10 steps: step s begins with (s - 1)/10 of it over; 8 + 12 * min(1, 2 (s - 1)/10)."""
    caps = [cap_at(cap(LINEAR), RunState(s, (s - 1) / 10)) for s in range(1, 11)]
    assert caps == [8, 10, 13, 15, 18, 20, 20, 20, 20, 20]
    assert cap_metrics(cap(LINEAR), RunState(3, 0.2)) == {"max_turns": 13}


def test_by_step_and_by_success() -> None:
    steps = cap({"schedule": "steps", "values": {1: 4, 3: 16, 5: 8}})
    assert [cap_at(steps, RunState(s)) for s in range(1, 7)] == [4, 4, 16, 16, 8, 8]
    by = cap({"schedule": "metric", "metric": "success", "from": 6, "to": 12, "start": 0.2, "end": 0.6})
    assert cap_at(by, RunState(1)) == 6
    assert [cap_at(by, RunState(2, metrics={"success": p})) for p in (0.1, 0.4, 0.9)] == [6, 9, 12]
    assert [largest(c) for c in (steps, by, cap(LINEAR), cap({**LINEAR, "to": 2}))] == [16, 12, 20, 8]


@pytest.mark.parametrize(("given", "words"), [
    ("0", "'rollout.max_turns': input should be greater than 0, not 0"),
    ("2.5", "'rollout.max_turns': input should be a valid integer"),
    ("{from: 2, to: 4}", "'rollout.max_turns': should be a number, or a mapping with schedule: linear"),
    ("{schedule: linear, from: 0, to: 8}", "turns are whole numbers from 1 on, and 0 is none"),
    ("{schedule: linear, from: 2, to: 8.5}", "turns are whole numbers from 1 on, and 8.5 is none"),
    ("{schedule: steps, values: {1: 3, 9: -1}}", "turns are whole numbers from 1 on, and -1 is none"),
    ("{schedule: linear, from: 2, to: 8, start: 0.6, end: 0.5}", "start (0.6) must lie before end (0.5)"),
    ("{schedule: linear, from: 2}", "'rollout.max_turns.to' is missing"),
    ("{schedule: linear, form: 2, to: 4}", "'rollout.max_turns.from' is missing"),
])  # fmt: skip
def test_a_wrong_cap_is_one_line_with_its_place(tmp_path: Path, given: str, words: str) -> None:
    text = f"train_type: GRPO\nmodel_id: m\nenvironments: [{{id: e}}]\nrollout:\n  max_turns: {given}\n"
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(BadInput) as error:
        load_config(tmp_path / "c.yaml")
    assert str(error.value).startswith(f"{tmp_path}/c.yaml:5: '")
    assert words in str(error.value)


def test_a_schedule_is_written_out_and_read_again(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "train_type: GRPO\nmodel_id: m\nenvironments: [{id: e}]\n"
        "rollout: {max_turns: {schedule: linear, from: 8, to: 20, end: 0.5}}\n"
    )
    config = load_config(tmp_path / "c.yaml").config
    (tmp_path / "d.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "d.yaml").config == config
    assert load_config(tmp_path / "d.yaml", ["rollout.max_turns=5"]).config.rollout.max_turns == 5
