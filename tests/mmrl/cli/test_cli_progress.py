import io
from itertools import count

import pytest
from rich.console import Console

from mmrl.cli import progress
from mmrl.cli.options import parse_pairs
from mmrl.cli.progress import EpisodeBar, TrainReporter, clock
from mmrl.errors import BadInput
from mmrl.report import Reporter
from mmrl.sample import Sample
from mmrl.trajectory import Trajectory, Turn


def episode(success: bool) -> Trajectory:
    turn = Turn((), "a", info={"success": success})
    return Trajectory("t", "e", 0, "g", Sample.ask("?"), (turn,), True, False)


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which every look takes 10 seconds."""
    times = count(0, 10)
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(times)))


def lines(terminal: bool = False, minutes: float | None = None) -> tuple[io.StringIO, TrainReporter]:
    out = io.StringIO()
    return out, TrainReporter(Console(file=out, force_terminal=terminal, width=100), minutes)


def test_is_a_reporter() -> None:
    reporter: Reporter = lines()[1]
    assert reporter.stopping is False


@pytest.mark.parametrize(("seconds", "said"), [(0, "0:00"), (-3, "0:00"), (192, "3:12"), (3729.4, "1:02:09")])
def test_clock(seconds: float, said: str) -> None:
    assert clock(seconds) == said


def test_a_line_a_step_with_its_evaluation_and_the_time_left(tick: None) -> None:
    out, reporter = lines()
    with reporter:
        reporter.begin("step 1: episodes", 8)
        reporter.step(1, 60, {"reward": 0.714, "success": 0.78})
        reporter.step(2, 60, {"reward": 0.5, "success": 1.0, "eval/success": 0.84})
        reporter.step(3, 60, {"loss": 0.25})
        reporter.step(4, 60, {"reward": 0.0, "success": 0.0, "errors": 3.0, "failed_scores": 0.0})
        reporter.say("[bold] stays as it is " + "x" * 200)
    assert out.getvalue().splitlines() == [
        "step 1/60  reward 0.71  success 78%  10.0 s  left 9:50",
        "step 2/60  reward 0.50  success 100%  eval 84%  10.0 s  left 9:40",
        "step 3/60  loss 0.250  10.0 s  left 9:30",
        "step 4/60  reward 0.00  success 0%  3 broken episodes  10.0 s  left 9:20",
        "[bold] stays as it is " + "x" * 200,
    ]


def test_a_log_says_within_a_step_how_far_it_has_come(tick: None) -> None:
    out, reporter = lines()
    reporter.begin("before: held-out episodes", 5)
    for success in (True, False, True, True, True):
        reporter.episode(episode(success))
    reporter.begin("warm start: imitation steps", 320)
    for _ in range(6):
        reporter.tick()
    assert out.getvalue().splitlines() == [
        "before: held-out episodes 3/5  successes 2",
        "warm start: imitation steps 3/320",
        "warm start: imitation steps 6/320",
    ]


def test_a_log_says_how_far_plain_episodes_have_come(tick: None, capsys: pytest.CaptureFixture[str]) -> None:
    with EpisodeBar("evaluating", 5) as bar:
        bar.episode(episode(False))
        bar.label("text/arithmetic")
        for _ in range(4):
            bar.episode(episode(True))
    assert capsys.readouterr() == ("", "text/arithmetic 3/5  successes 2\n")


def test_the_limit_in_minutes_bounds_the_time_left(tick: None) -> None:
    out, reporter = lines(minutes=0.5)
    reporter.begin("", 1)
    for step in (1, 2, 3, 4):
        reporter.step(step, 60, {})
    assert [line.split("left ")[1] for line in out.getvalue().splitlines()] == ["0:20", "0:10", "0:00", "0:00"]


def test_minutes_of_an_earlier_process_count(tick: None) -> None:
    out, reporter = lines(minutes=5)
    reporter.begin("", 1)
    for step, minutes in ((31, 4.0), (32, 4.5), (33, 5.5)):
        reporter.step(step, 60, {"time/minutes": minutes})
    assert [line.split("left ")[1] for line in out.getvalue().splitlines()] == ["1:00", "0:30", "0:00"]


def test_bars_on_a_terminal() -> None:
    out, reporter = lines(terminal=True)
    with reporter:
        reporter.begin("before: held-out episodes", 2)
        reporter.episode(episode(True))
        reporter.episode(episode(False))
        reporter.begin("step 1: episodes", 4)
        reporter.step(1, 2, {"reward": 0.5, "success": 0.5})
        reporter.step(2, 2, {"reward": 0.6, "success": 0.5})
        reporter.say("a line")
    shown = out.getvalue()
    assert "training" in shown
    assert "2/2" in shown
    assert "reward 0.60  success 50%" in shown
    assert "a line" in shown


def test_a_terminal_shows_that_something_goes_on_before_the_first_work() -> None:
    out, reporter = lines(terminal=True)
    with reporter:
        pass
    assert "getting ready" in out.getvalue()
    for begin in (lambda r: r.begin("before: held-out episodes", 2), lambda r: r.step(1, 2, {"loss": 0.5})):
        out, reporter = lines(terminal=True)
        with reporter:
            begin(reporter)
            out.truncate(0)
            reporter.say("a line")
        assert "getting ready" not in out.getvalue()


def test_pairs_are_yaml_values() -> None:
    assert parse_pairs(["a=1", "b=1e-3", "c=[x, y]", "d=p=q", "e="], "--k") == {
        "a": 1, "b": 1e-3, "c": ["x", "y"], "d": "p=q", "e": None,
    }  # fmt: skip
    for word in ("a", "=1"):
        with pytest.raises(BadInput, match="write --k key=value"):
            parse_pairs([word], "--k")
    with pytest.raises(BadInput, match="not valid YAML"):
        parse_pairs(["a=["], "--k")
