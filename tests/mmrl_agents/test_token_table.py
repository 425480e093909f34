import torch
from learner_tools import ragged

from mmrl_agents.batch import collate, segments_of, token_counts
from mmrl_agents.token_table import from_batch, to_batch


def test_there_and_back_over_all_segments_in_any_order() -> None:
    trajectories = ragged(12)  # some of several segments
    segments = [s for i, t in enumerate(trajectories) for s in segments_of(t, i)][::-1]
    counts = token_counts(segments, 12).tolist()
    assert len(segments) > 12
    rows = [[100.0 * i + k for k in range(n)] for i, n in enumerate(counts)]
    back = [[-1.0] * n for n in counts]
    for chunk in (segments[:5], segments[5:]):
        width = max(len(s.ids) for s in chunk)
        placed = to_batch(rows, chunk, width, torch.float64)
        mask = collate(chunk, torch.zeros(12), torch.zeros(12)).mask
        assert placed.shape == mask.shape
        assert placed[~mask].abs().sum() == 0
        from_batch(torch.where(mask, placed, float("nan")), chunk, back)
    assert back == rows


def test_a_sampled_id_stands_where_it_is_predicted() -> None:
    (t,) = [t for t in ragged(3) if len(t.turns) == 3]
    (segment,) = segments_of(t, 0)
    row = [float(i) for i in range(1, segment.sampled + 1)]
    (placed,) = to_batch([row], [segment], len(segment.ids), torch.float32).tolist()
    at = len(t.turns[0].prompt_ids) - 1
    assert placed[:at] == [0.0] * at
    assert placed[at : at + len(t.turns[0].token_ids)] == row[: len(t.turns[0].token_ids)]
    assert [x for x in placed if x] == row
