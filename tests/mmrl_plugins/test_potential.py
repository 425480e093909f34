import dataclasses

from reward_tools import episode, suite_of

from mmrl import Score, Turn
from mmrl_plugins.potential import Potential


def with_potentials(*values: float | None) -> Score:
    turns = tuple(Turn((), "x", info={} if v is None else {"potential": v}) for v in values)
    record = suite_of({"p": Potential(scale=2.0)}, discount=0.5).score([dataclasses.replace(episode(), turns=turns)])[0]
    return record.scores["p"]


def test_rewards_of_the_environments_potentials() -> None:
    score = with_potentials(1.0, 2.0, 0.5)
    assert score.turns == (0.5 * 4 - 2, 0.5 * 1 - 4, -1.0)
    assert score.value == sum(score.turns)
    assert score.info == {"potentials": [2.0, 4.0, 1.0]}


def test_without_potentials_it_does_not_apply() -> None:
    assert with_potentials().info["reason"] == "the episode has no turns"
    assert with_potentials(1.0, None).info["reason"] == "the environment reports no potential"
