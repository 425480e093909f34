from pathlib import Path

import pytest

from mmrl.config import EnvironmentConfig
from mmrl.config_load import load_config, parse_value
from mmrl.errors import BadInput
from mmrl.plugin_config import PluginConfig

EXAMPLE = """\
train_type: GRPO
model_id: qwen/Qwen3-7B-Chat
reward_plugins:
  - name: safety
    weight: 1.0
  - name: relevance
    weight: 0.8
  - name: factuality
    weight: 1.2
training_args:
  per_device_train_batch_size: 1
  gradient_accumulation_steps: 8
  learning_rate: 5e-6
  num_train_epochs: 3
  kl_coef: 0.1
  use_vllm_sampler: true
  vllm_config:
    tensor_parallel_size: 2
    max_num_seqs: 64
"""
ENVIRONMENTS = """\
environments:
  - id: babyai/GoToLocal
    weight: 2
    seeds: {start: 2000, count: 50}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(EXAMPLE + ENVIRONMENTS)
    return path


def message(path: Path, *overrides: str, text: str | None = None) -> str:
    """The error's one line, the folder left out."""
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput) as caught:
        load_config(path, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{path.parent}/", "")


def test_the_example_parses_as_it_stands(path: Path) -> None:
    config = load_config(path).config
    args = config.training_args
    assert (config.train_type, config.model_id) == ("GRPO", "qwen/Qwen3-7B-Chat")
    assert [(p.name, p.weight) for p in config.reward_plugins] == [
        ("safety", 1.0), ("relevance", 0.8), ("factuality", 1.2),
    ]  # fmt: skip
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps, args.num_train_epochs) == (1, 8, 3)
    assert (args.learning_rate, args.kl_coef, args.use_vllm_sampler) == (5e-6, 0.1, True)
    assert args.vllm_config == {"tensor_parallel_size": 2, "max_num_seqs": 64}
    assert config.environments[0].seeds.count == 50


def test_numbers_are_read_as_yaml_1_2_reads_them() -> None:
    assert [parse_value(t, "") for t in ("5e-6", "1E3", "-2e+1", ".5e1", "7", "x1e5")] == [
        5e-6, 1000.0, -20.0, 5.0, 7, "x1e5",
    ]  # fmt: skip


def test_overrides_are_typed_nested_and_numbered(path: Path) -> None:
    loaded = load_config(path, [
        "training_args.learning_rate=1e-4", "training_args.lora.r=4", "reward_plugins.1.weight=0",
        "environments.0.kwargs={max_steps: 9}", "eval.episodes=7", "training_args.max_minutes=null",
    ])  # fmt: skip
    config = loaded.config
    assert config.training_args.learning_rate == 1e-4
    assert config.training_args.lora is not None
    assert (config.training_args.lora.r, config.training_args.lora.alpha) == (4, 32)
    assert config.reward_plugins[1].weight == 0
    assert config.environments[0].kwargs == {"max_steps": 9}
    assert config.eval.episodes == 7


def test_places_of_keys(path: Path) -> None:
    loaded = load_config(path, ["training_args.kl_coef=0.2"])
    assert loaded.where("train_type") == f"{path}:1"
    assert loaded.where("reward_plugins", 1, "weight") == f"{path}:7"
    assert loaded.where("environments", 0, "seeds", "count") == f"{path}:23"
    assert loaded.where("reward_plugins", 1, "kwargs") == f"{path}:6"
    assert loaded.where("training_args", "kl_coef") == "override 'training_args.kl_coef=0.2'"
    assert loaded.where("training_args").endswith(" with override 'training_args.kl_coef=0.2'")
    again = load_config(path, ["environments=[{id: a, seeds: {start: 3}}]", "environments.0.seeds.count=9"])
    assert again.where("environments", 0, "id") == "override 'environments=[{id: a, seeds: {start: 3}}]'"
    assert again.where("environments", 0, "seeds", "count") == "override 'environments.0.seeds.count=9'"
    assert loaded.where("eval", "episodes") == str(path)


def test_an_environment_by_its_id_alone_and_a_plugin_by_its_name(path: Path) -> None:
    loaded = load_config(path, ["environments=[babyai/balrog-goto]", "reward_plugins=[format, {name: safety}]"])
    assert loaded.config.environments == [EnvironmentConfig(id="babyai/balrog-goto")]
    assert loaded.config.reward_plugins == [PluginConfig(name="format"), PluginConfig(name="safety")]
    further = ["eval.environments=[text]", "environments.0.weight=2", "environments.0.kwargs.size=3",
               "reward_plugins.0.weight=0.5", "eval.environments.0.kwargs.path=a"]  # fmt: skip
    longer = load_config(path, ["environments=[a]", "reward_plugins=[format]", *further]).config
    assert longer.environments == [EnvironmentConfig(id="a", weight=2, kwargs={"size": 3})]
    assert longer.reward_plugins == [PluginConfig(name="format", weight=0.5)]
    assert longer.eval.environments == [EnvironmentConfig(id="text", kwargs={"path": "a"})]


def test_output_dir_is_the_files_name_unless_given(path: Path) -> None:
    assert load_config(path).output_dir == Path("runs/run")
    assert load_config(path, ["training_args.output_dir=elsewhere"]).output_dir == Path("elsewhere")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("learning_rate: 5e-6", "learning_rte: 1",
         "run.yaml:13: unknown key 'training_args.learning_rte'; did you mean 'learning_rate'?"),
        ("weight: 0.8", "wieght: 0.8", "run.yaml:7: unknown key 'reward_plugins.1.wieght'; did you mean 'weight'?"),
        ("count: 50", "cuont: 50", "run.yaml:23: unknown key 'environments.0.seeds.cuont'; did you mean 'count'?"),
        ("train_type: GRPO", "trian_type: GRPO", "run.yaml: 'train_type' is missing"),
        ("model_id: qwen/Qwen3-7B-Chat", "model_id: [a]",
         "run.yaml:2: 'model_id': input should be a valid string, not ['a']"),
        ("learning_rate: 5e-6", "learning_rate: fast",
         "run.yaml:13: 'training_args.learning_rate': input should be a valid number"),
        ("kl_coef: 0.1", "kl_coef: -1",
         "run.yaml:15: 'training_args.kl_coef': input should be greater than or equal to 0, not -1"),
        ("weight: 0.8", "weight: .nan", "run.yaml:7: 'reward_plugins.1.weight': input should be a finite number"),
        ("id: babyai/GoToLocal", "kwargs: {}", "run.yaml:21: 'environments.0.id' is missing"),
        ("kl_coef: 0.1", "lora: {rank: 4}", "run.yaml:15: unknown key 'training_args.lora.rank'; known: r, alpha"),
        ("kl_coef: 0.1", "learning_rate: 1",
         "run.yaml:15: 'training_args.learning_rate' is given twice, first at run.yaml:13"),
        ("kl_coef: 0.1", "kl_coef: [", "run.yaml:17: not valid YAML"),
    ],
)  # fmt: skip
def test_errors_name_the_line_and_the_nearest_key(path: Path, old: str, new: str, expected: str) -> None:
    text = path.read_text()
    assert old in text
    assert message(path, text=text.replace(old, new)).startswith(expected)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("foo", "override 'foo': write key.path=value"),
        ("=3", "override '=3': write key.path=value"),
        ("training_args.lr=1", "override 'training_args.lr=1': unknown key 'training_args.lr'"),
        ("max_steps=3", "override 'max_steps=3': unknown key 'max_steps'; did you mean 'training_args.max_steps'?"),
        ("training_args.max_turns=3", "override 'training_args.max_turns=3': unknown key 'training_args.max_turns'; "
         "did you mean 'max_minutes' or 'rollout.max_turns' or 'eval.max_turns'?"),
        ("environments=[5]", "override 'environments=[5]': 'environments.0': should be a mapping of keys or id alone, "
         "not 5"),
        ("eval=often", "override 'eval=often': 'eval': should be a mapping of keys, not 'often'"),
        ("reward_plugins=[{format: {weight: 2}}]", "override 'reward_plugins=[{format: {weight: 2}}]': "
         "'reward_plugins.0.name' is missing; write 'name: format' and other keys beside it"),
        ("reward_plugins=[{weight: 2}]", "override 'reward_plugins=[{weight: 2}]': 'reward_plugins.0.name' is missing"),
        ("weight=3", "override 'weight=3': unknown key 'weight'; did you mean 'environments.0.weight' or "
         "'reward_plugins.0.weight' or 'logged.weight'?"),
        ("rollout.environments=[]", "override 'rollout.environments=[]': unknown key 'rollout.environments'; "
         "did you mean 'environments' or 'eval.environments'?"),
        ("train_type.x=1", "override 'train_type.x=1': 'train_type' holds a single value, not keys"),
        ("environments.5.id=a", "override 'environments.5.id=a': the config has no 'environments.5'"),
        ("environments.5=a", "override 'environments.5=a': 'environments' is a list of 1; number its items"),
        ("model_id=[", "override 'model_id=[': the value is not valid YAML"),
        ("eval.every=soon", "override 'eval.every=soon': 'eval.every': input should be a valid integer"),
    ],
)
def test_bad_overrides_are_named(path: Path, word: str, expected: str) -> None:
    assert message(path, word).startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"), [("", "run.yaml:1: a config is a mapping"), ("- a\n", "run.yaml:1: a config is")]
)
def test_a_config_is_a_mapping(path: Path, text: str, expected: str) -> None:
    assert message(path, text=text).startswith(expected)


def test_a_missing_file_names_its_neighbour(path: Path) -> None:
    assert message(path.with_name("rum.yaml")) == "config rum.yaml: no such file; did you mean 'run.yaml'?"


def test_the_folder_of_a_run_stands_for_its_config(path: Path) -> None:
    folder = path.with_name("runs")
    folder.mkdir()
    with pytest.raises(BadInput, match=r"runs: a folder without a config\.yaml"):
        load_config(folder)
    lines = ("train_type: GRPO", "model_id: mmrl/tiny", "environments: [{id: text/arithmetic}]")
    (folder / "config.yaml").write_text("\n".join(lines))
    assert load_config(folder).path == folder / "config.yaml"


def test_a_file_that_is_no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")
    assert message(path).startswith("run.yaml")
