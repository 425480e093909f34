import threading
from collections import Counter
from typing import Any

import pytest

import mmrl
from mmrl import BadInput, Sample, Score, SingleTurnEnv, Trajectory, Turn
from mmrl.registry import ENVS
from mmrl_plugins.efficiency import Efficiency

RESETS: Counter[int] = Counter()


class Walk(mmrl.Env):
    """As many steps to the goal as the seed says; ``slow`` doubles them; the expert of seed 13 never arrives."""

    def __init__(self, slow: bool = False) -> None:
        super().__init__()
        self.slow, self.left = slow, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        assert seed is not None
        RESETS[seed] += 1
        self.left, self.hopeless = seed * (1 + self.slow), seed == 13
        return (), {"sample": Sample.ask("walk")}

    def step(self, action: str) -> Any:
        self.left -= 1
        over = self.left <= 0
        return (), 0.0, over, False, {"success": not self.hopeless} if over else {}

    def expert_action(self) -> str:
        return "walk"


class Stray(SingleTurnEnv):
    """An environment without an expert."""

    def draw(self) -> Sample:
        return Sample.ask("where?")


@pytest.fixture(autouse=True)
def environments() -> Any:
    ENVS.register("walk", Walk)
    ENVS.register("stray", Stray)
    RESETS.clear()
    yield
    del ENVS.local["walk"], ENVS.local["stray"]


def episode(steps: int, success: bool | None = True, seed: int = 3, env_id: str = "walk", **info: Any) -> Trajectory:
    end = {**info, **({} if success is None else {"success": success})}
    turns = (*(Turn((), "a"),) * (steps - 1), Turn((), "a", info=end)) if steps else ()
    return Trajectory("t", env_id, seed, "g", Sample.ask("q"), turns, True, False)


def score(*args: Any, plugin: Efficiency | None = None, **kwargs: Any) -> Score:
    return (plugin or Efficiency()).compute(episode(*args, **kwargs))


@pytest.mark.parametrize(("steps", "success", "expected"), [
    (3, True, 1.0), (6, True, 0.5), (2, True, 1.0), (4, True, 0.75), (3, False, 0.0),
])  # fmt: skip
def test_against_the_expert_of_the_environment(steps: int, success: bool, expected: float) -> None:
    found = score(steps, success)
    assert (found.value, found.info) == (expected, {"expert_steps": 3, "steps": steps, "success": success})


def test_what_the_environment_reports_comes_first() -> None:
    assert score(4, expert_steps=2).value == 0.5
    assert not RESETS
    for wrong in (0, -1, "2", 1.5):
        with pytest.raises(ValueError, match="expert_steps"):
            score(4, expert_steps=wrong)


def test_the_environment_s_arguments() -> None:
    assert score(6, plugin=Efficiency(env_kwargs={"slow": True})).value == 1.0
    with pytest.raises(BadInput, match="does not take these arguments"):
        score(6, plugin=Efficiency(env_kwargs={"sloow": True}))


@pytest.mark.parametrize(("wrong", "reason"), [
    ({"steps": 0}, "no turns"), ({"steps": 2, "success": None}, "no success"), ({"steps": 2, "seed": 13}, "not solve"),
    ({"steps": 2, "env_id": "stray"}, "no expert"), ({"steps": 2, "env_id": "nowhere"}, "unknown environment"),
    ({"steps": 2, "env_id": "mmrl_plugins.efficiency:Efficiency"}, "reference to code"),
])  # fmt: skip
def test_not_applicable(wrong: dict[str, Any], reason: str) -> None:
    found = score(**wrong)
    assert found.status == "not_applicable"
    assert reason in found.info["reason"]


def test_a_step_limit_for_the_expert() -> None:
    assert "within 2 steps" in score(3, plugin=Efficiency(max_steps=2)).info["reason"]


def test_code_is_run_only_if_the_configuration_names_it(tmp_path: Any) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nfrom mmrl_envs.arithmetic import "
                    "Arithmetic\n")  # fmt: skip
    ref = f"{file}:Arithmetic"
    assert score(1, env_id=ref).status == "not_applicable"
    assert not (tmp_path / "ran").exists()
    assert score(1, env_id=ref, plugin=Efficiency(env_id=ref)).value == 1.0
    assert (tmp_path / "ran").exists()


def test_cut_short_is_a_failure() -> None:
    cut = Trajectory("t", "walk", 3, "g", Sample.ask("q"), (Turn((), "a"),), False, True)
    assert Efficiency().compute(cut).value == 0.0


def test_the_expert_plays_a_seed_once_though_many_ask() -> None:
    plugin = Efficiency()
    threads = [threading.Thread(target=lambda s=s: plugin.expert_steps("walk", s)) for s in (3, 4, 5) * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert RESETS == {3: 1, 4: 1, 5: 1}


def test_the_expert_itself_is_fully_efficient_in_babyai() -> None:
    policy, rewards = mmrl.load_policy("expert"), [{"name": "efficiency"}]
    for trajectory in mmrl.rollout("babyai/GoToLocal", policy=policy, seeds=[0, 1, 2], rewards=rewards):
        assert trajectory.record is not None
        assert trajectory.record.scores["efficiency"].value == float(trajectory.success) == 1.0


@pytest.mark.parametrize("kwargs", [{"env_kwargs": ["slow"]}, {"max_steps": 0}])
def test_bad_arguments(kwargs: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Efficiency(**kwargs)
