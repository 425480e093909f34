"""The installed script and the exit codes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mmrl as package
from mmrl.cli import main as module
from mmrl.errors import BadInput, RunStopped

SCRIPT = Path(sys.executable).with_name("mmrl")
GOOD = """\
train_type: GRPO
model_id: none
environments:
  - id: text/arithmetic
reward_plugins:
  - name: exact_match
"""
WITHOUT_TORCH = """
import sys
from mmrl.cli.main import main
for words in {lines!r}:
    print("code", main(words), file=sys.stderr)
heavy = [m for m in ("torch", "transformers", "pandas", "pyarrow", "matplotlib") if m in sys.modules]
print("heavy", heavy, file=sys.stderr)
"""


def without_torch(lines: list[list[str]], cwd: Path) -> list[str]:
    """Run command lines in one fresh process; its lines on stderr."""
    code = WITHOUT_TORCH.format(lines=lines)
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=60)
    return done.stderr.splitlines()


def test_help_and_listing_import_nothing_heavy(tmp_path: Path) -> None:
    said = without_torch([["--help"], ["train", "--help"], ["list"], ["--version"]], tmp_path)
    assert said == ["code 0"] * 4 + ["heavy []"]


def test_import_mmrl_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "rich", "typer", "pyarrow")
    code = f"import mmrl, sys; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_wrong_name_is_one_line_with_its_place_and_imports_no_torch(tmp_path: Path) -> None:
    wrong = {
        "env.yaml": ("arithmetic", "aritmetic",
         "4: unknown environment 'text/aritmetic'; did you mean 'text/arithmetic'?"),
        "plugin.yaml": ("exact_match", "exact_mach", "6: unknown plugin 'exact_mach'; did you mean 'exact_match'?"),
        "key.yaml": ("model_id", "modl_id", " 'model_id' is missing"),
        "extra.yaml": ("- name", "- weigth: 1\n    name",
         "6: unknown key 'reward_plugins.0.weigth'; did you mean 'weight'?"),
        "type.yaml": ("GRPO", "GRP0", "1: unknown train_type 'GRP0'; did you mean 'GRPO'?"),
        "value.yaml": ("none", "[1]", "2: 'model_id': input should be a valid string, not [1]"),
    }  # fmt: skip
    for name, (old, new, _) in wrong.items():
        assert old in GOOD
        (tmp_path / name).write_text(GOOD.replace(old, new))
    said = without_torch([["train", name] for name in wrong], tmp_path)
    for i, (name, (_, _, expected)) in enumerate(wrong.items()):
        assert said[2 * i : 2 * i + 2] == [f"mmrl: {name}:{expected}", "code 2"]
    assert said[-1] == "heavy []"


def test_the_installed_script(tmp_path: Path) -> None:
    def run(*words: str) -> tuple[int, str, str]:
        done = subprocess.run([SCRIPT, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    assert run("--version") == (0, f"mmrl {package.__version__}\n", "")
    assert run("train", "nope.yaml") == (2, "", "mmrl: config nope.yaml: no such file\n")
    assert run("evaluate")[0] == 2


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (BadInput("wrong\nname"), 2, "mmrl: wrong name\n"),
        (RunStopped("disk full"), 1, "mmrl: disk full\n"),
        (package.NoExpert("none here"), 2, "mmrl: none here\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, mmrl: Callable[..., Any]
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(module, "app", fail)
    assert mmrl("x") == (code, "", said)


def test_other_exceptions_show_their_traceback(monkeypatch: pytest.MonkeyPatch, mmrl: Callable[..., Any]) -> None:
    def fail(**_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(module, "app", fail)
    code, _, err = mmrl("x")
    assert code == 1
    assert err.startswith("Traceback")
    assert err.endswith("ZeroDivisionError: by zero\n")


@pytest.mark.parametrize(
    "words", ["train", "eval", "collect", "play", "list", "check config", "check env", "check plugin"]
)
def test_every_help_has_an_example(words: str, mmrl: Callable[..., Any]) -> None:
    code, out, _ = mmrl(*words.split(), "--help")
    assert code == 0
    assert f"mmrl {words} " in out.split("For example:")[1]


def test_as_a_module_it_ends_with_the_same_code(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "mmrl", "train", "none.yaml"], cwd=tmp_path, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("mmrl: ")
