from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl.errors import BadInput
from mmrl_envs.vqa_columns import Columns, is_empty, listed, text_of_cell

ROW = {"question": "What?", "answers": ["a"], "images": ["x.png"], "A": "red", "B": "", "C": None, "D": "blue"}


def test_roles_are_looked_up_under_their_usual_names() -> None:
    columns = Columns.of(None)
    assert [columns.value(ROW, role) for role in ("question", "answer", "image", "choices", "id")] == [
        "What?", ["a"], ["x.png"], None, None,
    ]  # fmt: skip
    assert columns.value({"file_name": "a.png", "label": "cat"}, "image") == "a.png"
    assert columns.value({"image": "b.png", "images": ["a.png"]}, "image") == "b.png"


def test_given_columns_and_several_of_them() -> None:
    columns = Columns.of({"choices": ["A", "B", "C", "D"], "answer": "A", "image": ["images"]})
    assert columns.value(ROW, "choices") == ["red", "blue"]
    assert columns.value(ROW, "answer") == "red"
    assert columns.value(ROW, "image") == ["x.png"]


@pytest.mark.parametrize(("columns", "message"), [
    ({"quesion": "q"}, "unknown role in vqa's columns 'quesion'; did you mean 'question'?"),
    ({"question": ["q", "r"]}, "vqa's columns: 'question' is one column, not 2"),
    ({"image": []}, "vqa's columns: 'image' is a column's name, not []"),
    ({"image": [1]}, "vqa's columns: 'image' is a column's name, not [1]"),
    ({"image": None}, "vqa's columns: 'image' is a column's name, not None"),
])  # fmt: skip
def test_bad_mappings(columns: Any, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        Columns.of(columns)
    assert str(caught.value) == message


@pytest.mark.parametrize(("columns", "role", "message"), [
    ({"answer": "reply"}, "answer", "no column 'reply'; columns present: question, a; name the right one in columns"),
    ({"image": ["a", "b"]}, "image", "no column 'b'; columns present: question, a; name the right one in columns"),
    ({}, "image", "no column 'image'; columns present: question, a; say which it is: columns: {image: ...}"),
    ({"answer": "a"}, "answer", "'a' holds nothing; columns present: question, a"),
])  # fmt: skip
def test_what_is_missing_is_named(columns: Any, role: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        Columns.of(columns).needed({"question": "What?", "a": None}, role)
    assert str(caught.value) == message


def test_empty_cells() -> None:
    empty = (None, "", " \n", [], (), {}, float("nan"), {"bytes": None, "path": None})
    assert [value for value in empty if not is_empty(value)] == []
    assert not any(map(is_empty, (0, False, "0", [None], {"bytes": b""})))


def test_texts_and_numbers() -> None:
    assert [text_of_cell(v, "it") for v in ("x", 3, 3.0, 2.5, 1e300, True)] == [
        "x", "3", "3", "2.5", str(int(1e300)), "True"]  # fmt: skip
    for wrong, message in ((None, "it is text or a number, not nothing"), ([1], "it is text or a number, not a list")):
        with pytest.raises(BadInput, match=message):
            text_of_cell(wrong, "it")


def test_lists_in_cells() -> None:
    assert listed('["a", "b"]') == ["a", "b"]
    assert listed(' [{"answer": "a"}]') == [{"answer": "a"}]
    for plain in ("[10, 20, 30, 40]", "[unknown]", "[]", "[" * 99_999, "a", 3, None, ["a"]):
        assert listed(plain) == plain


@given(st.text())
def test_no_text_breaks_a_cell(text: str) -> None:
    assert listed(text) == text or isinstance(listed(text), list)
