"""The pages under docs/ do what they say: their files are written, their commands run, their output is compared.

A fenced block with a title (```python title="capitals.py") is a file; it is written where it stands on the page.  In
a ```console block, lines that begin with ``$ `` are commands, run one after the other in one temporary folder; each
must exit with 0.  The lines below a command must occur in its output, in this order; runs of blanks count as one, and
``...`` stands for anything.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"^```(?P<kind>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [path.name for path in sorted(DOCS.glob("*.md")) if "\n```console" in path.read_text(encoding="utf-8")]


def commands(block: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console block, and the lines that its output shows."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *lines = part.splitlines()
        yield command, [line for line in lines if line.strip()]


def missing(lines: list[str], output: str) -> list[str]:
    """The first of ``lines`` that does not follow the ones before it in ``output``; empty if all do."""
    text, at = " ".join(output.split()), 0
    for line in lines:
        pattern = ".*?".join(re.escape(" ".join(piece.split())) for piece in line.split("..."))
        found = re.compile(pattern).search(text, at)
        if found is None:
            return [line]
        at = found.end()
    return []


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run one command as a reader would, offline and with the caches of its own folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / ".hf"), "NO_COLOR": "1"}
    return subprocess.run(["bash", "-c", command], cwd=folder, env=env, check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)  # fmt: skip


def test_the_pages_that_should_run_do():
    assert {"add_an_environment.md", "rewards.md", "run_store.md", "write_a_reward_plugin.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_page(page: str, tmp_path: Path):
    for block in BLOCK.finditer((DOCS / page).read_text(encoding="utf-8")):
        if block["title"]:
            path = tmp_path / block["title"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block["body"], encoding="utf-8")
        if block["kind"] != "console":
            continue
        for command, lines in commands(block["body"]):
            done = run(command, tmp_path)
            assert done.returncode == 0, f"{page}: $ {command}\nexit code {done.returncode}\n{done.stdout}"
            assert missing(lines, done.stdout) == [], f"{page}: $ {command}\n{done.stdout}"


@pytest.mark.parametrize(
    ("lines", "output", "first_missing"),
    [
        (["a  b", "c"], "a b\nx\n c\n", []),
        (["c", "a"], "a\nc\n", ["a"]),
        (["success ... return 1"], "success after 3 turns, return 1.000", []),
        (["(1.5)"], "(125)", ["(1.5)"]),
    ],
)
def test_output_is_compared_in_order(lines: list[str], output: str, first_missing: list[str]):
    assert missing(lines, output) == first_missing


def test_links_between_the_pages_lead_somewhere():
    root = DOCS.parent
    pages = {page: page.read_text(encoding="utf-8") for page in (*DOCS.glob("*.md"), root / "CONTRIBUTING.md")}
    links = [(page, link) for page, text in pages.items() for link in re.findall(r"\]\(([^)#:]+)\)", text)]
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []
