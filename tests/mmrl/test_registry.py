from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mmrl.errors import BadInput
from mmrl.registry import ENVS, PLUGINS, Registry, find_env, load_reference

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


def test_missing_file_module_and_attribute(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FILE.format(1))
    for reference, message in [
        (f"{tmp_path}/none.py:Mine", "no file"),
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
