from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHECK = runpy.run_path(str(ROOT / "scripts" / "check_size.py"))


def test_functions_are_measured_with_their_docstring_and_without_their_decorators():
    source = '@one\n@two\ndef f():\n    """Words."""\n    return 1\n\n\nclass A:\n    async def g(self): ...\n'
    assert sorted(CHECK["functions"](source)) == [("f", 3, 3), ("g", 9, 1)]


def test_a_long_function_is_an_error_and_a_longish_one_a_warning(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(CHECK["check_source"].__globals__, "ROOT", tmp_path)
    path = tmp_path / "long.py"
    path.write_text("def f():\n" + "    a = 1\n" * 60 + "def g():\n" + "    a = 1\n" * 40 + "a = 1\n" * 300)
    errors, warnings = CHECK["check_source"](path)
    assert errors == ["long.py: 402 lines, at most 400", "long.py:1: f has 61 lines, at most 60"]
    assert warnings == ["long.py:62: g has 41 lines, aim for 40"]


def test_large_files_and_assets_are_errors(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(CHECK["check_bytes"].__globals__, "ROOT", tmp_path)
    (tmp_path / "assets").mkdir()
    files = [tmp_path / "assets" / name for name in ("a", "b", "c")]
    for path, size in zip(files, (14_000_000, 14_000_000, 16_000_000), strict=True):
        with path.open("wb") as file:
            file.truncate(size)  # sparse: takes no room
    assert CHECK["check_bytes"](files) == ["assets/c: 16.0 MB, at most 15", "assets: 44.0 MB in all, at most 40"]
