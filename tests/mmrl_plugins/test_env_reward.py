import pytest

from mmrl import BadInput, Sample, Score, Trajectory, Turn
from mmrl_plugins.env_reward import EnvReward


def episode(*rewards: float) -> Trajectory:
    return Trajectory("t", "e", 0, "g", Sample.ask("q"), tuple(Turn((), "a", reward=r) for r in rewards), True, False)


def test_the_return_is_the_sum_of_the_turns() -> None:
    assert EnvReward().compute(episode(1.0, 0.0, 4.0)) == Score(5.0, turns=(1.0, 0.0, 4.0))
    assert EnvReward(gamma=0.5).compute(episode(1.0, 0.0, 4.0)) == Score(2.0, turns=(1.0, 0.0, 1.0))
    assert EnvReward(gamma=0.0).compute(episode(1.0, 3.0)) == Score(1.0, turns=(1.0, 0.0))


def test_an_episode_without_turns_has_no_return() -> None:
    assert EnvReward().compute(episode()).status == "not_applicable"


@pytest.mark.parametrize("gamma", [-0.1, 1.1, float("nan")])
def test_gamma_is_a_share(gamma: float) -> None:
    with pytest.raises(BadInput, match="gamma"):
        EnvReward(gamma=gamma)
