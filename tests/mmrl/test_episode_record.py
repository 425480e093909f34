from pathlib import Path

import pytest

import mmrl
from mmrl.episode_record import EpisodeRecord, read_records, record_of, to_lines
from mmrl.errors import BadInput


def test_an_episode_in_a_line_and_back(tmp_path: Path) -> None:
    (won,) = mmrl.rollout("babyai/balrog-goto", policy="expert", seeds=[3])
    (lost,) = mmrl.rollout("babyai/balrog-putnext", policy="random", seeds=[4], max_turns=2)
    records = [record_of(won), record_of(lost)]
    assert records[0] == EpisodeRecord("babyai/balrog-goto", 3, True, round(won.env_return, 6), len(won.turns), 0)
    assert records[1] == EpisodeRecord("babyai/balrog-putnext", 4, False, 0.0, 2, 0)
    path = tmp_path / "records.jsonl"
    path.write_bytes(to_lines(records))
    assert read_records(path) == records


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{", "Invalid JSON"),
        ("[1]", "object"),
        ('{"env": "e", "seed": 1}', "success"),
        ('{"env": "e", "seed": "1", "success": true, "episode_return": 1.0, "turns": 1, "invalid": 0}', "seed"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "records.jsonl"
    good = to_lines([EpisodeRecord("e", 1, True, 1.0, 1, 0)])
    path.write_bytes(good + line.encode() + b"\n")
    with pytest.raises(BadInput, match=rf"records\.jsonl:2: not the record of an episode: .*{why}"):
        read_records(path)
