import math

import mmrl
from mmrl import Sample, Score, Trajectory, Turn
from mmrl_plugins.exploration import Exploration


def score(*keys: str | None) -> Score:
    turns = tuple(Turn((), "a", info={} if k is None else {"state_key": k}) for k in keys)
    return Exploration().compute(Trajectory("t", "e", 0, "g", Sample.ask("q"), turns, True, False))


def test_new_states() -> None:
    assert score("a", "b", "c") == Score(1.0, info={"new_states": 2}, turns=(0.5, 0.5, 0.0))
    assert score("a", "a", "b", "a", "c") == Score(0.5, info={"new_states": 2}, turns=(0.0, 0.25, 0.0, 0.25, 0.0))
    assert score("a", "a").value == 0.0


def test_missing_keys_are_left_out() -> None:
    assert score("a", None, "b", "c").turns == (0.0, 0.0, 1.0, 0.0)
    for keys in ((), ("a",), ("a", None), (None, None)):
        found = score(*keys)
        assert found.status == "not_applicable"
        assert found.info["reason"]


def test_the_shares_add_up_where_they_are_no_binary_fractions() -> None:
    found = score("a", "b", "b", "c", "a", "d", "e", "e")
    assert found.turns is not None
    assert found.value == 4 / 7
    assert math.isclose(math.fsum(found.turns), found.value, rel_tol=1e-12)


def test_a_real_environment_turning_in_a_circle() -> None:
    policy = mmrl.load_policy("random")
    (trajectory,) = mmrl.rollout("babyai/GoToLocal", policy=policy, seeds=[3], rewards=[{"name": "exploration"}])
    assert trajectory.record is not None
    found = trajectory.record.scores["exploration"]
    keys = [t.info["state_key"] for t in trajectory.turns]
    new = sum(k not in keys[: i + 1] for i, k in enumerate(keys[1:]))
    assert found.value == new / (len(keys) - 1)
