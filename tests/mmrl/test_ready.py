from pathlib import Path

import pytest
from reward_tools import episode, suite_of

from mmrl import RewardPlugin
from mmrl.config_load import LoadedConfig, load_config
from mmrl.errors import BadInput
from mmrl.plugin import reward_plugin
from mmrl.ready import loads, make_ready
from mmrl.report import Quiet
from mmrl.reward import RewardSuite
from mmrl.run_state import START

CONFIG = """\
train_type: GRPO
model_id: none
environments: [{id: text/arithmetic}]
reward_plugins:
  - name: first
  - name: second
"""


class Heavy(RewardPlugin):
    """Loads; counts how often."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.loaded = error, 0

    def load(self) -> None:
        self.loaded += 1
        if self.error is not None:
            raise self.error

    def compute(self, response: str) -> float:
        return float(self.loaded)


class Light(RewardPlugin):
    def compute(self) -> float:
        return 1.0


class Said(Quiet):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def ready(tmp_path: Path, second: RewardPlugin) -> tuple[RewardSuite, list[str]]:
    (tmp_path / "run.yaml").write_text(CONFIG)
    loaded: LoadedConfig = load_config(tmp_path / "run.yaml")
    suite, said = suite_of({"first": Light(), "second": second}), Said()
    make_ready(loaded, suite, said)
    return suite, said.lines


def test_what_loads_is_loaded_once_and_said(tmp_path: Path) -> None:
    heavy = Heavy()
    suite, said = ready(tmp_path, heavy)
    assert (heavy.loaded, said) == (1, ["loading plugin 'second' ..."])
    assert suite.score([episode("a")], START)[0].scores["second"].value == 1.0
    assert heavy.loaded == 1


@pytest.mark.parametrize(("error", "said"), [
    (BadInput("the model 'x' cannot be loaded"), "plugin 'second': the model 'x' cannot be loaded"),
    (OSError("no room\nat all"), "plugin 'second' cannot be loaded: OSError: no room"),
])  # fmt: skip
def test_what_cannot_be_loaded_is_one_line_with_its_place(tmp_path: Path, error: Exception, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        ready(tmp_path, Heavy(error))
    assert str(caught.value) == f"{tmp_path}/run.yaml:6: {said}"


def test_only_an_own_load_counts() -> None:
    function = reward_plugin(lambda response: 1.0, name="of_this_test")
    assert (loads(Heavy()), loads(Light()), loads(function())) == (True, False, False)
