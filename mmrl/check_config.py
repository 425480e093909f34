"""Check a configuration against what is installed, before any model is loaded."""

from __future__ import annotations

from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput, unknown
from mmrl.make import make
from mmrl.plugin import alternatives_of_env
from mmrl.plugin_build import build_plugin
from mmrl.provided import fields_provided
from mmrl.registry import LEARNERS, find_env, load_file
from mmrl.reward import NO_CLIP, Member, RewardSuite
from mmrl.trainer import Trainer

REMEDY = {"images": "; BabyAI and MiniGrid show images with kwargs: {observation: image}, or both"}
"""How environments that do without a field come to have it."""


def check_config(loaded: LoadedConfig) -> tuple[Trainer, RewardSuite]:
    """Make one of everything that the configuration names, but no model.

    Returns:
        The trainer and the reward suite.

    Raises:
        BadInput: one line: place, name, what is wrong, the nearest right name.
    """
    config = loaded.config
    kind = config.train_type
    if not LEARNERS.knows(kind) and ":" not in kind:
        raise unknown("train_type", kind, LEARNERS.names(), loaded.where("train_type"))
    for key, environments in (("environments", config.environments), ("eval", config.eval.environments or [])):
        for i, env in enumerate(environments):
            path = (key, i) if key == "environments" else ("eval", "environments", i)
            find_env(env.id, loaded.where(*path, "id"))
            try:
                make(env.id, **env.kwargs).close()
            except BadInput as error:
                raise BadInput(f"{loaded.where(*path)}: {error}") from error
    _check_seeds(loaded)
    suite = build_suite(loaded)
    _check_fields(loaded, suite)
    _check_sums(loaded)
    # Last, because learners import torch: whoever mistyped a name should not wait for that.
    trainer = LEARNERS.get(kind, loaded.where("train_type"))()
    trainer.check(loaded)
    return trainer, suite


def build_suite(loaded: LoadedConfig) -> RewardSuite:
    """The reward suite of a configuration.

    Raises:
        BadInput: with the place of the entry at fault.
    """
    for i, path in enumerate(loaded.config.plugin_files):
        load_file(path, f"{loaded.where('plugin_files', i)}: plugin file")
    members: list[Member] = []
    for i, entry in enumerate(loaded.config.reward_plugins):
        if entry.instance in [m.name for m in members]:
            raise BadInput(f"{loaded.where('reward_plugins', i)}: two reward plugins are called '{entry.instance}'; "
                           "give one of them another name with 'as:'")  # fmt: skip
        members.append(Member(build_plugin(entry, loaded.where("reward_plugins", i, "name")), entry))
    args = loaded.config.training_args
    return RewardSuite(members, loaded.config.rewards.clip or NO_CLIP, args.turn_discount)


def _check_fields(loaded: LoadedConfig, suite: RewardSuite) -> None:
    """Refuse a plugin that names a field which no environment of the run provides."""
    required = [(i, m, fields) for i, m in enumerate(suite.members) for fields in alternatives_of_env(m.plugin)]
    if not required:
        return
    names = ", ".join(e.id for e in loaded.config.environments)
    wanted = {fields for _, _, fields in required}
    provided = frozenset[str]().union(*(fields_provided(e, wanted) for e in loaded.config.environments))
    for i, member, fields in required:
        if not fields & provided:
            first, said = min(fields), " or ".join(f"'{name}'" for name in sorted(fields))
            raise BadInput(
                f"{loaded.where('reward_plugins', i)}: plugin '{member.name}' needs {said}, which none of the "
                f"environments ({names}) provides; remove it, or add one that has {first}{REMEDY.get(first, '')}"
            )


def _check_sums(loaded: LoadedConfig) -> None:
    """Refuse what works on sums of scores where scores are compared one by one."""
    config = loaded.config
    if config.rewards.normalise != "normalise_then_sum":
        return
    args = config.training_args
    wrong = {
        ("rewards", "clip"): config.rewards.clip is not None,
        ("training_args", "advantage"): args.advantage != "grpo",
        ("training_args", "turn_discount"): args.turn_discount != 1,
        ("training_args", "turn_baseline"): args.turn_baseline != "group",
        ("training_args", "kl_in"): args.kl_in != "loss",
        **{("reward_plugins", i, "gate"): p.gate is not None for i, p in enumerate(config.reward_plugins)},
    }
    for key, given in wrong.items():
        if given:
            raise BadInput(f"{loaded.where(*key)}: '{'.'.join(map(str, key))}' works on sums of scores; it does not go "
                           "with rewards.normalise: normalise_then_sum")  # fmt: skip


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
    if config.warm_start is not None:
        begin, end = config.warm_start.first_seed, config.warm_start.first_seed + config.warm_start.episodes
        for first, count in held_out:
            if count and begin < first + count and first < end:
                raise BadInput(
                    f"{loaded.where('warm_start')}: the experts' seeds {begin}-{end - 1} overlap "
                    f"with the held-out seeds {first}-{first + count - 1}; move warm_start.first_seed"
                )
    for i, env in enumerate(config.environments):
        last = float("inf") if env.seeds.count is None else env.seeds.start + env.seeds.count - 1
        for first, count in held_out:
            if count and first + count > env.seeds.start and first <= last:
                raise BadInput(
                    f"{loaded.where('environments', i, 'seeds')}: training seeds {env.seeds.start}... overlap with the "
                    f"held-out seeds {first}-{first + count - 1}; move eval.seed, eval.final_seed or seeds.start"
                )
