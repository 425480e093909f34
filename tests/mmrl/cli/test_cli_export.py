"""``mmrl export``: files that other trainers load, made of a run's configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CONFIG = """train_type: GRPO
model_id: none
environments:
  - id: text/arithmetic
reward_plugins:
  - name: exact_match
rewards: {clip: [0, 1]}
"""


@pytest.fixture(autouse=True)
def config(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(CONFIG)


@pytest.mark.parametrize("trainer", ["swift", "verl"])
def test_a_file_is_written_once(trainer: str, mmrl: Callable[..., Any], tmp_path: Path) -> None:
    code, out, err = mmrl("export", trainer, "run.yaml", "reward.py")
    assert (code, err) == (0, "")
    assert "reward.py" in out
    first = (tmp_path / "reward.py").read_text()
    assert "- name: exact_match\nrewards:\n  clip:\n  - 0.0\n  - 1.0\n" in first
    assert mmrl("export", trainer, "run.yaml", "reward.py") == (
        2, "", "mmrl: reward.py exists; --force (in Python: force=True) replaces it\n")  # fmt: skip
    assert mmrl("export", trainer, "run.yaml", "reward.py", "reward_plugins.0.weight=2", "--force")[0] == 0
    assert "  weight: 2.0\n" in (tmp_path / "reward.py").read_text()


def test_options_reach_the_file(mmrl: Callable[..., Any], tmp_path: Path) -> None:
    assert mmrl("export", "swift", "run.yaml", "a.py", "--reference", "solution", "--name", "qa")[0] == 0
    assert "reference='solution'" in (tmp_path / "a.py").read_text()
    assert "orms['qa'] = MmrlReward" in (tmp_path / "a.py").read_text()
    assert mmrl("export", "verl", "run.yaml", "b.py", "--question", "raw")[0] == 0
    assert "question='raw'" in (tmp_path / "b.py").read_text()
    assert mmrl("export", "verl", "run.yaml", "c.py", "--question", "")[0] == 0
    assert "question=None" in (tmp_path / "c.py").read_text()


def test_bad_input_is_one_line(mmrl: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(CONFIG.replace("exact_match", "exact_mach"))
    assert mmrl("export", "verl", "wrong.yaml", "reward.py") == (
        2, "", "mmrl: wrong.yaml:6: unknown plugin 'exact_mach'; did you mean 'exact_match'?\n")  # fmt: skip
    assert mmrl("export", "swift", "run.yaml", "swift.py")[0] == 2
    assert mmrl("export", "swift", "no.yaml", "reward.py")[0] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.yaml", "wrong.yaml"]


@pytest.mark.parametrize("words", ["export swift", "export verl"])
def test_every_help_has_an_example(words: str, mmrl: Callable[..., Any]) -> None:
    code, out, _ = mmrl(*words.split(), "--help")
    assert code == 0
    assert f"mmrl {words} " in out.split("For example:")[1]
