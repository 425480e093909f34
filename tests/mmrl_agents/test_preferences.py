import json
from pathlib import Path

import pytest

from mmrl.errors import BadInput
from mmrl.reward import RewardSuite
from mmrl.sample import Message, Text
from mmrl_agents.preferences import read_preferences


def written(folder: Path, *rows: object) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return path


CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Two and two?"}]


def test_a_pair_is_two_episodes_of_one_group(tmp_path: Path) -> None:
    path = written(tmp_path, {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}, "",
                   {"prompt": CHAT, "chosen": [{"role": "assistant", "content": "Four."}], "rejected": "A few."})
    good, bad, better, worse = read_preferences(path)
    assert [t.group for t in (good, bad, better, worse)] == ["pair-1", "pair-1", "pair-3", "pair-3"]
    assert len({t.id for t in (good, bad, better, worse)}) == 4
    assert [t.response for t in (good, bad, better, worse)] == ["4", "5", "Four.", "A few."]
    assert good.sample.messages == (Message("user", (Text("2 + 2?"),)),)
    assert [m.role for m in better.messages] == ["system", "user", "assistant"]
    assert [t.success for t in (good, bad)] == [True, False]


def test_plugins_pass_on_which_was_preferred(tmp_path: Path) -> None:
    pair = read_preferences(written(tmp_path, {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}))
    for name in ("env_reward", "task_completion"):
        assert [r.value for r in RewardSuite.from_config([{"name": name}]).score(pair)] == [1.0, 0.0]


@pytest.mark.parametrize(("row", "said"), [
    ("{", "not valid JSON"),
    ([1], "a list is no pair; write {\"prompt\": ..."),
    ({"prompt": "a", "chosen": "b"}, "lacks 'rejected'; write {"),
    ({"prompt": 3, "chosen": "b", "rejected": "c"}, "'prompt': write a string, or a chat"),
    ({"prompt": [{"role": "user"}], "chosen": "b", "rejected": "c"}, "'prompt': message 0: needs 'role' and 'content'"),
    ({"prompt": "a", "chosen": CHAT, "rejected": "c"}, "'chosen': an answer is a string or a chat of one message"),
    ({"prompt": "a", "chosen": "b", "rejected": CHAT[1:]}, "'rejected': an answer is a string or a chat of one"),
])  # fmt: skip
def test_what_is_no_pair_is_bad_input(tmp_path: Path, row: object, said: str) -> None:
    path = written(tmp_path, {"prompt": "a", "chosen": "b", "rejected": "c"}, row)
    with pytest.raises(BadInput) as error:
        read_preferences(path)
    assert str(error.value).startswith(f"{path}, line 2")
    assert said in str(error.value)
    with pytest.raises(BadInput, match="there is no such file"):
        read_preferences(tmp_path / "nowhere.jsonl")


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    path = written(tmp_path, '{"prompt": "a", "chosen": "one\u2028two\x85", "rejected": "c"}')
    assert [t.response for t in read_preferences(path)] == ["one\u2028two\x85", "c"]


def test_what_is_not_utf8_is_bad_input_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    good = b'{"prompt": "a", "chosen": "b", "rejected": "c"}'
    path.write_bytes(good + b"\n" + good.replace(b"a", b"caf\xe9", 1))
    with pytest.raises(BadInput, match=f"{path}, line 2: not UTF-8"):
        read_preferences(path)
