"""Validity carried from the scorer to the advantage, exactly."""

import asyncio
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_tools import install
from reward_tools import batched, episode, suite_of

from mmrl.config import Config
from mmrl.errors import BadInput
from mmrl.reward import RewardPlugin, RewardSuite
from mmrl.score import RewardRecord, Score
from mmrl.trajectory import Trajectory, Turn
from mmrl_agents.advantage import batch_std, gdpo, grpo, reinforce_pp
from mmrl_agents.credit import METHODS, REGISTRY, credit, find_method, overlong, turn_rewards
from mmrl_agents.foresight import foresight
from mmrl_agents.gae import gae, whitened

SIZE = 8


def config(normalise: str = "sum_then_normalise", **args: Any) -> Config:
    return Config.model_validate({
        "train_type": "GRPO", "model_id": "m", "environments": [{"id": "e"}], "training_args": args,
        "rewards": {"normalise": normalise},
    })  # fmt: skip


def batch(n: int = 3 * SIZE) -> list[Trajectory]:
    return [episode("a" * (i % 5), "b" * (i % 3), id=f"t{i}", seed=i) for i in range(n)]


def scored(suite: RewardSuite, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
    records = suite.score(trajectories)
    return [dataclasses.replace(t, record=r) for t, r in zip(trajectories, records, strict=True)]


class Length(RewardPlugin):
    def compute(self, response: str, trajectory: Trajectory) -> float:
        return len(response) + math.sqrt(trajectory.seed)


def stumbles(trajectory: Trajectory) -> float:
    if trajectory.seed % 7 == 6:
        raise ValueError("seven")
    return 0.0


def wrong_list(trajectories: Sequence[Trajectory]) -> list[Score]:
    return [Score(0.0)] * (len(trajectories) if all(t.seed % 5 for t in trajectories) else 7)


class Raises(RewardPlugin):
    def compute(self, trajectory: Trajectory) -> float:
        return stumbles(trajectory)


class IsNan(RewardPlugin):
    def compute(self, trajectory: Trajectory) -> float:
        return math.nan if trajectory.seed % 4 == 1 else 0.0


class Hangs(RewardPlugin):
    async def compute(self, trajectory: Trajectory) -> float:
        await asyncio.sleep(60 if trajectory.seed == 10 else 0)
        return 0.0


BROKEN: dict[str, tuple[RewardPlugin, set[int]]] = {
    "raises": (Raises(), {i for i in range(24) if i % 7 == 6}),
    "nan": (IsNan(), {i for i in range(24) if i % 4 == 1}),
    "wrong_length": (batched(wrong_list), {i for i in range(24) if i % 5 == 0}),
    "hangs": (Hangs(), {10}),
}


@pytest.mark.parametrize("names", [[n] for n in BROKEN] + [list(BROKEN)])
def test_broken_plugins_cost_their_own_samples_and_nothing_else(names: list[str]) -> None:
    good, everything = {"length": Length()}, batch()
    broken = {n: BROKEN[n][0] for n in names}
    lost = set[int]().union(*(BROKEN[n][1] for n in names))
    entries = {n: {"timeout_s": 2.0, "weight": 1.0} for n in names} | {"length": {"weight": 2.0}}
    with_broken = credit(scored(suite_of(good | broken, entries), everything), SIZE, config()).advantages
    assert {i for i, a in enumerate(with_broken) if a is None} == lost
    # What is left is compared as if the lost ones had never been sampled.
    plain = scored(suite_of(good, {"length": {"weight": 2.0}}), everything)
    for start in range(0, len(plain), SIZE):
        left = [i for i in range(start, start + SIZE) if i not in lost]
        alone = credit([plain[i] for i in left], len(left), config()).advantages if left else []
        assert [with_broken[i] for i in left] == alone


def test_failures_that_are_left_out_change_no_advantage() -> None:
    everything, good = batch(), {"length": Length()}
    broken = {n: plugin for n, (plugin, _) in BROKEN.items() if n != "hangs"}
    entries = {n: {"on_failure": "leave_out", "weight": 0.0} for n in broken}
    both = credit(scored(suite_of(good | broken, entries), everything), SIZE, config()).advantages
    assert both == credit(scored(suite_of(good), everything), SIZE, config()).advantages
    assert None not in both


def test_a_group_with_one_valid_trajectory_learns_nothing() -> None:
    class OnlyFirst(RewardPlugin):
        def compute(self, trajectory: Trajectory) -> float:
            return 1.0 if trajectory.seed == 0 else math.nan

    got = credit(scored(suite_of({"p": OnlyFirst()}), batch(SIZE)), SIZE, config()).advantages
    assert got == [0.0, *[None] * (SIZE - 1)]


def test_normalise_then_sum_gives_every_plugin_its_say() -> None:
    # One plugin moves by thousands, the other by thousandths, against each other.
    trajectories = [
        dataclasses.replace(t, record=RewardRecord(1.0, True, {"big": Score(1000.0 * i), "small": Score(-0.001 * i)},
                                                   {"big": 1.0, "small": 1.0}))
        for i, t in enumerate(batch(4))
    ]  # fmt: skip
    got = credit(trajectories, 4, config("normalise_then_sum")).advantages
    steps, all_of_them = torch.arange(4, dtype=torch.float64), torch.ones(4, dtype=torch.bool)
    apart = grpo(1000 * steps, all_of_them) + grpo(-0.001 * steps, all_of_them)
    torch.testing.assert_close(torch.tensor(got), grpo(apart, all_of_them).float(), rtol=1e-6, atol=1e-6)
    # The sum of raw scores would not have noticed the small one; here it turns the order round within its epsilon.
    assert apart.abs().max() < 0.15


def test_gdpo_by_hand() -> None:
    scores = torch.tensor([[1.0, 0.0], [3.0, 9.0], [5.0, 5.0], [7.0, 5.0]], dtype=torch.float64)
    applies = torch.tensor([[True, True], [True, False], [True, True], [True, True]])
    valid, weights = torch.ones(4, dtype=torch.bool), torch.tensor([[1.0, 2.0]] * 4, dtype=torch.float64)
    one = 2**-0.5 * 2 / (2**0.5 + 1e-4) * 2**0.5 / 2  # (3 - 2) / (sqrt(2) + 1e-4)
    # Group 0: plugin 0 is -1, 1 over sqrt(2); plugin 1 applies once: 0.  Group 1: plugin 0 likewise, plugin 1 has no
    # spread: 0.
    total = torch.tensor([-one, one, -one, one], dtype=torch.float64)
    torch.testing.assert_close(gdpo(scores, applies, weights, valid, 2), grpo(total, valid), rtol=1e-9, atol=1e-12)
    assert gdpo(scores, applies, weights, valid & torch.tensor([True, True, True, False]), 2)[3] == 0.0


def with_states(states: Sequence[str], reward: float) -> Trajectory:
    turns = tuple(Turn((), "x", info={"state_key": s}) for s in states)
    return dataclasses.replace(episode("x"), turns=turns, record=RewardRecord(reward, True, {}))


def test_step_credit_compares_what_followed_the_same_state() -> None:
    # From s the first went straight to success, the second by way of t, the third failed.
    group = [with_states("s", 1.0), with_states("st", 1.0), with_states("su", 0.0)]
    got = credit(group, 3, config(turn_baseline="state", turn_discount=0.5)).turns
    assert got == [[0.5], [0.0, 0.0], [-0.5, 0.0]]
    invalid = dataclasses.replace(group[0], error="gone")
    got = credit([invalid, *group[1:]], 3, config(turn_baseline="state", turn_discount=0.5)).turns
    assert got == [[0.25, 0.0], [-0.25, 0.0]]


def test_step_credit_needs_states() -> None:
    t = dataclasses.replace(episode("x"), record=RewardRecord(1.0, True, {}))
    with pytest.raises(BadInput, match="reports no state_key; take 'group'"):
        credit([t, t], 2, config(turn_baseline="state"))


def test_shares_of_the_turns_reach_the_credit() -> None:
    t = dataclasses.replace(episode("a", "b"), record=RewardRecord(1.0, True, {}, turns=(3.0, -2.0)))
    assert turn_rewards(t) == [3.0, -2.0]
    assert turn_rewards(dataclasses.replace(t, record=RewardRecord(1.0, True, {}))) == [0.0, 1.0]
    assert turn_rewards(dataclasses.replace(t, error="gone")) == [0.0, 0.0]
    u = dataclasses.replace(t, record=RewardRecord(0.0, True, {}, turns=(0.0, 0.0)))
    got = credit([t, u], 2, config(turn_discount=0.5, advantage="dr_grpo")).turns
    assert got == [[2.0, -2.0], [0.0, 0.0]]


def rewarded(rewards: Sequence[float | None]) -> list[Trajectory]:
    return [
        dataclasses.replace(episode("x", "y", id=f"t{i}"), record=RewardRecord(r or 0.0, r is not None, {}))
        for i, r in enumerate(rewards)
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dr_grpo", [-1.0, 1.0, -2.0, 2.0]),
        ("rloo", [-2.0, 2.0, -4.0, 4.0]),
        ("grpo", [-1 / (2**0.5 + 1e-4), 1 / (2**0.5 + 1e-4), -2 / (8**0.5 + 1e-4), 2 / (8**0.5 + 1e-4)]),
        # The batch's mean is 2, its deviations -2, 0, -1, 3.
        ("batch_std", [a / ((14 / 3) ** 0.5 + 1e-4) for a in (-1.0, 1.0, -2.0, 2.0)]),
    ],
)
def test_estimators_by_name(name: str, expected: list[float]) -> None:
    got = credit(rewarded([0.0, 2.0, 1.0, 5.0]), 2, config(advantage=name)).advantages
    assert got == pytest.approx(expected, abs=1e-12)


def test_batch_std_compares_turns_over_the_batch_too() -> None:
    batch = rewarded([0.0, 2.0, 1.0, None])  # the last group has one valid trajectory
    got = credit(batch, 2, config(advantage="batch_std", turn_discount=0.5))
    returns = torch.tensor([0.0, 0.0, 1.0, 2.0], dtype=torch.float64)
    by_hand = batch_std(returns, torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.long)).tolist()
    assert got.turns == [by_hand[:2], by_hand[2:], [0.0, 0.0]]
    assert got.advantages[2:] == [0.0, None]


def test_reinforce_pp_gives_every_token_its_own() -> None:
    turns = (Turn((), "x", token_ids=(1, 2), logprobs=(0.0, 0.0)), Turn((), "y", token_ids=(3,), logprobs=(0.0,)))
    batch = [dataclasses.replace(t, turns=turns) for t in rewarded([1.0, None, 0.0])]
    got = credit(batch, 1, config(advantage="reinforce_pp", token_discount=0.5, num_generations=1))
    rows = reinforce_pp([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]], [[2, 1]] * 3, [True, False, True], 0.5)
    assert got.tokens == [rows[0], rows[2]]
    assert got.turns is None
    assert got.advantages == [sum(rows[0]) / 3, None, sum(rows[2]) / 3]


def test_gigpo_adds_the_episode_to_the_step() -> None:
    group = [with_states("s", 1.0), with_states("st", 1.0), with_states("su", 0.0)]
    got = credit(group, 3, config(advantage="gigpo", turn_discount=0.5, gigpo_omega=2.0))
    third = 1 / 3
    assert got.advantages == pytest.approx([third, third, -2 * third], abs=1e-12)
    assert got.turns is not None
    flat = [a for row in got.turns for a in row]
    assert flat == pytest.approx([third + 1.0, third, third, -2 * third - 1.0, -2 * third], abs=1e-12)
    t = dataclasses.replace(episode("x"), record=RewardRecord(1.0, True, {}))
    with pytest.raises(BadInput, match=r"\.advantage is 'gigpo', but .* reports no state_key; take 'grpo'"):
        credit([t, t], 2, config(advantage="gigpo"))


OWN = """
import torch
def best(rewards, valid):
    return torch.where(valid & (rewards == rewards[valid].max()), 1.0, 0.0)
def three(rewards, valid, more): return rewards
def mean(rewards, valid): return rewards.mean()
def breaks(rewards, valid): return rewards / valid.size
def nan(rewards, valid): return rewards * float("nan")
NUMBER = 3
"""


def test_an_estimator_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    got = credit(rewarded([0.0, 2.0, None, 5.0]), 2, config(advantage=f"{tmp_path}/own.py:best"))
    assert got.advantages == [0.0, 1.0, None, 1.0]
    got = credit(rewarded([0.0, 2.0]), 2, config(advantage=f"{tmp_path}/own.py:best", turn_discount=0.5))
    assert got.turns == [[0.0, 0.0], [0.0, 1.0]]


def test_an_installed_estimator_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, REGISTRY, OWN, "highest = theirs:best")
    assert credit(rewarded([0.0, 2.0]), 2, config(advantage="highest")).advantages == [0.0, 1.0]


@pytest.mark.parametrize(("name", "said"), [
    ("three", "cannot be called with 2 arguments; write a function (rewards, valid) that returns the advantage of"),
    ("NUMBER", "cannot be called with 2 arguments"),
    ("mean", "returns a tensor of shape () for shape (4,)"),
    ("breaks", "fails on a small example: TypeError"),
    ("nan", "returns numbers that are not finite"),
    ("bets", "unknown name in"),
])  # fmt: skip
def test_what_is_no_estimator_is_bad_input(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(BadInput) as error:
        find_method(f"{tmp_path}/own.py:{name}", "run.yaml:8")
    assert str(error.value).startswith("run.yaml:8: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_every_method_reads_keys_that_exist() -> None:
    keys = {k for m in METHODS.values() for k in m.keys}
    assert keys == {"turn_discount", "turn_baseline", "token_discount", "gigpo_omega", "gae_lambda",
                    "critic_learning_rate", "value_coef", "value_clip"}  # fmt: skip
    assert [n for n, m in METHODS.items() if not m.groups] == ["reinforce_pp", "gae", "gae_turn"]
    assert [n for n, m in METHODS.items() if m.critic] == ["gae", "gae_turn"]


def two_turns(name: str, reward: float | None, **changes: Any) -> Trajectory:
    """Two sampled tokens, then one."""
    turns = (Turn((), "x", token_ids=(1, 2), logprobs=(0.0, 0.0)), Turn((), "y", token_ids=(3,), logprobs=(0.0,)))
    return dataclasses.replace(rewarded([reward])[0], id=name, turns=turns, **changes)


SEEN = {
    "a": foresight([-1.0, -1.0, -1.0], [0.5, 1.0, 2.0], [-2.0, -1.0, 1.0], 0.5),  # charges 0.5, 0, -1
    "b": foresight([-1.0, -1.0, -1.0], [0.25, 0.0, -1.0], [-1.0, -3.0, -1.0], 0.5),  # charges 0, 1, 0
}
FREE = {name: dataclasses.replace(f, charges=()) for name, f in SEEN.items()}


def test_gae_asks_the_critic_before_every_token() -> None:
    batch = [two_turns("a", 3.0), two_turns("broken", None), two_turns("b", 1.0)]
    got = credit(batch, 1, config(advantage="gae", token_discount=0.5, gae_lambda=0.4), FREE)
    rows = [gae([0.0, 0.0, r], FREE[n].values, 0.5, 0.4) for n, r in (("a", 3.0), ("b", 1.0))]
    assert got.tokens == whitened(rows)
    assert got.turns is None
    assert got.advantages == [sum(got.tokens[0]) / 3, None, sum(got.tokens[1]) / 3]
    assert got.returns == [[a + v for a, v in zip(row, FREE[n].values, strict=True)]
                           for row, n in zip(rows, "ab", strict=True)]  # fmt: skip


def test_gae_over_turns_asks_it_before_their_first_tokens() -> None:
    batch = [two_turns("a", 3.0), two_turns("b", 1.0)]
    got = credit(batch, 1, config(advantage="gae_turn", turn_discount=0.5, gae_lambda=0.4), FREE)
    rows = [gae([0.0, 3.0], [0.5, 2.0], 0.5, 0.4), gae([0.0, 1.0], [0.25, -1.0], 0.5, 0.4)]
    (a, b), (c, d) = whitened(rows)
    assert got.tokens == [[a, a, b], [c, c, d]]
    assert got.advantages == [(a + b) / 2, (c + d) / 2]
    assert got.returns == [[rows[0][0] + 0.5, None, rows[0][1] + 2.0], [rows[1][0] + 0.25, None, rows[1][1] - 1.0]]


@pytest.mark.parametrize("name", ["gae", "gae_turn"])
def test_an_episode_that_was_cut_short_ends_as_one_that_ended(name: str) -> None:
    ended, cut = (
        credit([two_turns("a", 3.0, terminated=not short, truncated=short), two_turns("b", 1.0)], 1,
               config(advantage=name), FREE)
        for short in (False, True)
    )  # fmt: skip
    assert ended == cut


def test_gae_without_a_critics_words_and_discount_is_the_whitened_return() -> None:
    batch = [two_turns("a", 3.0), two_turns("b", 1.0)]
    silent = {name: dataclasses.replace(f, values=(0.0, 0.0, 0.0)) for name, f in FREE.items()}
    got = credit(batch, 1, config(advantage="gae", gae_lambda=1.0), silent)
    pp = credit(batch, 1, config(advantage="reinforce_pp"))
    assert got.tokens == pp.tokens
    assert got.returns == [[3.0] * 3, [1.0] * 3]


def test_kl_comes_off_the_reward_of_a_trajectory_before_groups_are_compared() -> None:
    batch = [two_turns("a", 3.0), two_turns("b", 1.0)]
    got = credit(batch, 2, config(advantage="dr_grpo", kl_in="reward", kl_coef=0.5), SEEN)
    a, b = 3.0 - (0.5 + 0 - 1), 1.0 - 1.0
    assert got.advantages == [(a - b) / 2, (b - a) / 2]
    assert credit(batch, 2, config(advantage="dr_grpo"), FREE).advantages == [1.0, -1.0]


def test_kl_comes_off_the_reward_of_its_own_turn() -> None:
    batch = [two_turns("a", 3.0), two_turns("b", 1.0)]
    got = credit(batch, 2, config(advantage="dr_grpo", turn_discount=0.5), SEEN).turns
    a, b = [-0.5 + 0.5 * 4.0, 4.0], [-1.0 + 0.5 * 1.0, 1.0]  # returns-to-go of the turns' rewards less their KL
    mean = sum(a + b) / 4
    assert got == [[x - mean for x in a], [x - mean for x in b]]
    states = [dataclasses.replace(t, turns=tuple(dataclasses.replace(u, info={"state_key": "s"}) for u in t.turns))
              for t in batch]  # fmt: skip
    steps = credit(states, 2, config(advantage="gigpo", turn_discount=0.5), SEEN)
    assert steps.advantages == [1.75, -1.75]
    assert steps.turns == [[1.75 + x - mean for x in a], [-1.75 + x - mean for x in b]]


def test_kl_comes_off_the_reward_of_its_own_token() -> None:
    batch = [two_turns("a", 3.0), two_turns("b", 1.0)]
    got = credit(batch, 1, config(advantage="reinforce_pp", token_discount=0.5), SEEN)
    rewards = [[-0.5, 0.0, 4.0], [0.0, -1.0, 1.0]]
    assert got.tokens == reinforce_pp(rewards, [[1, 1, 1]] * 2, [True, True], 0.5)
    estimated = credit(batch, 1, config(advantage="gae", token_discount=0.5), SEEN).tokens
    assert estimated == whitened(
        [gae(r, SEEN[n].values, 0.5, 0.95) for r, n in zip(rewards, "ab", strict=True)]
    )
    turns = credit(batch, 1, config(advantage="gae_turn"), SEEN).tokens
    (a, b), (c, d) = whitened([gae([-0.5, 4.0], [0.5, 2.0], 1.0, 0.95), gae([-1.0, 1.0], [0.25, -1.0], 1.0, 0.95)])
    assert turns == [[a, a, b], [c, c, d]]


def cut(t: Trajectory) -> Trajectory:
    """The same episode, its last answer cut by the token limit."""
    return dataclasses.replace(t, turns=(*t.turns[:-1], dataclasses.replace(t.turns[-1], finish_reason="length")))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("turn_discount", [1.0, 0.5])
def test_overlong_trajectories_teach_nothing_and_are_compared_nevertheless(method: str, turn_discount: float) -> None:
    """Neither they nor their rows are there; everybody else has what they would have had."""
    batch = [two_turns("a", 3.0), two_turns("broken", None), two_turns("b", 1.0), two_turns("c", 0.5)]
    batch = [dataclasses.replace(t, turns=tuple(dataclasses.replace(u, info={"state_key": "s"}) for u in t.turns))
             for t in batch]  # fmt: skip
    seen = {**FREE, "c": FREE["b"]}
    args = {"advantage": method, "turn_discount": turn_discount}
    long = [cut(t) if t.id == "b" else t for t in batch]
    plain = credit(long, 4, config(**args), seen)
    got = credit(long, 4, config(mask_truncated_completions=True, **args), seen)
    assert plain == credit(batch, 4, config(**args), seen)
    assert got.advantages == [plain.advantages[0], None, None, plain.advantages[3]]
    for mine, whole in ((got.turns, plain.turns), (got.tokens, plain.tokens), (got.returns, plain.returns)):
        assert mine == (None if whole is None else [whole[0], whole[2]])


def test_an_answer_that_was_cut_before_the_last_is_no_reason_to_leave_an_episode_out() -> None:
    early, none = two_turns("a", 3.0), dataclasses.replace(two_turns("n", 1.0), turns=())
    early = dataclasses.replace(early, turns=(dataclasses.replace(early.turns[0], finish_reason="length"),
                                              early.turns[1]))  # fmt: skip
    assert [overlong(t) for t in (early, none, cut(early))] == [False, False, True]
