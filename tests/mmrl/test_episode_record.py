import json
from dataclasses import asdict

import mmrl
from mmrl.episode_record import EpisodeRecord, record_of, to_lines


def test_an_episode_in_a_line() -> None:
    (won,) = mmrl.rollout("babyai/balrog-goto", policy="expert", seeds=[3])
    (lost,) = mmrl.rollout("babyai/balrog-putnext", policy="random", seeds=[4], max_turns=2)
    records = [record_of(won), record_of(lost)]
    assert records[0] == EpisodeRecord("babyai/balrog-goto", 3, True, round(won.env_return, 6), len(won.turns), 0)
    assert records[1] == EpisodeRecord("babyai/balrog-putnext", 4, False, 0.0, 2, 0)
    assert [json.loads(line) for line in to_lines(records).splitlines()] == [asdict(r) for r in records]
