import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mmrl_plugins._rubric import one_object


@pytest.mark.parametrize("text", [
    '{"reason": "so", "score": 3}', 'Here it is:\n```json\n{"reason": "so", "score": 3}\n```',
    '<think>{"reason": "hm", "score": 9}?</think>\n{"reason": "so", "score": 3}',
    ' \n{"score": 3, "reason": "so"} Done.',
    'I weigh {both} sides.</think>{"reason": "so", "score": 3}',
])  # fmt: skip
def test_the_one_object_is_found_in_text(text: str) -> None:
    assert one_object(text) == {"reason": "so", "score": 3}


@pytest.mark.parametrize("text", [
    "", "7", "[1]", "{", "}{", '{"score": 1', '{"score": 1} {"score": 2}', '{"score": 1, "score": 2}',
    'It says {"score": 9}. Mine: {"score": 1}', '{"score": 1} {', '{"a": ' * 100_000 + "}", '"{"', "{'score': 1}",
])  # fmt: skip
def test_anything_else_is_no_object(text: str) -> None:
    with pytest.raises(ValueError, match=r"no JSON object|not one JSON object|comes twice"):
        one_object(text)


@given(st.text())
def test_any_text_is_one_object_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert isinstance(one_object(text), dict)


plain = st.none() | st.booleans() | st.integers() | st.text()
values = st.recursive(plain, lambda v: st.lists(v) | st.dictionaries(st.text(), v))
braceless = st.text(st.characters(exclude_characters="{}"))


@given(braceless, st.dictionaries(st.text(), values), braceless)
def test_an_object_survives_the_text_around_it(before: str, found: dict[str, Any], after: str) -> None:
    assume("</think>" not in json.dumps(found) + after)
    assert one_object(before + json.dumps(found) + after) == found
