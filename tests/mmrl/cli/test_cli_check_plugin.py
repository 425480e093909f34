import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmrl.cli.check_plugin import read_reference
from mmrl.plugin_conformance import CHECKS

Cli = Callable[..., Any]
MINE = """
import mmrl

class Brief(mmrl.RewardPlugin):
    range = (0, 1)
    def __init__(self, limit=3):
        self.limit = limit
    def compute(self, query, response):
        return max(0.0, 1 - len(response) / self.limit)

class Steps(mmrl.RewardPlugin):
    range = (0, 1)
    def compute(self, response, reference):
        return {"reward": float(response in reference["steps"]), "info": {"said": response}}

class Early(mmrl.RewardPlugin):
    def score(self, trajectories):
        return [mmrl.Score(float("nan")) for t in trajectories]
"""


def cells(out: str) -> list[list[str]]:
    """The rows of both tables."""
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]


@pytest.fixture
def mine(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)


def test_a_plugin_that_conforms(mmrl: Cli, mine: None) -> None:
    code, out, err = mmrl("check", "plugin", "mine.py:Brief", "--kwargs", "limit=100")
    assert (code, err) == (0, "")
    assert out.startswith("needs: query, response\nrange: 0 to 1\n")
    rows = cells(out)
    assert rows[0] == ["right answer", "ok", "0.98", ""]
    names = ["right answer", "wrong answer", "empty answer", "three turns, solved", "three turns, cut short"]
    assert [row[:2] for row in rows[:5]] == [[name, "ok"] for name in names]
    checks = {row[0]: row[1] for row in rows[5:] if row[0]}
    assert checks == {name: "skipped" if name == "same_in_a_batch" else "ok" for name in CHECKS}
    assert out.endswith("12 of 12 checks passed, 1 skipped\n")


def test_a_plugin_that_does_not(mmrl: Cli, mine: None) -> None:
    code, out, _ = mmrl("check", "plugin", "mine.py:Brief", "--kwargs", "limit=0")
    assert code == 1
    assert cells(out)[0][:3] == ["right answer", "failed", "-"]
    assert cells(out)[0][3].startswith("error: ZeroDivisionError: ")
    (row,) = [row for row in cells(out) if row[0] == "valid_or_says_why"]
    assert row[1] == "FAILED"
    assert row[2].startswith("right answer, reference a text: ZeroDivisionError: ")
    code, out, _ = mmrl("check", "plugin", "mine.py:Early")
    assert code == 1
    assert out.startswith("needs: whole trajectories\nrange: -inf to inf\n")
    assert [row[0] for row in cells(out) if row[1] == "FAILED"] == ["stays_in_range"]
    assert "right answer, reference a text: the value is nan (and " in out


def test_one_episode_of_the_users_own(mmrl: Cli, mine: None) -> None:
    words = ("check", "plugin", "mine.py:Steps", "--query", "How?", "--response", "up", "--reference")
    code, out, _ = mmrl(*words, '{"steps": ["left", "up"]}')
    assert code == 1  # info holds the whole answer
    assert cells(out)[0] == ["yours", "ok", "1", "said: up"]
    assert [row[0] for row in cells(out) if row[1] == "FAILED"] == ["info_is_json"]
    code, out, _ = mmrl(*words, "up")
    assert code == 1
    assert cells(out)[0][:2] == ["yours", "failed"]


def test_what_a_plugin_says_is_no_command_to_the_terminal(mmrl: Cli, mine: None) -> None:
    said = "\x1b[31m[bold]\ud800" + "x" * 1000
    _, out, _ = mmrl("check", "plugin", "mine.py:Steps", "--reference", '{"steps": []}', "--response", said)
    assert cells(out)[0][3] == "said:  [31m[bold]"
    assert "\x1b" not in out
    assert 250 < out.count("x") < 400


def test_nothing_applies(mmrl: Cli, mine: None) -> None:
    (Path("nothing.py")).write_text("def on_video(videos, env):\n    return 1.0 if 'frames' in env else None\n")
    code, out, _ = mmrl("check", "plugin", "nothing.py:on_video")
    assert code == 1
    assert "no episode applied: the check has shown nothing; try --reference/--kwargs" in out
    assert out.endswith("11 of 12 checks passed, 1 skipped\n")


def test_json_is_one_object_on_the_last_line(mmrl: Cli, mine: None) -> None:
    code, out, _ = mmrl("check", "plugin", "mine.py:Brief", "--kwargs", "limit=100", "--json")
    record = json.loads(out.splitlines()[-1])
    assert code == 0
    assert {k: record[k] for k in ("plugin", "kwargs", "needs", "cost", "range", "ok", "failed", "skipped")} == {
        "plugin": "mine.py:Brief", "kwargs": {"limit": 100}, "needs": ["query", "response"], "cost": "microseconds",
        "range": [0.0, 1.0], "ok": 12, "failed": 0, "skipped": 1,
    }  # fmt: skip
    assert record["episodes"][0] == {"episode": "right answer", "status": "ok", "value": 0.98, "info": {}}
    assert [c["check"] for c in record["checks"]] == list(CHECKS)
    code, out, _ = mmrl("check", "plugin", "mine.py:Early", "--json")
    record = json.loads(out.splitlines()[-1])
    assert (code, record["needs"], record["range"], record["failed"]) == (1, None, [None, None], 1)
    assert record["episodes"][0]["value"] is None


def test_bad_input_is_one_line(mmrl: Cli, mine: None) -> None:
    code, out, err = mmrl("check", "plugin", "mine.py:Brief", "--kwargs", "lmit=2")
    assert (code, out) == (2, "")
    assert err.startswith("mmrl: plugin 'mine.py:Brief' does not take these kwargs: ")
    assert err.count("\n") == 1
    assert mmrl("check", "plugin", "exact_mach") == (
        2, "", "mmrl: unknown plugin 'exact_mach'; did you mean 'exact_match'?\n"
    )  # fmt: skip
    assert mmrl("check", "plugin", "mine.py:Brief", "--kwargs", "limit")[0] == 2


@pytest.mark.parametrize(("text", "reference"), [
    ("42", "42"), ("yes", "yes"), ("", ""), ('["a", 4]', ["a", 4]), (' {"a": 1}', {"a": 1}), ("[1, 2)", "[1, 2)"),
    ("{1, 2}", "{1, 2}"), ("[" * 100_000, "[" * 100_000),
])  # fmt: skip
def test_a_reference_is_text_or_json(text: str, reference: Any) -> None:
    assert read_reference(text) == reference
