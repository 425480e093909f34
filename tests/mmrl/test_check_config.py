from pathlib import Path

import pytest

from mmrl.check_config import check_config
from mmrl.config_load import LoadedConfig, load_config
from mmrl.errors import BadInput
from mmrl.registry import LEARNERS
from mmrl.report import Reporter

TEXT = """\
train_type: FAKE
model_id: none
environments:
  - id: text/arithmetic
    kwargs: {high: 5}
reward_plugins:
  - name: exact_match
    weight: 2
  - name: number_match
    as: number
"""


class Fake:
    """A learner that accepts everything but the model ``bad``."""

    def check(self, loaded: LoadedConfig) -> None:
        if loaded.config.model_id == "bad":
            raise BadInput(f"{loaded.where('model_id')}: no such model")

    def train(self, loaded: LoadedConfig, resume: bool, reporter: Reporter) -> Path:
        return loaded.output_dir


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(LEARNERS.local, "FAKE", Fake)
    path = tmp_path / "run.yaml"
    path.write_text(TEXT)
    return path


def test_gives_the_learner_and_the_suite(path: Path) -> None:
    trainer, suite = check_config(load_config(path))
    assert isinstance(trainer, Fake)
    assert [(name, weight) for name, weight, _ in suite.plugins] == [("exact_match", 2.0), ("number", 1.0)]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("FAKE", "FAKF", "run.yaml:1: unknown train_type 'FAKF'; did you mean 'FAKE'?"),
        ("none", "bad", "run.yaml:2: no such model"),
        ("arithmetic", "aritmetic",
         "run.yaml:4: unknown environment 'text/aritmetic'; did you mean 'text/arithmetic'?"),
        ("high: 5", "hihg: 5", "run.yaml:4: environment 'text/arithmetic' does not take these arguments"),
        ("high: 5", "operations: x", "run.yaml:4: text/arithmetic's operations"),
        ("exact_match", "exact_mach", "run.yaml:7: unknown plugin 'exact_mach'; did you mean 'exact_match'?"),
        ("weight: 2", "kwargs: {foo: 1}", "run.yaml:7: plugin 'exact_match' does not take these kwargs"),
        ("as: number", "as: exact_match", "run.yaml:9: two reward plugins are called 'exact_match'"),
        ("kwargs: {high: 5}", "seeds: {start: 199, count: 9}",
         "run.yaml:5: training seeds 199... overlap with the held-out seeds 0-199"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(path: Path, old: str, new: str, expected: str) -> None:
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(BadInput) as caught:
        check_config(load_config(path))
    assert str(caught.value).replace(f"{path.parent}/", "").startswith(expected)


def test_seeds_just_beside_the_held_out_ones_are_fine(path: Path) -> None:
    path.write_text(TEXT.replace("kwargs: {high: 5}", "seeds: {start: 200, count: 499800}"))
    check_config(load_config(path))
    with pytest.raises(BadInput, match="500000-500099"):
        check_config(load_config(path, ["environments.0.seeds.count=499801"]))


def test_evaluation_environments_are_checked_too(path: Path) -> None:
    path.write_text(TEXT + "eval:\n  environments:\n    - id: text/aritmetic\n")
    with pytest.raises(BadInput, match=r"run\.yaml:13: unknown environment"):
        check_config(load_config(path))
