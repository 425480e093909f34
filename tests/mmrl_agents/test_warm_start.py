import json
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_tools import run_config
from safetensors.torch import load_file

import mmrl
from mmrl.config import WarmStart
from mmrl.errors import BadInput
from mmrl.report import Quiet
from mmrl.rollout import rollout
from mmrl.store import RunStore
from mmrl_agents.models import find_model
from mmrl_agents.policies.noisy_expert import NoisyExpert
from mmrl_agents.train import Grpo
from mmrl_envs.babyai import ACTIONS

PLAN = {"episodes": 12, "steps": 6, "batch_size": 8, "learning_rate": 2e-3}


def warm_config(tmp_path: Path, name: str = "run", **sections: Any) -> Any:
    rollout_ = {"max_turns": 8, "max_new_tokens": 8}
    tree = {"environments": [{"id": "babyai/GoToObj"}], "warm_start": PLAN, "rollout": rollout_}
    return run_config(tmp_path, name, **{**tree, **sections})


class StopAtTick(Quiet):
    """Asks for an end at the third piece of work, as Ctrl-C does."""

    def __init__(self) -> None:
        self.ticks = 0
        self.stopping = False

    def tick(self) -> None:
        self.ticks += 1
        self.stopping = self.ticks == 3


def weights(root: Path, name: str = "final") -> dict[str, torch.Tensor]:
    return load_file(root / name / "model.safetensors")


def test_the_noisy_expert_remembers_its_own_turns_and_repeats_itself() -> None:
    def play(noise: float) -> tuple[list[list[str]], NoisyExpert]:
        expert = NoisyExpert(noise)
        episodes = rollout("babyai/GoToObj", expert, range(20), max_turns=40)
        return [[t.response for t in e.turns] for e in episodes], expert

    (said, expert), (again, _) = play(0.5), play(0.5)
    assert said == again
    own = [flag for flags in expert.own.values() for flag in flags]
    assert 0.35 < sum(own) / len(own) < 0.65
    assert [len(flags) for _, flags in sorted(expert.own.items())] == [len(e) for e in said]
    assert all(flag for flags in play(0.0)[1].own.values() for flag in flags)


def test_noise_changes_the_action_and_not_what_is_said_before_it() -> None:
    episodes = rollout("babyai/GoToObj", NoisyExpert(0.9), range(4), max_turns=10, env_kwargs={"reasoning": True})
    turns = [turn.response.split(": ") for e in episodes for turn in e.turns]
    assert len({tuple(said.split()[:3]) for said, _ in turns}) <= 4, "one object each: the green ball"
    assert {action for _, action in turns} == set(ACTIONS)


def test_experts_have_the_largest_cap_of_a_schedule(tmp_path: Path) -> None:
    """Whole solutions are imitated, also where the policy itself begins with a single turn."""

    class Listening(Quiet):
        def say(self, line: str) -> None:
            said.append(line)

    imitated: list[str] = []
    for name, cap in (("first", 1), ("last", 8), ("both", {"schedule": "linear", "from": 1, "to": 8})):
        said: list[str] = []
        loaded = warm_config(tmp_path, name, rollout={"max_turns": cap, "max_new_tokens": 2},
                             training_args={"max_steps": 1}, warm_start={**PLAN, "steps": 1})  # fmt: skip
        root = Grpo().train(loaded, False, Listening())
        imitated += [line for line in said if line.startswith("warm start: imitating")]
    assert imitated[0] != imitated[1] == imitated[2]
    assert [m["max_turns"] for m in RunStore(root).metrics()] == [1]


def test_weights_say_how_many_episodes_are_imitated(tmp_path: Path) -> None:
    class Listening(Quiet):
        def begin(self, what: str, total: int) -> None:
            begun[what] = total

    begun: dict[str, int] = {}
    environments = [{"id": "babyai/GoToObj"}, {"id": "babyai/GoToObj", "weight": 2.5}]
    Grpo().train(warm_config(tmp_path, environments=environments), False, Listening())
    assert begun["warm start: expert episodes"] == 12 + 30


def test_the_rate_of_imitation_falls_unless_it_is_constant(tmp_path: Path) -> None:
    def imitated(name: str, **plan: Any) -> dict[str, torch.Tensor]:
        loaded = warm_config(tmp_path, name, training_args={"max_steps": 1}, warm_start={**PLAN, **plan})
        return weights(Grpo().train(loaded, False, Quiet()), "warm")

    silent, linear, constant = imitated("silent"), *(imitated(n, lr_scheduler_type=n) for n in ("linear", "constant"))
    assert all(torch.equal(silent[k], linear[k]) for k in linear)
    start = load_file(Path(find_model(warm_config(tmp_path).config.model_id).base) / "model.safetensors")
    moved = [sum(float((w[k] - start[k]).norm()) for k in start) for w in (linear, constant)]
    assert 0 < moved[0] < moved[1]


def test_imitation_comes_first_and_the_same_bits_come_twice(tmp_path: Path) -> None:
    runs = [warm_config(tmp_path, n, eval={"episodes": 4, "final_episodes": 4}) for n in ("a", "b")]
    roots = [Grpo().train(loaded, False, Quiet()) for loaded in runs]
    one, two = map(weights, roots)
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert {p.stem.split("-")[0] for p in (roots[0] / "eval").glob("*.json")} == {"before", "warm", "step", "after"}
    cold = weights(Grpo().train(warm_config(tmp_path, "cold", warm_start=None), False, Quiet()))
    assert any(not torch.equal(one[k], cold[k]) for k in one)


def test_the_policy_learns_what_the_expert_does(tmp_path: Path) -> None:
    loaded = warm_config(
        tmp_path, warm_start={"episodes": 40, "steps": 10, "batch_size": 16, "noise": 0.0},
        model_id="mmrl/tiny", training_args={"max_steps": 1, "learning_rate": 1e-9},
    )  # fmt: skip
    policy = mmrl.load_policy(str(Grpo().train(loaded, False, Quiet()) / "final"), max_new_tokens=8)
    actions = [t.response for e in rollout("babyai/GoToObj", policy, range(16), max_turns=8) for t in e.turns]
    named = {"turn left", "turn right", "go forward", "pick up", "drop", "toggle"}
    known = sum(a in named for a in actions) / len(actions)
    start = mmrl.load_policy("mmrl/tiny", max_new_tokens=8)
    before = [t.response for e in rollout("babyai/GoToObj", start, range(16), max_turns=8) for t in e.turns]
    assert known > sum(a in named for a in before) / len(before)
    useless = ("pick up", "drop", "toggle")
    assert sum(a in useless for a in actions) < sum(a in useless for a in before)


def test_an_interrupted_warm_start_begins_again(tmp_path: Path) -> None:
    loaded = warm_config(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        Grpo().train(loaded, False, StopAtTick())
    resumed = weights(Grpo().train(loaded, True, Quiet()))
    whole = weights(Grpo().train(warm_config(tmp_path, "whole"), False, Quiet()))
    assert all(torch.equal(resumed[k], whole[k]) for k in whole)
    assert RunStore(loaded.output_dir).metrics()[0]["step"] == 1


def test_an_environment_without_an_expert_is_refused(tmp_path: Path) -> None:
    loaded = warm_config(tmp_path, environments=[{"id": "minigrid/Empty-5x5"}])
    with pytest.raises(BadInput, match="warm_start imitates experts, but"):
        Grpo().check(loaded)


def test_defaults() -> None:
    assert json.loads(WarmStart().model_dump_json())["noise"] == 0.25
