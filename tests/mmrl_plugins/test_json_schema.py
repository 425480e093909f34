import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrl import BadInput, RewardSuite, Sample, Trajectory, Turn
from mmrl_plugins.json_schema import JsonSchema

SCHEMA = {
    "type": "object", "required": ["answer"], "additionalProperties": False,
    "properties": {"answer": {"type": "integer", "minimum": 0}},
}  # fmt: skip
PLUGIN = JsonSchema(SCHEMA)


def problem(plugin: JsonSchema, text: str) -> str:
    score = plugin.compute(Turn((), text))
    assert score.value == float("problem" not in score.info)
    return str(score.info.get("problem", ""))


@pytest.mark.parametrize("text", [
    '{"answer": 4}', ' \n{"answer": 4}\n', 'Here:\n```json\n{"answer": 4}\n```\nDone.', '```\n{"answer": 4}\n```',
    '```{"answer": 4}```', '```JSON\n{"answer": 4}\n```',
])  # fmt: skip
def test_right(text: str) -> None:
    assert problem(PLUGIN, text) == ""


@pytest.mark.parametrize(("text", "said"), [
    ("", "no JSON"), ("4", "$: 4 is not of type 'object'"), ('{"answer": "4"}', "$.answer: '4' is not of type"),
    ('{"answer": -1}', "$.answer: -1 is less than the minimum"), ("{}", "'answer' is a required property"),
    ('{"answer": 4, "b": 1}', "Additional properties"), ('{"answer": 4} {"answer": 4}', "no JSON: Extra data"),
    ('So {"answer": 4}', "no JSON"), ('{"answer": 3, "answer": 4}', "the key 'answer' comes twice"),
    ('{"answer": NaN}', "NaN is no JSON"), ('{"answer": 1e999}', "too large"), ("9" * 5000, "5000 digits"),
    ("[" * 100_000, "nested too deeply"), ('```json\n{"answer": 4}', "comes 1 times"),
    ('```\n{"answer": 4}\n```\n```\n{"answer": 5}\n```', "comes 4 times"), ("{'answer': 4}", "no JSON"),
    ('```python\n{"answer": 4}\n```', "no JSON"),
])  # fmt: skip
def test_wrong(text: str, said: str) -> None:
    assert said in problem(PLUGIN, text)


def test_tags_and_fences_within_strings() -> None:
    tagged = JsonSchema(SCHEMA, tag="json")
    assert problem(tagged, 'so <json>{"answer": 4}</json>') == ""
    assert "0 times <json>" in problem(tagged, '{"answer": 4}')
    assert "2 times" in problem(tagged, '<json>{"answer": 4}</json><json>{"answer": 4}</json>')
    assert problem(JsonSchema({"type": "object"}), '{"code": "```\\n1\\n```"}') == ""


@given(st.recursive(st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(),
                    lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(), s, max_size=3)))  # fmt: skip
def test_what_was_written_is_read(value: Any) -> None:
    plugin = JsonSchema({})
    text = json.dumps(value)
    assert plugin.extract(text if "```" not in text or isinstance(value, dict | list) else "null") in (value, None)


def test_schema_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    assert problem(JsonSchema(path=file), '{"answer": 4}') == ""
    file.write_text("{")
    with pytest.raises(BadInput, match=r"schema\.json: no JSON file"):
        JsonSchema(path=file)
    with pytest.raises(BadInput, match=r"none\.json"):
        JsonSchema(path=str(tmp_path / "none.json"))


def test_refs_stay_within_the_schema_and_patterns_have_a_limit() -> None:
    inner = JsonSchema({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}})
    assert (problem(inner, "4"), problem(inner, '"4"')) == ("", "$: '4' is not of type 'integer'")
    bad = [{"$ref": "https://example.invalid/schema.json"}, {"pattern": "(a|aa)+$"}]
    for schema in bad:
        turns = (Turn((), json.dumps("a" * 200 + "b")),)
        (record,) = RewardSuite.from_config([{"name": "json_schema", "kwargs": {"schema": schema}}]).score(
            [Trajectory("t", "e", 0, "g", Sample.ask("q"), turns, True, False)]
        )
        assert record.scores["json_schema"].status == "failed"
    assert problem(JsonSchema({"pattern": "^a+$"}), '"ab"') == "$: 'ab' does not match '^a+$'"
    assert problem(JsonSchema({"pattern": "^a+$"}), "4") == ""


@pytest.mark.parametrize("kwargs", [
    {}, {"schema": {}, "path": "x"}, {"schema": {"type": "numeral"}}, {"schema": {"pattern": "(a"}}, {"schema": []},
    {"schema": {}, "tag": "<a>"},
])  # fmt: skip
def test_bad_arguments(kwargs: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        JsonSchema(**kwargs)
