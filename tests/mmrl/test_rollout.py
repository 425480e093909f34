import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmrl
from mmrl.blind import Blind
from mmrl.episode import EpisodeLimits, EpisodeSpec
from mmrl.errors import BadInput
from mmrl.policy import Completion, Request
from mmrl.rollout import Scheduler, run_sync
from mmrl.trajectory import Trajectory

ENV = '''
import time
from mmrl import Message, Sample, Text
from mmrl.env import Env

class Walk(Env):
    """As many steps as the seed says (1 to 5); dawdles or breaks if told to."""
    def __init__(self, dawdle=False, breaks_at=None, bad_seed=None):
        super().__init__()
        self.dawdle, self.breaks_at, self.bad_seed = dawdle, breaks_at, bad_seed
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed, self.n = seed, 0
        seen = (Text(f"seed {seed}"),)
        return seen, {"sample": Sample("s", (Message("user", seen),))}
    def step(self, action):
        if self.dawdle:
            time.sleep(0.001 * (self.seed % 3))
        if self.seed == self.bad_seed and self.n == self.breaks_at:
            raise OSError("broken")
        self.n += 1
        over = self.n >= 1 + self.seed % 5
        return (Text(f"{self.n}:{action}"),), float(len(action)), over, False, {"success": over and self.seed % 2 == 0}
'''


@pytest.fixture
def walk(tmp_path: Path) -> str:
    (tmp_path / "walk.py").write_text(ENV)
    return f"{tmp_path / 'walk.py'}:Walk"


class Noise:
    """Says a number drawn from the request's seed; remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.batches.append([r.episode for r in requests])
        self.threads.add(threading.get_ident())
        return [Completion(str(np.random.SeedSequence(r.seed).generate_state(1)[0])) for r in requests]


SEEDS = list(range(20, 3, -1))


def lengths(trajectories: list[Trajectory]) -> list[int]:
    return [len(t.turns) for t in trajectories]


def test_results_come_in_the_order_of_the_seeds(walk: str) -> None:
    trajectories = mmrl.rollout(walk, policy=Noise(), seeds=SEEDS)
    assert [t.seed for t in trajectories] == SEEDS
    assert lengths(trajectories) == [1 + s % 5 for s in SEEDS]
    assert [t.id for t in trajectories] == [f"{i:06d}" for i in range(len(SEEDS))]
    assert len({t.group for t in trajectories}) == len(SEEDS)


@pytest.mark.parametrize("concurrency", [1, 3, 64])
def test_deterministic_twice_gives_the_same_trajectories_and_batches(walk: str, concurrency: int) -> None:
    policies, kwargs = [Noise(), Noise()], {"dawdle": True}
    runs = [mmrl.rollout(walk, policy=p, seeds=SEEDS, env_kwargs=kwargs, concurrency=concurrency) for p in policies]
    assert runs[0] == runs[1]
    assert policies[0].batches == policies[1].batches
    assert max(map(len, policies[0].batches)) == min(concurrency, len(SEEDS))
    assert all(b == sorted(b) for b in policies[0].batches)


def test_an_episode_depends_on_neither_concurrency_nor_clock(walk: str) -> None:
    base = mmrl.rollout(walk, policy=Noise(), seeds=SEEDS)
    assert mmrl.rollout(walk, policy=Noise(), seeds=SEEDS, concurrency=2) == base
    free = mmrl.rollout(walk, policy=Noise(), seeds=SEEDS, deterministic=False, concurrency=5,
                        env_kwargs={"dawdle": True})  # fmt: skip
    assert [[u.response for u in t.turns] for t in free] == [[u.response for u in t.turns] for t in base]


def test_another_seed_is_other_noise(walk: str) -> None:
    one, two = (mmrl.rollout(walk, policy=Noise(), seeds=[4, 4], seed=s) for s in (0, 1))
    said = [u.response for t in (*one, *two) for u in t.turns]
    assert len(set(said)) == len(said)


def test_max_turns_and_window_reach_the_episodes(walk: str) -> None:
    short = mmrl.rollout(walk, policy=Noise(), seeds=SEEDS, max_turns=2)
    assert lengths(short) == [min(2, 1 + s % 5) for s in SEEDS]
    assert [t.truncated for t in short] == [s % 5 >= 2 for s in SEEDS]

    class Listener(Noise):
        async def generate(self, requests: Sequence[Request]) -> list[Completion]:
            assert all(len(r.messages) == 1 and r.previous is None for r in requests)
            return await super().generate(requests)

    mmrl.rollout(walk, policy=Listener(), seeds=SEEDS, window=1)
    with pytest.raises(BadInput, match="window is at least 1 turn, not 0"):
        mmrl.rollout(walk, policy=Noise(), seeds=SEEDS, window=0)


def test_an_environments_exception_ends_its_own_episode(walk: str) -> None:
    kwargs = {"breaks_at": 1, "bad_seed": 9}
    trajectories = mmrl.rollout(walk, policy=Noise(), seeds=SEEDS, env_kwargs=kwargs, rewards=[{"name": "env_reward"}])
    assert [t.seed for t in trajectories if t.error] == [9]
    (broken,) = (t for t in trajectories if t.error)
    assert (broken.error, len(broken.turns), broken.record, broken.valid) == ("OSError: broken", 1, None, False)
    assert lengths([t for t in trajectories if not t.error]) == [1 + s % 5 for s in SEEDS if s != 9]


def test_an_environment_that_cannot_be_made_is_an_error_of_its_episodes(walk: str) -> None:
    bad = run_sync(Scheduler().run([spec(walk, 0, wrong=1), spec(walk, 1)], Noise()))
    assert "does not take these arguments" in (bad[0].error or "")
    assert (bad[0].turns, bad[0].valid, bad[1].error) == ((), False, None)


def spec(env: str, i: int, **kwargs: Any) -> EpisodeSpec:
    return EpisodeSpec(f"{i:03d}", env, i, "g", (i,), kwargs)


class Broken(Noise):
    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        if len(self.batches) == 2:
            raise ZeroDivisionError("no weights")
        return await super().generate(requests)


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("concurrency", [1, 4, 64])
def test_a_policys_exception_comes_out_as_it_is(walk: str, deterministic: bool, concurrency: int) -> None:
    with pytest.raises(ZeroDivisionError, match="no weights"):
        mmrl.rollout(walk, policy=Broken(), seeds=SEEDS, deterministic=deterministic, concurrency=concurrency)


def test_scores_are_attached(walk: str) -> None:
    trajectories = mmrl.rollout(walk, policy=Noise(), seeds=SEEDS, rewards=[{"name": "env_reward", "weight": 2.0}])
    for t in trajectories:
        assert t.record is not None
        assert t.record.valid
        assert t.record.value == pytest.approx(2 * t.env_return)
        assert t.record.scores["env_reward"].value == pytest.approx(t.env_return)
    assert all(t.record is None for t in mmrl.rollout(walk, policy=Noise(), seeds=SEEDS))


def test_on_done_hears_of_every_episode_once(walk: str) -> None:
    heard: list[str] = []
    mmrl.rollout(walk, policy=Noise(), seeds=SEEDS, concurrency=3, on_done=lambda t: heard.append(t.id))
    assert sorted(heard) == [f"{i:06d}" for i in range(len(SEEDS))]


def test_an_exception_of_on_done_comes_out(walk: str) -> None:
    def refuse(t: Trajectory) -> None:
        raise KeyError("full")

    with pytest.raises(KeyError, match="full"):
        mmrl.rollout(walk, policy=Noise(), seeds=SEEDS, on_done=refuse)


def test_no_seeds_no_trajectories(walk: str) -> None:
    assert mmrl.rollout(walk, policy=Noise(), seeds=[]) == []


def test_works_inside_a_running_loop(walk: str) -> None:
    async def notebook() -> list[Trajectory]:
        return mmrl.rollout(walk, policy=Noise(), seeds=SEEDS)

    assert asyncio.run(notebook()) == mmrl.rollout(walk, policy=Noise(), seeds=SEEDS)

    async def failing() -> None:
        mmrl.rollout(walk, policy=Broken(), seeds=SEEDS)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(failing())


def test_the_global_random_state_is_left_alone(walk: str) -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]
    mmrl.rollout(walk, policy="random", seeds=SEEDS)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index,union-attr]


def test_several_environments_in_one_run(walk: str) -> None:
    specs = [EpisodeSpec(f"{i}", env, i, "g", (i,)) for i, env in enumerate([walk, "text/arithmetic"] * 3)]
    trajectories = run_sync(Scheduler(EpisodeLimits(max_turns=2), concurrency=2).run(specs, Noise()))
    assert [t.env_id for t in trajectories] == [s.env_id for s in specs]
    assert all(t.error is None for t in trajectories)


def test_unknown_names_are_bad_input(walk: str) -> None:
    with pytest.raises(BadInput, match="did you mean 'text/arithmetic'"):
        mmrl.rollout("text/arithmetik", policy="random", seeds=[1])
    with pytest.raises(BadInput, match="unknown plugin"):
        mmrl.rollout(walk, policy="random", seeds=[1], rewards=[{"name": "nonesuch"}])


def test_no_concurrency_is_bad_input(walk: str) -> None:
    with pytest.raises(BadInput, match="concurrency is at least 1 episode, not 0"):
        mmrl.rollout(walk, policy=Noise(), seeds=SEEDS, concurrency=0)


@pytest.mark.parametrize("blind", [False, True])
def test_a_policy_that_remembers_hears_of_every_end_after_the_last_request(walk: str, blind: bool) -> None:
    class Remembers(Noise):
        def ended(self, episodes: Sequence[str]) -> None:
            self.batches.append([f"-{e}" for e in episodes])

    policy = Remembers()
    specs = [EpisodeSpec(f"e{n}", walk, n, "g", (n,), {"bad_seed": 3, "breaks_at": 1}) for n in range(6)]
    limits = EpisodeLimits(None, None)
    played = run_sync(Scheduler(limits, concurrency=3).run(specs, Blind(policy) if blind else policy))
    assert [t.id for t in played if t.error] == ["e3"]
    said = [name for batch in policy.batches for name in batch]
    for spec in specs[:4]:  # no round begins after the last ones have ended
        assert said.count(f"-{spec.id}") == 1
        assert f"-{spec.id}" not in said[: len(said) - said[::-1].index(spec.id)]
