from pathlib import Path

import pytest

from mmrl.config import EnvironmentConfig
from mmrl.errors import BadInput
from mmrl.provided import fields_provided

BROKEN = """import mmrl


class Mine(mmrl.SingleTurnEnv):
    def draw(self):
        return 1 / 0
"""


def test_a_mistake_in_an_environment_is_one_line_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BROKEN)
    name = f"{tmp_path}/mine.py:Mine"
    with pytest.raises(BadInput) as error:
        fields_provided(EnvironmentConfig(id=name))
    assert str(error.value) == (
        f"environment '{name}' fails in its first episodes: ZeroDivisionError: division by zero "
        f"({tmp_path}/mine.py:6); see mmrl check env"
    )


def test_what_samples_bring() -> None:
    assert fields_provided(EnvironmentConfig(id="text/arithmetic")) == {"reference"}
