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
    assert [(m.name, m.config.weight) for m in suite.members] == [("exact_match", 2.0), ("number", 1.0)]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("FAKE", "FAKF", "run.yaml:1: unknown train_type 'FAKF'; did you mean 'FAKE'?"),
        ("none", "bad", "run.yaml:2: no such model"),
        ("arithmetic", "aritmetic",
         "run.yaml:4: unknown environment 'text/aritmetic'; did you mean 'text/arithmetic'?"),
        ("high: 5", "hihg: 5", "run.yaml:4: environment 'text/arithmetic' does not take these arguments: "
         "there is no 'hihg'; did you mean 'high'? It takes operations, low, high, prompt, system"),
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


def test_a_field_that_no_environment_provides_is_named_before_anything_loads(path: Path, tmp_path: Path) -> None:
    body = "import mmrl\nclass Sees(mmrl.RewardPlugin):\n  compute = lambda s, images: 1.0\n"
    (tmp_path / "sees.py").write_text(body)
    path.write_text(TEXT.replace("exact_match", f"{tmp_path}/sees.py:Sees\n    as: sees"))
    said = r"run\.yaml:7: plugin 'sees' needs 'images', which none of the environments \(text/arithmetic\) provides"
    with pytest.raises(BadInput, match=said):
        check_config(load_config(path))
    path.write_text(TEXT.replace("text/arithmetic\n    kwargs: {high: 5}", "minigrid/Empty-5x5"))
    with pytest.raises(BadInput, match=r"run\.yaml:6: plugin 'exact_match' needs 'reference', which none of the"):
        check_config(load_config(path))


LATE = """
import mmrl, numpy as np
picture = mmrl.Image(np.zeros((4, 4, 3), np.uint8))

class Rare(mmrl.SingleTurnEnv):
    def reset(self, *, seed=None, options=None):
        self.seed = seed
        return super().reset(seed=seed, options=options)
    def draw(self):
        return mmrl.Sample.ask((mmrl.Text("?"), *[picture] * (self.seed == 1_000_040)), "a")

class Later(mmrl.GymTextEnv):
    def __init__(self):
        super().__init__("Taxi-v4")
    def describe(self, observation, info):
        return [mmrl.Text("go"), *[picture] * ("here" in self.__dict__)]
    def parse(self, text):
        self.here = True
        return 0
"""


def test_images_or_videos_may_be_rare_or_come_later_but_not_lack(path: Path, tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    clip = TEXT.replace("exact_match", "clip_similarity").replace("  - name: number_match\n    as: number\n", "")
    for name in ("Rare", "Later"):
        path.write_text(clip.replace("text/arithmetic\n    kwargs: {high: 5}", f"{tmp_path}/late.py:{name}"))
        check_config(load_config(path))
    path.write_text(clip.replace("text/arithmetic\n    kwargs: {high: 5}", "babyai/balrog-goto"))
    said = (r"run\.yaml:6: plugin 'clip_similarity' needs 'images' or 'videos', which none of the environments "
            r"\(babyai/balrog-goto\) provides; remove it, or add one that has images; BabyAI and MiniGrid show images "
            r"with kwargs: \{observation: image\}, or both$")  # fmt: skip
    with pytest.raises(BadInput, match=said):
        check_config(load_config(path))
    check_config(load_config(path, ["environments.0.kwargs={observation: both}"]))


def test_plugin_files_run_first(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import mmrl\n@mmrl.reward_plugin\ndef mine(response):\n  return 0.5\n")
    path.write_text(TEXT.replace("exact_match", "mine") + f"plugin_files: [{file}]\n")
    assert [m.name for m in check_config(load_config(path))[1].members] == ["mine", "number"]
    path.write_text(TEXT + "plugin_files: [nowhere.py]\n")
    with pytest.raises(BadInput, match=r"run\.yaml:11: plugin file: no file nowhere\.py"):
        check_config(load_config(path))


@pytest.mark.parametrize(("line", "expected"), [
    ("weight: {schedule: linear, from: 1}", "run.yaml:8: 'reward_plugins.0.weight.to' is missing"),
    ("weight: heavy", "run.yaml:8: 'reward_plugins.0.weight': input should be a valid number"),
    ("gate: {below: 0, forse: 1}", "run.yaml:8: unknown key 'reward_plugins.0.gate.forse'; did you mean 'force'?"),
    ("timeout_s: 0", "run.yaml:8: 'reward_plugins.0.timeout_s': input should be greater than 0"),
])  # fmt: skip
def test_bad_keys_of_an_entry(path: Path, line: str, expected: str) -> None:
    path.write_text(TEXT.replace("weight: 2", line))
    with pytest.raises(BadInput) as error:
        check_config(load_config(path))
    assert str(error.value).replace(f"{path.parent}/", "").startswith(expected)


@pytest.mark.parametrize(("more", "key"), [
    ("training_args: {turn_discount: 0.5}", "training_args.turn_discount"),
    ("training_args: {turn_baseline: state}", "training_args.turn_baseline"),
    ("", "rewards.clip"),
    ("training_args: {kl_in: reward, kl_coef: 0.1}", "training_args.kl_in"),
])  # fmt: skip
def test_what_works_on_sums_does_not_go_with_scores_compared_one_by_one(path: Path, more: str, key: str) -> None:
    clip = "" if more else ", clip: [0, 1]"
    path.write_text(TEXT + f"rewards: {{normalise: normalise_then_sum{clip}}}\n{more}\n")
    with pytest.raises(BadInput, match=f"'{key}' works on sums of scores; it does not go with"):
        check_config(load_config(path))


def test_experts_seeds_stay_away_from_the_held_out_ones(path: Path) -> None:
    path.write_text(TEXT + "warm_start: {first_seed: 150, episodes: 10}\n")
    with pytest.raises(BadInput, match=r"run\.yaml:11: the experts' seeds 150-159 overlap with the held"):
        check_config(load_config(path))


def test_the_suite_takes_the_learners_discount_and_the_clip(path: Path) -> None:
    path.write_text(TEXT + "rewards: {clip: [-1, 1]}\ntraining_args: {turn_discount: 0.5}\n")
    suite = check_config(load_config(path))[1]
    assert (suite.clip, suite.discount) == ((-1.0, 1.0), 0.5)
