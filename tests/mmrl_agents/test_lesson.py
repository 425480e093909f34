from learner_tools import ragged, trajectory, turn

from mmrl_agents.credit import Credit
from mmrl_agents.lesson import lesson_of, with_replays


def test_invalid_trajectories_are_left_out() -> None:
    a, b, c = ragged(3)
    lesson = lesson_of([a, b, c], Credit([1.0, None, -1.0], [[1.0], [0.5, -0.5]]))
    assert (lesson.trajectories, lesson.advantages) == ([a, c], [1.0, -1.0])
    assert (lesson.turns, lesson.tokens) == ([[1.0], [0.5, -0.5]], None)


def test_replays_come_after_the_fresh_and_share_their_advantage() -> None:
    fresh = trajectory("a", [turn([1], [2, 3])])
    old = trajectory("b", [turn([1], [2, 3]), turn([1, 2, 3, 4], [5])])
    whole = with_replays(lesson_of([fresh], Credit([-1.0], None)), [(old, 0.5)])
    assert ([t.id for t in whole.trajectories], whole.advantages) == (["a", "b"], [-1.0, 0.5])
    assert (whole.turns, whole.tokens) == (None, None)
    turns = with_replays(lesson_of([fresh], Credit([-1.0], [[-2.0]])), [(old, 0.5)])
    assert turns.turns == [[-2.0], [0.5, 0.5]]
    tokens = with_replays(lesson_of([fresh], Credit([-1.0], None, [[-2.0, 3.0]])), [(old, 0.5)])
    assert tokens.tokens == [[-2.0, 3.0], [0.5, 0.5, 0.5]]


def test_without_replays_nothing_changes() -> None:
    lesson = lesson_of(ragged(2), Credit([1.0, -1.0], [[1.0], [-1.0, -1.0]]))
    assert with_replays(lesson, []) == lesson


def test_returns_go_along() -> None:
    assert lesson_of(ragged(1), Credit([1.0], None, None, [[0.5, None]])).returns == [[0.5, None]]
