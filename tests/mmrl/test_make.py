from pathlib import Path

import pytest

from mmrl.errors import BadInput
from mmrl.make import make

HEAD = "import mmrl\nfrom mmrl.sample import Sample\n\n"


@pytest.mark.parametrize(("body", "lacks"), [
    ("class Mine(mmrl.SingleTurnEnv):\n    def drawn(self):\n        return Sample.ask('?', '!')\n", "draw()"),
    ("class Mine(mmrl.GymTextEnv):\n    def __init__(self):\n        super().__init__('FrozenLake-v1')\n",
     "describe() and parse()"),
])  # fmt: skip
def test_a_method_that_is_not_defined_is_named(tmp_path: Path, body: str, lacks: str) -> None:
    (tmp_path / "mine.py").write_text(HEAD + body)
    with pytest.raises(BadInput) as error:
        make(f"{tmp_path}/mine.py:Mine")
    assert str(error.value) == f"environment '{tmp_path}/mine.py:Mine': Mine must define {lacks}"


def test_an_environment_that_was_not_begun_says_how(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from mmrl import SingleTurnEnv\n"
        "class Own(SingleTurnEnv):\n    def __init__(self):\n        self.x = 1\n    def draw(self):\n        ...\n"
    )
    with pytest.raises(BadInput, match=r"Own has no observation_space .* with super\(\)\.__init__\(\)$"):
        make(f"{tmp_path}/own.py:Own")
