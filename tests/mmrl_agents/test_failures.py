from mmrl.report import Quiet
from mmrl.sample import Sample
from mmrl.trajectory import Trajectory, Turn
from mmrl_agents.failures import warn_of_failures


class Heard(Quiet):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def episode(error: str | None) -> Trajectory:
    return Trajectory("t", "e", 0, "g", Sample.ask("?"), (Turn((), "a"),), error is None, False, (), error)


def test_broken_episodes_are_counted_and_the_first_is_told() -> None:
    heard = Heard()
    warn_of_failures(heard, [episode(None), episode("ValueError: no number\n(mine.py)"), episode("KeyError: 'x'")])
    assert heard.lines == ["2 of 3 episodes ended by an exception, first: ValueError: no number"]


def test_nothing_is_said_where_nothing_failed() -> None:
    heard = Heard()
    warn_of_failures(heard, [episode(None)])
    assert heard.lines == []
