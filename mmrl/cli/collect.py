"""``mmrl collect``: store the rollouts of any policy."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from mmrl.cli.options import (
    COLLECT_SEED,
    POLICY,
    EnvKwargs,
    Episodes,
    MaxNewTokens,
    MaxTurns,
    PolicyKwargs,
    Temperature,
    Window,
    check_envs,
    parse_pairs,
    say_usage,
    speaker,
)
from mmrl.cli.progress import EpisodeBar
from mmrl.episode import EpisodeLimits, EpisodeSpec
from mmrl.errors import BadInput
from mmrl.policy import Policy
from mmrl.reward import RewardSuite
from mmrl.rollout import Scheduler, run_sync
from mmrl.store import RunStore
from mmrl.trajectory import Trajectory

CHUNK = 256
"""Episodes of one Parquet file; a kill loses at most so many, Ctrl-C none that has ended."""


def collect(
    env: Annotated[list[str], typer.Option(help="Environment; may be repeated.")],
    policy: Annotated[str, POLICY],
    out: Annotated[Path, typer.Option(help="Folder to make; it becomes a run with rollouts/.")],
    episodes: Episodes = 100,
    seed: Annotated[
        int, typer.Option(min=0, help="First seed; the default lies far from all held-out and training seeds.")
    ] = COLLECT_SEED,
    reward: Annotated[list[str] | None, typer.Option(help="Reward plugin to score with; may be repeated.")] = None,
    window: Window = None,
    temperature: Temperature = None,
    max_turns: MaxTurns = None,
    env_kwargs: EnvKwargs = None,
    policy_kwargs: PolicyKwargs = None,
    max_new_tokens: MaxNewTokens = None,
) -> None:
    """Run episodes and store them, for SFT or to look at.

    For example:

      mmrl collect --env babyai/GoToLocal --policy expert --out runs/expert

      mmrl collect --env text/arithmetic --policy random --reward exact_match --out r
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise BadInput("storing rollouts needs a package that is missing; install it with: pip install 'mmrl[train]'")
    kwargs = parse_pairs(env_kwargs or [], "--env-kwargs")
    check_envs([(e, kwargs) for e in env])
    suite = RewardSuite.from_config([{"name": r} for r in reward]) if reward else None
    own = parse_pairs(policy_kwargs or [], "--policy-kwargs")
    settings = {"env": env, "policy": policy, "episodes": episodes, "seed": seed, "reward": reward or [],
                "window": window, "temperature": temperature, "max_turns": max_turns, "env_kwargs": kwargs,
                "max_new_tokens": max_new_tokens, "policy_kwargs": own}  # fmt: skip
    acting = speaker(policy, temperature, max_new_tokens, own)
    store = RunStore.create(out, yaml.safe_dump({"collect": settings}, sort_keys=False))
    specs = make_specs(env, kwargs, seed, episodes)
    try:
        done = run_chunks(store, specs, acting, suite, EpisodeLimits(max_turns, window))
    except KeyboardInterrupt:
        print(f"stopped; the episodes that had ended are in {out}", file=sys.stderr)
        raise
    say_usage(acting)
    _report(out, done)


def _report(out: Path, done: Sequence[Trajectory]) -> None:
    """Say what was stored and how to read it; if every episode failed, so has the command."""
    wins, errors = sum(t.success for t in done), [t.error for t in done if t.error is not None]
    print(f"{len(done)} episodes in {out}, {wins} succeeded ({wins / len(done):.1%})")
    print(f"read them: python -c \"import pandas; print(pandas.read_parquet('{out}/rollouts'))\"")
    if errors:
        print(f"{len(errors)} episodes ended by an exception, first: {errors[0]}", file=sys.stderr)
    if len(errors) == len(done):
        raise typer.Exit(1)


def make_specs(envs: Sequence[str], kwargs: dict[str, Any], seed: int, episodes: int) -> list[EpisodeSpec]:
    """One spec an episode; seeds ``seed``, ``seed + 1``, ... in each environment."""
    pairs = [(e, seed + i) for e in envs for i in range(episodes)]
    return [EpisodeSpec(f"{n:06d}", e, s, f"{e}#{s}", (seed, n), kwargs) for n, (e, s) in enumerate(pairs)]


def run_chunks(
    store: RunStore, specs: Sequence[EpisodeSpec], policy: Policy, suite: RewardSuite | None, limits: EpisodeLimits
) -> list[Trajectory]:
    """Run the episodes and write each chunk when it is over; on Ctrl-C, what has ended of the present one."""
    done: list[Trajectory] = []
    with EpisodeBar("collecting", len(specs)) as bar:
        for start in range(0, len(specs), CHUNK):
            ended: list[Trajectory] = []

            def count(trajectory: Trajectory, ended: list[Trajectory] = ended) -> None:
                ended.append(trajectory)
                bar.episode(trajectory)

            try:
                run_sync(Scheduler(limits).run(specs[start : start + CHUNK], policy, suite, count))
            finally:
                chunk = sorted(ended, key=lambda t: t.id)
                if chunk:
                    store.write_rollouts(start // CHUNK + 1, chunk, [None] * len(chunk))
            done += chunk
    return done
