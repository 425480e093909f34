"""Every registered environment keeps the contract; and the suite notices one that does not."""

import random
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import mmrl
from mmrl import BadInput, Content, Env, GymTextEnv, Sample, SingleTurnEnv, Text
from mmrl.conformance import CHECKS, CheckResult, EnvFactory, check_env, record, run_check
from mmrl.registry import env_ids

DATA = Path(__file__).parent / "data"
QUESTIONS = {"path": DATA / "questions.jsonl", "columns": {"question": "q", "answer": "a"}}
IMAGES = {"path": DATA / "vqa" / "questions.jsonl"}
DIALOGUES = {"path": DATA / "vqa" / "dialogues.jsonl", "tries": 2, "system": "Look closely."}
CASES: list[tuple[str, dict[str, Any]]] = [
    *[(f"babyai/balrog-{task}", {}) for task in ("goto", "pickup", "open", "putnext", "pick_up_seq_go_to")],
    *[(f"babyai/{name}", {}) for name in ("GoToLocal", "BossLevel", "PutNextLocal", "KeyInBox", "OpenDoorsOrderN2")],
    *[(f"minigrid/{name}", {}) for name in ("DoorKey-8x8", "LavaGapS7", "Dynamic-Obstacles-5x5", "GoToDoor-5x5")],
    *[(f"minigrid/{name}", {}) for name in ("Empty-5x5", "FourRooms", "Fetch-5x5-N2", "MemoryS7")],
    ("BabyAI-GoToRedBall-v0", {}),
    ("babyai/GoToLocal", {"invalid": "forward", "instructions": "full", "max_steps": 9}),
    ("babyai/balrog-goto", {"observation": "image"}),
    ("babyai/balrog-putnext", {"reasoning": True}),
    ("babyai/balrog-open", {"observation": "both", "view": "full", "tile_size": 6, "history": 3}),
    ("minigrid/DoorKey-8x8", {"observation": "image", "history": 2, "invalid": "forward", "instructions": "full"}),
    ("text", QUESTIONS),
    ("text/arithmetic", {}),
    ("vqa/shapes", {}),
    ("vqa/shapes", {"difficulty": 3, "image_size": 56}),
    ("vqa/minigrid", {}),
    ("vqa/minigrid", {"difficulty": 3, "view": "full"}),
    ("video", {}),
    ("video", {"difficulty": 3, "view": "partial", "frames": 12}),
    ("vqa", IMAGES),
    ("vqa", DIALOGUES),
]
Start = tuple[Content, dict[str, Any]]
NEEDS_ARGUMENTS: dict[str, dict[str, Any]] = {"text": QUESTIONS, "vqa": IMAGES}
"""Environments that cannot be made by name alone.  A new one adds itself here, or is checked without arguments."""


@pytest.mark.parametrize("check", [name for name in CHECKS if name != "runs_in_async_vector"])
@pytest.mark.parametrize(("env_id", "kwargs"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_conforms(env_id: str, kwargs: dict[str, Any], check: str) -> None:
    assert run_check(check, partial(mmrl.make, env_id, **kwargs)) == CheckResult(check, True)


@pytest.mark.parametrize(("env_id", "kwargs"), [
    ("babyai/balrog-goto", {}), ("babyai/balrog-goto", {"observation": "image", "history": 2}), ("text", QUESTIONS),
    ("vqa", DIALOGUES), ("vqa/minigrid", {}), ("video", {}),
], ids=["grid", "pixels", "text", "vqa", "minigrid", "video"])  # fmt: skip
def test_runs_in_async_vector(env_id: str, kwargs: dict[str, Any]) -> None:
    name = "runs_in_async_vector"
    assert run_check(name, partial(mmrl.make, env_id, **kwargs)) == CheckResult(name, True)


def test_every_id_keeps_the_seed_promise() -> None:
    for env_id in env_ids():
        make = partial(mmrl.make, env_id, **NEEDS_ARGUMENTS.get(env_id, {}))
        one, two = make(), make()
        first = record(one, 3, limit=5)
        assert record(two, 3, limit=5) == first, env_id
        others = [record(one, seed, limit=5) for seed in range(4, 20)] if not one.metadata.get("one_episode") else []
        assert not others or any(other != first for other in others), env_id
        assert record(one, 3, limit=5) == first, env_id


def test_every_family_is_checked() -> None:
    heads = {env_id.partition("/")[0] for env_id, _ in CASES}
    assert {i.partition("/")[0] for i in env_ids() if not i.startswith(("BabyAI-", "MiniGrid-"))} <= heads


def test_check_env_reports_every_check_in_order() -> None:
    results = check_env("text/arithmetic", operations="*")
    assert [(r.name, r.passed, r.detail) for r in results] == [(name, True, "") for name in CHECKS]


def test_check_env_names_bad_input() -> None:
    with pytest.raises(BadInput, match="text/arithmetic"):
        check_env("text/aritmetic")


class Counter(Env):
    """Adds up to a hidden number; conforms.  Each broken environment below changes one thing."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.render_mode = "rgb_array"
        self.goal = self.count = self.turns = 0

    def draw(self) -> int:
        return int(self.np_random.integers(1, 1000))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Start:
        super().reset(seed=seed)
        self.goal, self.count, self.turns = self.draw(), 0, 0
        return self.see(), {"sample": Sample.ask(self.see(), system="Actions: up, down", id=f"goal-{self.goal}")}

    def see(self) -> Content:
        return (Text(f"{self.count} of {self.goal}"),)

    def step(self, action: str) -> tuple[Content, float, bool, bool, dict[str, Any]]:
        self.turns += 1
        valid = action in ("up", "down")
        self.count += valid
        over = self.turns >= 5
        info: dict[str, Any] = {"valid_action": valid, **({"success": False} if over else {})}
        return self.see(), 0.0, False, over, info

    def render(self) -> Any:
        return np.zeros((4, 4, 3), np.uint8)


class GlobalNumpy(Counter):
    def draw(self) -> int:
        return int(np.random.randint(1, 1000))


class GlobalRandom(Counter):
    def draw(self) -> int:
        return random.randint(1, 1000) * 0 + super().draw()


class SeedIgnored(Counter):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Start:
        return super().reset(seed=None)


class AlwaysTheSame(Counter):
    def draw(self) -> int:
        return 7


class SecondResetSpoilt(Counter):
    resets = 0

    def draw(self) -> int:
        self.resets += 1
        return super().draw() + 1000 * (self.resets > 2)


class RaisesOnBadAction(Counter):
    def step(self, action: str) -> tuple[Content, float, bool, bool, dict[str, Any]]:
        if action not in ("up", "down"):
            raise ValueError(f"no action {action}")
        return super().step(action)


class SilentOnBadAction(Counter):
    def step(self, action: str) -> tuple[Content, float, bool, bool, dict[str, Any]]:
        _, *rest, info = super().step(action)
        return (self.see() if info["valid_action"] else (), *rest, info)  # type: ignore[return-value]


class NoSample(Counter):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Start:
        return super().reset(seed=seed)[0], {}


class AnotherSample(Counter):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Start:
        return super().reset(seed=seed)[0], {"sample": Sample.ask("something else")}


class PlainStrings(Counter):
    def see(self) -> Any:
        return f"{self.count} of {self.goal}"


class NumpyFlags(Counter):
    def step(self, action: str) -> tuple[Content, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, np.bool_(terminated), truncated, info  # type: ignore[return-value]


class NotFinite(Counter):
    def step(self, action: str) -> tuple[Content, float, bool, bool, dict[str, Any]]:
        observation, _, *rest = super().step(action)
        return (observation, float("nan"), *rest)  # type: ignore[return-value]


class Endless(Counter):
    def step(self, action: str) -> tuple[Content, float, bool, bool, dict[str, Any]]:
        return super().step(action)[0], 0.0, False, False, {"valid_action": action in ("up", "down")}


class DeclaredEndless(Endless):
    metadata = {"render_modes": ["rgb_array"], "endless": True}  # noqa: RUF012


class DeclaredTheSame(AlwaysTheSame):
    metadata = {"render_modes": ["rgb_array"], "one_episode": True}  # noqa: RUF012


class FloatFrames(Counter):
    def render(self) -> Any:
        return np.zeros((4, 4, 3))


BROKEN: list[tuple[type[Counter], str, str]] = [
    (GlobalNumpy, "no_global_random", "numpy.random"),
    (GlobalNumpy, "same_seed_same_episode", "differ"),
    (GlobalRandom, "no_global_random", "state of random"),
    (SeedIgnored, "same_seed_same_episode", "seed 0"),
    (SeedIgnored, "gymnasium_contract", "seed"),
    (AlwaysTheSame, "seeds_differ", "seeds 0 to 15"),
    (SecondResetSpoilt, "seeds_survive", "seed 3"),
    (RaisesOnBadAction, "invalid_action_in_words", "raised ValueError: no action"),
    (SilentOnBadAction, "invalid_action_in_words", "without a word"),
    (NoSample, "sample_in_info", "must be an mmrl.Sample, not NoneType"),
    (AnotherSample, "sample_in_info", "not the first observation"),
    (PlainStrings, "stays_in_spaces", "observation 0"),
    (NumpyFlags, "episode_ends", "terminated is a bool"),
    (NotFinite, "episode_ends", "the reward is nan"),
    (Endless, "episode_ends", "no end after"),
    (SeedIgnored, "runs_in_sync_vector", "something else than alone"),
    (FloatFrames, "renders", "float64"),
]


@pytest.mark.parametrize("factory", [Counter, DeclaredEndless, DeclaredTheSame], ids=lambda f: f.__name__)
def test_a_sound_environment_passes(factory: EnvFactory) -> None:
    assert [run_check(name, factory) for name in CHECKS] == [CheckResult(name, True) for name in CHECKS]


@pytest.mark.parametrize(("factory", "check", "message"), BROKEN, ids=lambda v: getattr(v, "__name__", ""))
def test_a_broken_environment_is_caught(factory: EnvFactory, check: str, message: str) -> None:
    result = run_check(check, factory)
    assert not result.passed
    assert message in result.detail


class Question(SingleTurnEnv):
    def draw(self) -> Sample:
        n = int(self.np_random.integers(100))
        return Sample.ask(f"{n}?", str(n))


class Lake(GymTextEnv):
    instructions = "Actions: left, down, right, up"

    def __init__(self) -> None:
        super().__init__(gymnasium.make("FrozenLake-v1", is_slippery=True))

    def describe(self, observation: Any, info: dict[str, Any]) -> str:
        return f"You stand on tile {int(observation)}."

    def parse(self, text: str) -> int | None:
        names = ["left", "down", "right", "up"]
        return names.index(text.strip()) if text.strip() in names else None


@pytest.mark.parametrize("factory", [Question, Lake], ids=lambda f: f.__name__)
def test_the_base_classes_conform(factory: EnvFactory) -> None:
    results = [run_check(name, factory) for name in CHECKS if name != "runs_in_async_vector"]
    assert [r for r in results if not r.passed] == []


def test_a_policy_that_never_names_an_action_does_not_go_on_for_ever() -> None:
    env = Lake()
    for _ in range(2):  # the count begins anew with each episode
        env.reset(seed=0)
        ends = [env.step("swim")[2:] for _ in range(Lake.patience)]
        assert [truncated for _, truncated, _ in ends] == [False] * (Lake.patience - 1) + [True]
        assert not any(terminated for terminated, _, _ in ends)
        assert ends[-1][2]["success"] is False
