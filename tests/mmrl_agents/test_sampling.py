import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from learner_tools import run_config, trajectory, turn

from mmrl.config import Config, RewardsConfig
from mmrl.episode import EpisodeSpec
from mmrl.errors import BadInput
from mmrl.score import RewardRecord, Score
from mmrl.trajectory import Trajectory
from mmrl_agents.credit import credit
from mmrl_agents.sampling import (
    Sampled,
    all_advantages,
    check_sampling,
    has_spread,
    kept_credit,
    resampling_metrics,
    sample,
)
from mmrl_agents.tasks import Plan, step_specs

SIZES = Plan(groups=3, size=2, steps=9)


def config(rounds: int, environments: Sequence[dict[str, Any]] = ({"id": "a", "seeds": {"start": 10}},),
           **args: Any) -> Config:
    return Config.model_validate(
        {"train_type": "GRPO", "model_id": "m", "environments": list(environments),
         "training_args": args, "rollout": {"dynamic_sampling": rounds}}
    )  # fmt: skip


class Toy:
    """Seeds in ``steep`` give one episode of a group 1 and the other 0; all others give 0."""

    def __init__(self, *steep: int) -> None:
        self.steep = steep
        self.rounds: list[list[EpisodeSpec]] = []

    def __call__(self, specs: Sequence[EpisodeSpec], number: int) -> list[Trajectory]:
        assert number == len(self.rounds)
        self.rounds.append(list(specs))
        rewards = [float(s.seed in self.steep and int(s.id[-1]) % 2) for s in specs]
        return [
            dataclasses.replace(trajectory(s.id, [turn([1], [2])], r), env_id=s.env_id, seed=s.seed, group=s.group)
            for s, r in zip(specs, rewards, strict=True)
        ]


def seeds(toy: Toy) -> list[list[int]]:
    return [[s.seed for s in round_][::2] for round_ in toy.rounds]


def test_rounds_take_fresh_tasks_until_all_groups_have_spread() -> None:
    toy = Toy(11, 14, 15)
    done = sample(config(5), SIZES, 4, (0,), toy)
    assert seeds(toy) == [[10, 11, 12], [13, 14], [15]]
    assert [s.id for round_ in toy.rounds for s in round_] == [f"s000004-{n:05d}" for n in range(12)]
    assert [s.group for round_ in toy.rounds for s in round_][::2] == [f"s000004-g{g:04d}" for g in range(6)]
    assert [s.key for round_ in toy.rounds for s in round_] == [(1, 0, 4, n) for n in range(12)]
    assert (done.kept, done.cursor, done.entries) == ([1, 4, 5], (6,), [0] * 6)
    assert [t.seed for t in done.batch] == [11, 11, 14, 14, 15, 15]
    assert [t.seed for t in done.trajectories][::2] == [10, 11, 12, 13, 14, 15]
    assert resampling_metrics(done) == {"groups/no_spread": 3.0, "groups/resampled": 3.0, "groups/dropped": 0.0}


def test_a_step_goes_on_from_its_cursor_and_is_the_same_when_run_again() -> None:
    first, again = Toy(12, 21, 22), Toy(12, 21, 22)
    one = sample(config(3), SIZES, 2, (2,), first)
    assert one == sample(config(3), SIZES, 2, (2,), again)
    assert first.rounds == again.rounds
    assert seeds(first) == [[12, 13, 14], [15, 16], [17, 18], [19, 20]]
    assert one.cursor == (11,)


def test_the_limit_leaves_the_rest_out() -> None:
    toy = Toy(12)
    done = sample(config(1), SIZES, 1, (0,), toy)
    assert seeds(toy) == [[10, 11, 12], [13, 14]]
    assert (done.kept, done.cursor) == ([2], (5,))
    assert resampling_metrics(done) == {"groups/no_spread": 4.0, "groups/resampled": 2.0, "groups/dropped": 2.0}
    earned = kept_credit(done, config(1))
    assert earned == credit(done.batch, 2, config(1))
    assert earned.advantages == pytest.approx([-0.7070, 0.7070], abs=1e-4)
    assert all_advantages(done, earned) == [0.0] * 4 + earned.advantages + [0.0] * 4


def test_no_group_with_spread_leaves_nothing_to_learn() -> None:
    done = sample(config(2), SIZES, 1, (0,), Toy())
    assert (done.kept, done.batch, len(done.trajectories)) == ([], [], 18)
    for args in ({}, {"advantage": "gigpo"}, {"turn_discount": 0.5}, {"advantage": "batch_std"}):
        assert kept_credit(done, config(2, **args)).advantages == []
    assert all_advantages(done, kept_credit(done, config(2))) == [0.0] * 18


def test_without_dynamic_sampling_every_group_is_kept() -> None:
    toy = Toy(11)
    done = sample(config(0), SIZES, 1, (0,), toy)
    assert (toy.rounds, list(done.cursor)) == ([step_specs(config(0), SIZES, 1, (0,))[0]], [3])
    assert (done.kept, done.batch, done.spread) == ([0, 1, 2], done.trajectories, None)
    assert resampling_metrics(done) == {}
    earned = kept_credit(done, config(0))
    assert all_advantages(done, earned) == earned.advantages


def test_a_mix_goes_on_where_the_round_before_ended() -> None:
    """The tasks of all rounds together are those of one longer round."""
    mix = [{"id": "a", "weight": 2.0}, {"id": "b"}]
    toy = Toy()
    done = sample(config(3, mix), SIZES, 5, (7, 1), toy)
    specs, cursor = step_specs(config(3, mix), dataclasses.replace(SIZES, groups=12), 5, (7, 1))
    assert [s for round_ in toy.rounds for s in round_] == specs
    assert list(done.cursor) == cursor
    assert [("a", "b")[e] for e in done.entries] == [s.env_id for s in specs][::2]
    assert set(done.entries) == {0, 1}


def test_weights_steer_the_mix() -> None:
    mix = [{"id": "a"}, {"id": "b"}]
    done = sample(config(0, mix), Plan(20, 2, 9), 1, (0, 0), Toy(), weights=(1e-9, 1.0))
    assert done.entries == [1] * 20
    assert done.success == [None, 0.0]


def scored(values: Sequence[float | None]) -> list[Trajectory]:
    """A group of these rewards; None is invalid."""
    return [
        trajectory(str(i), [turn([1], [2])], record=RewardRecord(v or 0.0, v is not None, {}))
        for i, v in enumerate(values)
    ]


@pytest.mark.parametrize(("rewards", "expected"), [
    ([0.0, 0.0, 0.0, 0.0], False),
    ([0.1, 0.1, 0.1, 0.1], False),
    ([0.0, 0.0, 0.0, 1.0], True),
    ([0.3, None, 0.3, None], False),
    ([0.3, None, 0.4, None], True),
    ([0.3, None, None, None], False),
    ([None, None, None, None], False),
])  # fmt: skip
def test_spread_is_of_the_valid_rewards(rewards: list[float | None], expected: bool) -> None:
    for advantage in ("grpo", "dr_grpo", "rloo", "batch_std"):
        assert has_spread(scored(rewards), config(1, advantage=advantage)) is expected


def test_plugins_compared_one_by_one_may_have_spread_where_their_sum_has_none() -> None:
    """1/4 * (1, 0) + 1/2 * (0, 1/2) is 1/4 twice; GDPO scales both to one spread, and the second then weighs more."""
    scores = [{"p": Score(1.0), "q": Score(0.0)}, {"p": Score(0.0), "q": Score(0.5)}]
    records = [RewardRecord(0.25, True, s, {"p": 0.25, "q": 0.5}) for s in scores]
    group = [trajectory(str(i), [turn([1], [2])], record=r) for i, r in enumerate(records)]
    assert not has_spread(group, config(1))
    decoupled = config(1).model_copy(update={"rewards": RewardsConfig(normalise="normalise_then_sum")})
    assert has_spread(group, decoupled)


def test_turns_with_credit_of_their_own_may_have_spread_where_rewards_have_none() -> None:
    """Two successes, one in fewer turns: with a discount the long one's early turns are worth less."""
    one, three = [turn([1], [2])], [turn([1], [2])] * 3
    group = [trajectory("a", one, 1.0), trajectory("b", three, 1.0)]
    assert not has_spread(group, config(1))
    assert has_spread(group, config(1, turn_discount=0.5))


def test_invalid_trajectories_of_left_out_groups_have_no_advantage() -> None:
    group = scored([0.0, None])
    done = Sampled(group, 2, [0], [0.0], [], 1, [False], (1,))
    assert all_advantages(done, kept_credit(done, config(1))) == [0.0, None]


def test_an_advantage_without_groups_is_bad_input(tmp_path: Path) -> None:
    args = {"advantage": "reinforce_pp", "num_generations": 1}
    words = (r"run\.yaml:\d+: rollout\.dynamic_sampling replaces groups without spread, but advantage 'reinforce_pp' "
             "needs no groups; set it to 0, or take an advantage that compares them: grpo, dr_grpo, rloo")  # fmt: skip
    with pytest.raises(BadInput, match=words):
        check_sampling(run_config(tmp_path, training_args=args, rollout={"dynamic_sampling": 2}))
    check_sampling(run_config(tmp_path, training_args=args))
    check_sampling(run_config(tmp_path, rollout={"dynamic_sampling": 2}))
