from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mmrl.errors import BadInput
from mmrl.make import make
from mmrl.registry import ENVS, PLUGINS, Registry, env_arguments, find_env, load_reference

FILE = "class Mine:\n    value = {}\n"


def test_a_registered_name_wins_over_an_entry_point() -> None:
    registry = Registry("plugin", "mmrl.plugins")
    assert registry.get("exact_match").__name__ == "ExactMatch"
    registry.register("exact_match", int)
    assert registry.get("exact_match") is int
    assert registry.names() == PLUGINS.names() or "exact_match" in registry.names()


def test_module_reference() -> None:
    assert PLUGINS.get("mmrl_plugins.exact_match:ExactMatch") is PLUGINS.get("exact_match")


def test_an_edited_file_counts_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    for value in (1, 2, 3):  # equal size, same second: a byte code cache would overlook it
        path.write_text(FILE.format(value))
        assert load_reference("plugin", f"{path}:Mine", ()).value == value
    assert not (tmp_path / "__pycache__").exists()


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"^c\.yaml:3: unknown plugin 'exact_mach'; did you mean 'exact_match'\?$"):
        PLUGINS.get("exact_mach", "c.yaml:3")


@pytest.mark.parametrize(("wrong", "near"), [
    ("video/minigrid", "video"), ("vqa/shaps", "vqa/shapes"), ("babyai/DoorKey-8x8", "minigrid/DoorKey-8x8"),
])  # fmt: skip
def test_the_nearest_environment(wrong: str, near: str) -> None:
    with pytest.raises(BadInput, match=rf"^unknown environment '{wrong}'; did you mean '{near}'\?$"):
        find_env(wrong)


OWN = """
from mmrl import SingleTurnEnv, Sample
class Own(SingleTurnEnv):
    def __init__(self, size, colour="red"):
        super().__init__()
class Open(Own):
    def __init__(self, colour="red", **more):
        super().__init__(colour=colour, **more)
"""


def test_arguments_of_environments(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    own = f"{tmp_path}/own.py:Own"
    assert env_arguments(own) == ["size", "colour"]
    assert env_arguments(f"{tmp_path}/own.py:Open") == []
    assert env_arguments("minigrid/DoorKey-8x8")[:3] == ["invalid", "max_steps", "instructions"]
    assert {"path", "columns"} <= set(env_arguments("text")) & set(env_arguments("vqa"))
    for kwargs, said in (({"szie": 3}, r"there is no 'szie'; did you mean 'size'\? It takes size, colour$"),
                         ({"weight": 3}, r"there is no 'weight'\. It takes size, colour$"),
                         ({}, r"missing 1 required positional argument: 'size'\. It takes size, colour$")):  # fmt: skip
        with pytest.raises(BadInput, match=rf"own.py:Own' does not take these arguments: .*{said}"):
            make(own, **kwargs)
    with pytest.raises(BadInput, match=r"does not take these arguments: .*unexpected keyword argument 'sort'$"):
        make(f"{tmp_path}/own.py:Open", sort=1)


def test_missing_file_module_and_attribute(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FILE.format(1))
    (tmp_path / "some.py").write_text("class _Own: pass\ndef score(): pass\nclass Other: pass\n1 / 0\n")
    (tmp_path / "empty.py").touch()
    (tmp_path / "bad.py").write_text("class A(\n")
    for reference, message in [
        (f"{tmp_path}/none.py:Mine", "no file"),
        (f"{tmp_path}/none.py", "no file"),
        (f"{tmp_path}/mine.py", r"say what in it: [^ ]*mine\.py:Mine$"),
        (f"{tmp_path}/some.py", r"say what in it: [^ ]*some\.py:score or [^ ]*some\.py:Other$"),
        (f"{tmp_path}/empty.py", r"say what in it: [^ ]*empty\.py:Name$"),
        (f"{tmp_path}/bad.py", r"bad\.py cannot be read: SyntaxError"),
        ("no_such_module_here:Mine", "cannot import no_such_module_here"),
        (f"{tmp_path}/mine.py:Min", "did you mean 'Mine'"),
        ("mmrl_plugins.exact_match:ExactMatsh", "did you mean 'ExactMatch'"),
    ]:
        with pytest.raises(BadInput, match=message):
            PLUGINS.get(reference)


def test_file_that_fails_to_import_says_why(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("x = 1 / 0\n")
    with pytest.raises(BadInput, match=r"bad\.py fails to import: ZeroDivisionError"):
        PLUGINS.get(f"{tmp_path}/bad.py:X", "c.yaml:3")


def test_a_broken_family_does_not_stand_in_the_way_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(FILE.format(1))
    broken = EntryPoint("broken", "no_such_module_here:FAMILY", ENVS.group)
    monkeypatch.setattr(ENVS, "_points", {"broken": broken})
    assert find_env(f"{tmp_path}/mine.py:Mine").__name__ == "Mine"
