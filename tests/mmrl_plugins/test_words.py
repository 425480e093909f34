import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl_plugins._words import runs, unpunctuated, words


@pytest.mark.parametrize(("text", "expected"), [
    ("", []), ("Hello, World!", ["hello", "world"]), ("don't stop", ["don", "t", "stop"]),
    ("你好，世界", ["你", "好", "世", "界"]), ("我有2个GPU", ["我", "有", "2", "个", "gpu"]),
    ("हिन्दी भाषा", ["हिन्दी", "भाषा"]), ("안녕하세요 세계", ["안녕하세요", "세계"]), ("ภาษา", ["ภ", "า", "ษ", "า"]),
    ("Straße ＡＢ", ["strasse", "ab"]), ("\x00🙂", []), ("snake_case", ["snake", "case"]),
])  # fmt: skip
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_runs_keep_what_stands_between_white_space() -> None:
    assert runs("Go on, go on!\n") == ["Go", "on,", "go", "on!"]
    assert runs("你好，a b") == ["你", "好", "，a", "b"]


def test_punctuation_goes_as_in_squad() -> None:
    assert unpunctuated("It's $5.00 – «yes», 3 € 你好。") == "Its 500  yes 3 € 你好"


@given(st.text(max_size=60))
def test_nothing_but_white_space_is_lost_in_runs(text: str) -> None:
    assert "".join(runs(text)) == "".join(text.split())
