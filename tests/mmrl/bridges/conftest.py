"""Plugins that the bridges' tests score with, in a file such as a user would write."""

from pathlib import Path

import pytest

PLUGINS = '''
import mmrl


class Vowels(mmrl.RewardPlugin):
    """The share of vowels."""

    range = (0.0, 1.0)

    def compute(self, response):
        return sum(c in "aeiou" for c in response) / max(len(response), 1)


class Size(mmrl.RewardPlugin):
    """Characters."""

    def compute(self, response):
        return float(len(response))


class Picky(mmrl.RewardPlugin):
    """Fails on an answer of odd length, has no word for an empty one."""

    def compute(self, response):
        if len(response) % 2:
            raise ValueError(f"odd: {response}")
        return 1.0 if response else None
'''


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """``plugins.py`` in an empty folder, which is the working one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugins.py").write_text(PLUGINS)
    return "plugins.py"
