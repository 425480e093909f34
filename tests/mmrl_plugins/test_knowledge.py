from pathlib import Path

import numpy as np
import pytest

from mmrl import BadInput
from mmrl_plugins._knowledge import Fact, Knowledge, read_facts


def write(folder: Path, text: str) -> str:
    path = folder / "kb.jsonl"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_reading(tmp_path: Path) -> None:
    lines = '\ufeff{"fact": " a b "}\n\n{"fact": "c", "id": 7, "source": "book", "more": 1}\r\n'
    assert read_facts(write(tmp_path, lines)) == (Fact("a b", "1"), Fact("c", "7", "book"))
    assert len(read_facts("sample")) == 30


@pytest.mark.parametrize(("lines", "message"), [
    ('{"fact": "a"}\n{"fact": }\n', r"kb\.jsonl:2: not JSON"), ('{"facts": "a"}\n', r"kb\.jsonl:1: a line is"),
    ('{"fact": "a"}\n\n"a"\n', r"kb\.jsonl:3: a line is"), ('{"fact": " "}\n', r"kb\.jsonl:1"),
    ('{"fact": 3}\n', r"kb\.jsonl:1"), ('{"fact": "a", "source": ["b"]}\n', r"kb\.jsonl:1: source is text"),
    ("\n", "holds no facts"), ('{"fact": "a", "id": "x"}\n{"fact": "b", "id": "x"}\n', "two facts have the id 'x'"),
])  # fmt: skip
def test_bad_lines_are_named(tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_facts(write(tmp_path, lines))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nothing\.jsonl cannot be read"):
        read_facts(str(tmp_path / "nothing.jsonl"))
    (tmp_path / "kb.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="UTF-8"):
        read_facts(str(tmp_path / "kb.jsonl"))


def test_nearest_first_and_earlier_lines_first_among_equals() -> None:
    facts = [Fact(name, name) for name in "abcd"]
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8], [0, 1]], np.float32)
    knowledge = Knowledge(facts, vectors)
    query = np.array([0, 1], np.float32)
    assert [(f.text, s) for f, s in knowledge.nearest(query, 3, -1.0)] == [("b", 1.0), ("d", 1.0), ("c", 0.8)]
    assert [f.text for f, _ in knowledge.nearest(query, 9, 0.8)] == ["b", "d", "c"]
    assert knowledge.nearest(-query, 9, 0.5) == []
