"""The exported file under ms-swift's convention, on a stand-in for ms-swift.

ms-swift itself (with all that it trains with) is not installed.  Its documentation says that a file given as
``--external_plugins`` is imported as a module, that a reward is a class derived from ``ORM`` and registered in
``orms``, and that its instance is called with the completions and, as keywords, the columns of the batch, ``messages``
and ``trainer_state`` among them.  The stand-in holds these two names, in the module that version 4 or 3 has them in.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mmrl
from mmrl.bridges import swift
from mmrl.bridges.record import NoReward

STAND_IN = {
    "rewards": '''
class ORM:
    def __init__(self, args=None, **kwargs):
        self.args = args

    def __call__(self, **kwargs):
        raise NotImplementedError


orms = {}
''',
    "plugin": '''
class ORM:
    def __call__(self, **kwargs):
        raise NotImplementedError


orms = {}
''',
}
STATE = SimpleNamespace(global_step=0, max_steps=10, log_history=[])
Reward = Callable[..., list[float]]


@pytest.fixture(params=["rewards", "plugin"])
def orms(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """ms-swift's registry of rewards: version 4 has it in ``swift.rewards``, version 3 in ``swift.plugin``."""
    package = tmp_path / "site" / "swift"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / f"{request.param}.py").write_text(STAND_IN[request.param])
    for name in [n for n in sys.modules if n == "swift" or n.startswith(("swift.", "mmrl_reward"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield importlib.import_module(f"swift.{request.param}").orms
    for name in ("swift", f"swift.{request.param}", "mmrl_reward"):
        sys.modules.pop(name, None)


def exported(orms: dict[str, Any], *entries: dict[str, Any], **kwargs: Any) -> Reward:
    """The reward as ms-swift makes it: the file's folder is on the path, the file is imported by its name."""
    swift.export(entries, "mmrl_reward.py", **kwargs)
    importlib.import_module("mmrl_reward")
    return orms[kwargs.get("name", "mmrl")]()


def rows(*answers: str) -> list[list[dict[str, Any]]]:
    return [[{"role": "user", "content": "Which?"}, {"role": "assistant", "content": a}] for a in answers]


def test_completions_are_paid_what_the_suite_says(orms: dict[str, Any], plugins: str):
    entries = [{"name": f"{plugins}:Vowels", "as": "vowels"}, {"name": "exact_match", "weight": 2}]
    reward = exported(orms, *entries, reference="solution")
    said = reward(["abe", "no"], messages=rows("abe", "no"), solution=["abe", "abe"], trainer_state=STATE,
                  prompt_id=["p", "p"], rollout_infos=[{}, {}])  # fmt: skip
    sample = mmrl.Sample.ask("Which?", "abe")
    rollouts = [mmrl.Trajectory("", "", 0, "", sample, (mmrl.Turn(sample.messages[0].content, text),), True, False)
                for text in ("abe", "no")]  # fmt: skip
    assert said == [r.value for r in mmrl.RewardSuite.from_config(entries).score(rollouts)]
    assert said[0] > said[1] > 0


def test_another_name(orms: dict[str, Any], plugins: str):
    reward = exported(orms, {"name": f"{plugins}:Size", "as": "size"}, name="brief")
    assert list(orms) == ["brief"]
    assert reward(["four"], messages=rows("four"), trainer_state=STATE) == [4.0]


def test_no_reward_is_an_error_with_its_reason(orms: dict[str, Any], plugins: str):
    reward = exported(orms, {"name": f"{plugins}:Picky", "as": "picky"})
    with pytest.raises(NoReward, match=r"^completion 1 has no reward: picky failed: ValueError: odd: abc$"):
        reward(["ab", "abc"], messages=rows("ab", "abc"), trainer_state=STATE)
    with pytest.raises(NoReward, match=r"^completion 0 has no reward: no plugin applies \(picky: "):
        reward([""], messages=rows(""), trainer_state=STATE)


def test_weights_follow_the_trainers_state(orms: dict[str, Any], plugins: str):
    weight = {"schedule": "linear", "from": 0, "to": 10}
    reward = exported(orms, {"name": f"{plugins}:Size", "as": "size", "weight": weight})
    state = SimpleNamespace(global_step=4, max_steps=10, log_history=[{"loss": 0.0}])
    assert reward(["ab"], messages=rows("ab"), trainer_state=state) == [8.0]
    with pytest.raises(mmrl.BadInput, match="the weight of 'size' is scheduled"):
        reward(["ab"], messages=rows("ab"))


def test_columns_that_are_missing(orms: dict[str, Any], plugins: str):
    reward = exported(orms, {"name": "exact_match"})
    with pytest.raises(mmrl.BadInput, match=r"no column 'reference' .*'exact_match' needs; it has messages, solution"):
        reward(["ab"], messages=rows("ab"), solution=["ab"])
    with pytest.raises(mmrl.BadInput, match="ms-swift hands over a column 'messages'"):
        reward(["ab"], reference=["ab"])


SEEN = '''
import json


def turns(trajectory):
    """What the plugin saw, as an error's text."""
    asked = [m.text for m in trajectory.sample.messages]
    raise ValueError(json.dumps([asked, [[t.response, list(t.token_ids)] for t in trajectory.turns]]))


def pixels(images):
    return float(images[0].getpixel((0, 0))[0]) if len(images) == 1 else 0.0
'''


def test_only_this_rollouts_answers_are_turns(orms: dict[str, Any], plugins: str):
    Path("seen.py").write_text(SEEN)
    reward = exported(orms, {"name": "seen.py:turns"})
    chat = [{"role": r, "content": c} for r, c in (("user", "a"), ("assistant", "b"), ("user", "c"),
            ("assistant", "d"), ("tool", "e"), ("assistant", "f"))]  # fmt: skip

    def saw(**columns: Any) -> str:
        with pytest.raises(NoReward) as caught:
            reward(["f"], messages=[chat], trainer_state=STATE, **columns)
        return str(caught.value).partition("ValueError: ")[2]

    assert saw() == '[["a", "b", "c", "d", "e"], [["f", []]]]'
    assert saw(response_token_ids=[[7, 8]]) == '[["a", "b", "c", "d", "e"], [["f", [7, 8]]]]'
    two = {"rollout_infos": [{"num_turns": 2}]}
    assert saw(**two) == '[["a", "b", "c"], [["d", []], ["f", []]]]'
    assert saw(**two, response_token_ids=[[[1], [2, 3]]]) == '[["a", "b", "c"], [["d", [1]], ["f", [2, 3]]]]'


def test_images_come_from_their_column(orms: dict[str, Any], plugins: str):
    Path("seen.py").write_text(SEEN)
    reward = exported(orms, {"name": "seen.py:pixels"})
    image = mmrl.Image(np.full((1, 1, 3), 9, np.uint8))
    Path("grey.png").write_bytes(image.png())
    chat = [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "grey"}]
    columns = {"messages": [chat, chat], "images": [[{"bytes": None, "path": "grey.png"}], [image.to_pil()]]}
    assert reward(["grey", "grey"], **columns, trainer_state=STATE) == [9.0, 9.0]


def test_a_name_that_the_command_line_cannot_take(tmp_path: Path):
    with pytest.raises(mmrl.BadInput, match="--reward_funcs takes a name of letters, digits and _, not 'my reward'"):
        swift.export([{"name": "exact_match"}], tmp_path / "reward.py", name="my reward")
