import json
from dataclasses import asdict
from pathlib import Path

import pytest

import mmrl
from mmrl.episode_record import EpisodeRecord, read_records, record_of, to_lines
from mmrl.errors import BadInput


def test_an_episode_in_a_line() -> None:
    (won,) = mmrl.rollout("babyai/balrog-goto", policy="expert", seeds=[3])
    (lost,) = mmrl.rollout("babyai/balrog-putnext", policy="random", seeds=[4], max_turns=2)
    records = [record_of(won), record_of(lost)]
    assert records[0] == EpisodeRecord("babyai/balrog-goto", 3, True, round(won.env_return, 6), len(won.turns), 0)
    assert records[1] == EpisodeRecord("babyai/balrog-putnext", 4, False, 0.0, 2, 0)
    assert [json.loads(line) for line in to_lines(records).splitlines()] == [asdict(r) for r in records]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    records = [EpisodeRecord("a", 1, True, 0.5, 3, 0), EpisodeRecord("b", 2, False, 0.0, 9, 1, "é\u2028")]
    path = tmp_path / "records.jsonl"
    path.write_bytes(to_lines(records))
    assert read_records(path) == records


@pytest.mark.parametrize("line", ["{", "[]", '{"env": "a"}', '{"env": "a", "sed": 1}'])
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(to_lines([EpisodeRecord("a", 1, True, 0.5, 3, 0)]) + line.encode())
    with pytest.raises(BadInput, match=r"records\.jsonl:2: no record of an episode"):
        read_records(path)
