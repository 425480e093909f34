import pytest
from pydantic import ValidationError

from mmrl.config import TRAIN_SEEDS_START, Config, EvalConfig
from mmrl.config_load import dump_config, load_config

SMALL = {"train_type": "GRPO", "model_id": "m", "environments": [{"id": "text/arithmetic"}]}


def test_defaults_keep_training_and_held_out_seeds_apart() -> None:
    config = Config.model_validate(SMALL)
    assert config.environments[0].seeds.start == TRAIN_SEEDS_START == 1_000_000
    assert config.eval.seed + config.eval.episodes < TRAIN_SEEDS_START
    assert config.eval.final_seed + config.eval.final_episodes <= config.eval.seed


def test_every_section_is_frozen() -> None:
    config = Config.model_validate(SMALL)
    for section in (config, config.training_args, config.rollout, config.eval, config.environments[0]):
        name = next(iter(type(section).model_fields))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, name, getattr(section, name))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        (EvalConfig, "temperature", -1.0),
        (EvalConfig, "every", 0),
    ],
)
def test_values_out_of_range_are_refused(section: type[Config], key: str, value: object) -> None:
    with pytest.raises(ValidationError):
        section.model_validate({key: value})


def test_needs_an_environment() -> None:
    with pytest.raises(ValidationError):
        Config.model_validate({**SMALL, "environments": []})


def test_dump_writes_every_default_and_loads_back_equal(tmp_path) -> None:
    entry = {"name": "exact_match", "as": "em", "weight": 0.5}
    config = Config.model_validate({**SMALL, "reward_plugins": [entry], "training_args": {"lora": {"r": 4}}})
    text = dump_config(config)
    assert "as: em" in text
    assert "num_generations: 8" in text
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert load_config(path).config == config
