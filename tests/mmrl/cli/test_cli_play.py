import io
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmrl.cli.play import right_answer
from mmrl.cli.watch import complete

Cli = Callable[..., Any]
ACTIONS = ("turn left", "turn right", "go forward")


def test_the_expert_plays_and_is_filmed(mmrl: Cli, tmp_path: Path) -> None:
    code, out, _ = mmrl("play", "--env", "babyai/balrog-goto", "--policy", "expert", "--save", "a.gif")
    assert code == 0
    turns = re.findall(r"\[turn \d+\] '(.*)'  reward (\S+)", out)
    assert turns[-1][1] != "0"
    assert re.search(r"1 step forward\nsaved a\.gif", out)  # what was seen at the end
    assert out.startswith("[system]\nMission: go to ")
    assert f"success after {len(turns)} turns" in out
    with Image.open(tmp_path / "a.gif") as film:
        assert (film.format, film.n_frames) == ("GIF", len(turns) + 1)


def test_a_person_plays_by_number_name_and_start_of_a_name(mmrl: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\nturn r\ngo forward\nfly\nq\n"))
    code, out, _ = mmrl("play", "--env", "babyai/GoToLocal")
    assert code == 0
    assert re.findall(r"\[turn \d+\] '(.*)'", out) == ["turn left", "turn right", "go forward", "fly"]
    assert "1 turn left   2 turn right   3 go forward" in out
    assert "'fly'  reward 0  (not an action)" in out
    assert out.endswith("stopped before the end of the episode\n")


def test_the_end_of_input_ends_the_game(mmrl: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert mmrl("play", "--env", "text/arithmetic").code == 0


def test_a_person_answers_a_question(mmrl: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("14\n"))
    kwargs = ("--env-kwargs", "low=7", "--env-kwargs", "high=7", "--env-kwargs", "operations=+")
    code, out, _ = mmrl("play", "--env", "text/arithmetic", *kwargs)
    assert code == 0
    assert out.endswith("success after 1 turns, return 1.000\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("15\n"))
    out = mmrl("play", "--env", "text/arithmetic", *kwargs).out
    assert out.endswith("no success after 1 turns, return 0.000\nthe right answer: 14\n")


@pytest.mark.parametrize(("reference", "said"), [
    ("red", "red"), (2, "2"), (["red", "dark red", "red"], "red or dark red"),
    ([{"answer": "a"}, {"x": 1}], "a or {'x': 1}"),
])  # fmt: skip
def test_a_right_answer_in_words(reference: Any, said: str) -> None:
    assert right_answer(reference) == said


CONFIG = """\
train_type: GRPO
model_id: none
environments: [{id: text/arithmetic, kwargs: {low: 7, high: 7}}]
eval: {environments: [{id: babyai/balrog-goto, kwargs: {instructions: full}}, {id: text/arithmetic}], max_turns: 1}
"""


def test_a_config_says_where_and_options_win(mmrl: Cli, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    said = mmrl("play", "c.yaml", "--policy", "random").out
    assert said.startswith("[system]\nYou are an agent in a grid world ")
    assert said.endswith("cut short after 1 turns, return 0.000\n")
    short = mmrl("play", "c.yaml", "--policy", "random", "--env-kwargs", "instructions=short", "--max-turns", "2").out
    assert short.startswith("[system]\nMission: go to ")
    assert short.endswith("cut short after 2 turns, return 0.000\n")
    assert "[user]\nWhat is " in mmrl("play", "c.yaml", "--env", "text/arithmetic", "--policy", "expert").out
    assert mmrl("play", "d.yaml").err.startswith("mmrl: config d.yaml: no such file; did you mean 'c.yaml'?")


def test_max_turns_cuts(mmrl: Cli) -> None:
    out = mmrl("play", "--policy", "random", "--max-turns", "2").out
    assert out.endswith("cut short after 2 turns, return 0.000\n")


def test_a_failing_environment_is_exit_code_1(mmrl: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from mmrl import SingleTurnEnv\n"
        "class Bad(SingleTurnEnv):\n    def draw(self):\n        raise ValueError('no')\n"
    )
    code, out, _ = mmrl("play", "--env", "bad.py:Bad", "--policy", "random")
    assert (code, out) == (1, "\nthe environment failed after 0 turns: ValueError: no\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--env text/arithmetic --save x.gif", "--save x.gif: environment 'text/arithmetic' renders no frames"),
        ("--save x.png", "--save x.png: the file's name ends in .gif"),
        ("--save nodir/x.gif", "--save nodir/x.gif: there is no folder "),
        ("--env babyai/GoToLocl", "unknown environment 'babyai/GoToLocl'; did you mean 'babyai/GoToLocal'?"),
    ],
)
def test_bad_input_is_one_line(words: str, said: str, mmrl: Cli) -> None:
    code, _, err = mmrl("play", *words.split())
    assert code == 2
    assert err.startswith(f"mmrl: {said}")
    assert err.count("\n") == 1


def test_ctrl_c_reaches_a_person_at_the_prompt(tmp_path: Path) -> None:
    mine, theirs = pty.openpty()
    words = [Path(sys.executable).with_name("mmrl"), "play", "--env", "text/arithmetic"]
    process = subprocess.Popen(words, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    assert process.stdout is not None
    seen = b""
    while not seen.endswith(b"> "):
        seen += process.stdout.read1()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    os.close(mine)
    os.close(theirs)
    assert (process.returncode, err) == (130, b"")


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("3", "go forward"),
        ("4", "4"),
        ("0", "0"),
        ("turn", "turn"),
        ("TURN L", "turn left"),
        ("", ""),
        ("g", "go forward"),
    ],
)
def test_what_a_person_means(line: str, meant: str) -> None:
    assert complete(line, ACTIONS) == meant


def test_numbers_are_answers_where_no_actions_are_named() -> None:
    assert complete("1", []) == "1"
