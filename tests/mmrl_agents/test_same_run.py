from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from learner_tools import StopAfter, run_config
from tiny_model import save_tiny_model

from mmrl.config_load import LoadedConfig, dump_config
from mmrl.errors import BadInput
from mmrl_agents.same_run import check_same_config, differences
from mmrl_agents.train import Grpo


def begun(folder: Path, **sections: Any) -> LoadedConfig:
    """The configuration of a run that has no more than its config yet."""
    loaded = run_config(folder, **sections)
    loaded.output_dir.mkdir(exist_ok=True)
    (loaded.output_dir / "config.yaml").write_text(dump_config(loaded.config))
    return loaded


def test_every_difference_is_named_with_its_key() -> None:
    before = {"a": 1, "b": {"c": [1, {"d": None}], "e": "x"}, "gone": {"k": 1}}
    now = {"a": 1, "b": {"c": [2, {"d": 3}, 4], "e": "y"}, "new": True}
    assert [*differences(before, now)] == [
        "b.c.0: was 1, now 2", "b.c.1.d: was null, now 3", "b.c.2: was absent, now 4", 'b.e: was "x", now "y"',
        'gone: was {"k": 1}, now absent', "new: was absent, now true",
    ]  # fmt: skip
    assert [*differences(now, now)] == []


def test_another_config_is_bad_input_with_all_that_differs(tmp_path: Path) -> None:
    begun(tmp_path)
    changed = run_config(tmp_path, training_args={"learning_rate": 0.5, "lora": {"r": 4}}, rollout={"window": 2},
                         environments=[{"id": "text/arithmetic", "weight": 2.0}])  # fmt: skip
    with pytest.raises(BadInput) as error:
        check_same_config(changed)
    lora = json.dumps(changed.config.model_dump(mode="json")["training_args"]["lora"])
    assert str(error.value) == (
        f"{tmp_path / 'run'} was started with another config: environments.0.weight: was 1.0, now 2.0; "
        f"training_args.learning_rate: was 0.001, now 0.5; training_args.lora: was null, now {lora}; "
        "rollout.window: was null, now 2; resume with the same config and overrides, or choose another "
        "training_args.output_dir"
    )


def test_where_a_run_has_a_policy_it_is_said_how_to_train_that_on(tmp_path: Path) -> None:
    begun(tmp_path)
    changed = run_config(tmp_path, training_args={"max_steps": 50})
    for name in ("final", "best"):  # best/ stands for the run if it is there
        (tmp_path / "run" / name).mkdir()
        onward = f"output_dir, where model_id: {tmp_path / 'run' / name} trains its {name} policy on"
        with pytest.raises(BadInput, match=re.escape(onward) + "$"):
            check_same_config(changed)


def test_a_run_may_be_moved_and_may_be_of_an_earlier_version(tmp_path: Path) -> None:
    loaded = begun(tmp_path)
    path = loaded.output_dir / "config.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["training_args"]["output_dir"] = "elsewhere"
    del tree["training_args"]["dual_clip"]
    path.write_text(yaml.safe_dump(tree))
    check_same_config(loaded)
    tree["training_args"]["dropped_since"] = 3
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(BadInput, match=r"config: training_args\.dropped_since: was 3, now absent"):
        check_same_config(loaded)


def test_nothing_is_asked_of_a_folder_without_a_run(tmp_path: Path) -> None:
    check_same_config(run_config(tmp_path))


def test_a_model_that_changed_behind_its_name_is_bad_input(tmp_path: Path) -> None:
    loaded = run_config(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        Grpo().train(loaded, False, StopAfter(1))
    files = {p: p.read_bytes() for p in loaded.output_dir.rglob("*") if p.is_file()}
    shutil.rmtree(tmp_path / "model")
    save_tiny_model(tmp_path / "model", hidden_size=64)
    with pytest.raises(BadInput) as error:
        Grpo().train(loaded, True, StopAfter(1))
    folder = loaded.output_dir / "checkpoints" / "step-1"
    assert str(error.value) == (
        f"{folder} is a checkpoint of another model than '{tmp_path / 'model'}' is now: hidden_size: was 32, "
        "now 64; intermediate_size: was 64, now 128; head_dim: was 8, now 16; put the model back, or start a new run "
        "in another training_args.output_dir"
    )
    assert files == {p: p.read_bytes() for p in loaded.output_dir.rglob("*") if p.is_file()}
