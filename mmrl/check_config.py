"""Check a configuration against what is installed, before any model is loaded."""

from __future__ import annotations

from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput, unknown
from mmrl.make import make
from mmrl.registry import LEARNERS, find_env
from mmrl.reward import RewardSuite, build_plugin
from mmrl.trainer import Trainer


def check_config(loaded: LoadedConfig) -> tuple[Trainer, RewardSuite]:
    """Make one of everything that the configuration names, but no model.

    Returns:
        The trainer and the reward suite.

    Raises:
        BadInput: one line: place, name, what is wrong, the nearest right name.
    """
    config = loaded.config
    if config.train_type not in LEARNERS.names() and ":" not in config.train_type:
        raise unknown("train_type", config.train_type, LEARNERS.names(), loaded.where("train_type"))
    for key, environments in (("environments", config.environments), ("eval", config.eval.environments or [])):
        for i, env in enumerate(environments):
            path = (key, i) if key == "environments" else ("eval", "environments", i)
            find_env(env.id, loaded.where(*path, "id"))
            try:
                make(env.id, **env.kwargs).close()
            except BadInput as error:
                raise BadInput(f"{loaded.where(*path)}: {error}") from error
    _check_seeds(loaded)
    suite = _suite(loaded)
    # Last, because learners import torch: whoever mistyped a name should not wait for that.
    trainer = LEARNERS.get(config.train_type, loaded.where("train_type"))()
    trainer.check(loaded)
    return trainer, suite


def _suite(loaded: LoadedConfig) -> RewardSuite:
    entries = loaded.config.reward_plugins
    names = [e.instance for e in entries]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise BadInput(f"{loaded.where('reward_plugins', i)}: two reward plugins are called '{name}'; "
                           "give one of them another name with 'as:'")  # fmt: skip
    built = [build_plugin(e, loaded.where("reward_plugins", i, "name")) for i, e in enumerate(entries)]
    return RewardSuite([(e.instance, e.weight, p) for e, p in zip(entries, built, strict=True)])


def _check_seeds(loaded: LoadedConfig) -> None:
    """Refuse to evaluate on seeds that are trained on."""
    config = loaded.config
    held_out = [(config.eval.seed, config.eval.episodes), (config.eval.final_seed, config.eval.final_episodes)]
    (chosen, many), (final, last_many) = held_out
    if many and last_many and chosen < final + last_many and final < chosen + many:
        raise BadInput(
            f"{loaded.where('eval')}: the best checkpoint is chosen on seeds {chosen}-{chosen + many - 1} and reported "
            f"on {final}-{final + last_many - 1}, which overlap; move eval.seed or eval.final_seed"
        )
    for i, env in enumerate(config.environments):
        last = float("inf") if env.seeds.count is None else env.seeds.start + env.seeds.count - 1
        for first, count in held_out:
            if count and first + count > env.seeds.start and first <= last:
                raise BadInput(
                    f"{loaded.where('environments', i, 'seeds')}: training seeds {env.seeds.start}... overlap with the "
                    f"held-out seeds {first}-{first + count - 1}; move eval.seed, eval.final_seed or seeds.start"
                )
