from pathlib import Path
from typing import Any

import pytest
from learner_tools import run_config

from mmrl.errors import BadInput
from mmrl_agents.check_processes import check_batch, check_processes, check_sharded


def sizes(rows: int, steps: int, group: int) -> dict[str, Any]:
    return {"per_device_train_batch_size": rows, "gradient_accumulation_steps": steps, "num_generations": group}


@pytest.mark.parametrize(
    ("rows", "steps", "group", "count", "near"),
    [(4, 3, 4, 8, "to 2 (8) or 4 (16)"), (1, 4, 4, 3, "to 12 (12)"), (3, 1, 3, 2, "to 2 (6)")],
)
def test_a_batch_that_does_not_divide_names_the_nearest_that_do(tmp_path: Path, rows: int, steps: int, group: int,
                                                                count: int, near: str) -> None:
    loaded = run_config(tmp_path, training_args=sizes(rows, steps, group))
    with pytest.raises(BadInput) as caught:
        check_batch(loaded, count)
    assert f"{rows * steps} trajectories of a step do not divide over {count} processes" in str(caught.value)
    assert str(caught.value).endswith(near)
    assert "run.yaml:" in str(caught.value)


def test_a_batch_that_divides_passes(tmp_path: Path) -> None:
    check_batch(run_config(tmp_path), 8)
    check_sharded(run_config(tmp_path))


@pytest.mark.parametrize(
    ("args", "key"),
    [
        ({"optim": "galore_adamw"}, "training_args.optim: optim 'galore_adamw' needs whole weights"),
        ({"load_in_4bit": True, "lora": {"r": 2}}, "training_args.load_in_4bit: 4-bit weights cannot be cut"),
        ({"freeze_vision": False}, "training_args.freeze_vision: a vision tower that learns"),
        ({"lora": {"vision": True}}, "training_args.lora.vision: a vision tower that learns"),
    ],
)
def test_what_cut_weights_cannot_do_is_refused(tmp_path: Path, args: dict[str, Any], key: str) -> None:
    with pytest.raises(BadInput, match=r"run\.yaml:") as caught:
        check_sharded(run_config(tmp_path, training_args=args))
    assert key in str(caught.value)


def test_what_the_launcher_asks_for_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(BadInput, match="the launcher asks for --mixed_precision"):
        check_processes(run_config(tmp_path))
