import pytest

from mmrl_agents.token_reward import by_turn, on_tokens


def test_a_turns_reward_falls_on_its_last_token() -> None:
    assert on_tokens([3.0, -1.0], [3, 1]) == [0.0, 0.0, 3.0, -1.0]


def test_every_token_is_charged_for_itself() -> None:
    assert on_tokens([3.0, -1.0], [3, 1], [0.5, -0.5, 1.0, 2.0]) == [-0.5, 0.5, 2.0, -3.0]
    with pytest.raises(ValueError, match="zip"):
        on_tokens([3.0, -1.0], [3, 1], [0.5])


def test_tokens_cut_into_turns() -> None:
    assert by_turn([1.0, 2.0, 3.0], [2, 1]) == [[1.0, 2.0], [3.0]]
    with pytest.raises(ValueError, match=r"3 values for turns of \[2, 2\] tokens"):
        by_turn([1.0, 2.0, 3.0], [2, 2])
