import sys
from pathlib import Path

import pytest

from mmrl.errors import BadInput
from mmrl_agents.vllm_library import vllm_library


def no_vllm(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A world in which nothing but what lies in ``folder`` can be imported anew."""
    monkeypatch.setattr(sys, "path", [str(folder)])
    monkeypatch.delitem(sys.modules, "vllm", raising=False)


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_vllm(monkeypatch, tmp_path)
    with pytest.raises(BadInput, match=r"^run.yaml:3: vLLM is not installed .*pip install 'mmrl\[vllm\]'.*make vllm"):
        vllm_library("run.yaml:3")


def test_a_folder_of_that_name_is_no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "vllm").mkdir()
    no_vllm(monkeypatch, tmp_path)
    with pytest.raises(BadInput, match=r"^vLLM is not installed here"):
        vllm_library()


def test_a_package_that_does_not_import_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("import a_thing_that_is_not_there")
    no_vllm(monkeypatch, tmp_path)
    with pytest.raises(BadInput, match=r"^vLLM does not import: ModuleNotFoundError: .*a_thing_that_is_not_there"):
        vllm_library()


def test_an_old_one_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("__version__ = '0.31.2'")
    no_vllm(monkeypatch, tmp_path)
    with pytest.raises(BadInput, match=r"^run.yaml:3: vLLM 0\.31\.2 is too old for mmrl, which needs 0\.32 or newer"):
        vllm_library("run.yaml:3")
