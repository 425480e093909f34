import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from learner_tools import trajectory, turn

from mmrl.trajectory import Trajectory, Turn
from mmrl_agents.batch import (
    Finer,
    Segment,
    collate,
    finer,
    segments_of,
    token_counts,
    token_of,
    turn_of,
)


def test_a_whole_transcript_is_one_segment() -> None:
    turns = [turn([5, 6], [7, 8], [-0.5, -0.25]), turn([5, 6, 7, 8, 9], [3], [-2.0])]
    assert segments_of(trajectory("t", turns), 4) == [
        Segment(
            ids=(5, 6, 7, 8, 9, 3),
            mask=(False, False, True, True, False, True),
            mu=(0.0, 0.0, -0.5, -0.25, 0.0, -2.0),
            turn=(-1, -1, 0, 0, -1, 1),
            trajectory=4,
        )
    ]


def test_a_broken_prefix_starts_a_segment() -> None:
    turns = [turn([5, 6], [7]), turn([5, 9], [8]), turn([5, 9, 8], [4])]
    first, second = segments_of(trajectory("t", turns), 0)
    assert (first.ids, first.turn) == ((5, 6, 7), (-1, -1, 0))
    assert (second.ids, second.mask, second.turn) == ((5, 9, 8, 4), (False, False, True, True), (-1, -1, 1, 2))


def test_a_prompt_shorter_than_what_was_held_starts_a_segment() -> None:
    assert [s.ids for s in segments_of(trajectory("t", [turn([5, 6], [7]), turn([5, 6], [8])]), 0)] == [
        (5, 6, 7),
        (5, 6, 8),
    ]


@pytest.mark.parametrize("bad", [turn([5], [6, 7], [-1.0]), turn([5], [], [-1.0]), turn([5], [])])
def test_a_mismatch_names_the_trajectory_and_the_turn(bad: Turn) -> None:
    with pytest.raises(ValueError, match=r"trajectory s000001-00003, turn 1: \d sampled ids but \d log-probabilities"):
        segments_of(trajectory("s000001-00003", [turn([5], [6]), bad]), 0)


def segment(ids: list[int], mask: list[int], index: int = 0) -> Segment:
    mu = tuple(-float(i) for i in range(len(ids)))
    return Segment(tuple(ids), tuple(map(bool, mask)), mu, (-1,) * len(ids), index)


def test_collate_speaks_of_the_next_id() -> None:
    advantage, weight = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 0.25]).double()
    b = collate([segment([5, 6, 7], [0, 0, 1], 1), segment([8, 9], [0, 1], 0)], advantage, weight)
    assert b.ids.tolist() == [[5, 6, 7], [8, 9, 0]]
    assert b.mask.tolist() == [[False, True], [True, False]]
    assert b.mu.tolist() == [[-1.0, -2.0], [-1.0, 0.0]]
    assert b.advantage.tolist() == [[-2.0, -2.0], [1.0, 1.0]]
    assert b.weight.tolist() == [[0.25, 0.25], [0.5, 0.5]]


def test_token_counts_add_up_a_trajectorys_segments() -> None:
    parts = [segment([1, 2, 3], [0, 1, 1], 2), segment([1, 2], [0, 1], 0), segment([1, 2], [0, 1], 2)]
    assert token_counts(parts, 4).tolist() == [1, 0, 3, 0]


IDS = st.lists(st.integers(2, 4), min_size=1, max_size=4)


@st.composite
def conversations(draw: st.DrawFn) -> Trajectory:
    """Turns that extend what came before, or start afresh."""
    turns: list[Turn] = []
    for n in range(draw(st.integers(1, 5))):
        more = draw(IDS)
        goes_on = turns and draw(st.booleans())
        prompt = [*turns[-1].prompt_ids, *turns[-1].token_ids, *more] if goes_on else more
        sampled = draw(IDS)
        turns.append(turn(prompt, sampled, [-n - i / 8 for i in range(len(sampled))]))
    return trajectory("t", turns)


@given(conversations())
def test_every_sampled_id_is_learned_once_in_the_context_that_it_was_sampled_in(t: Trajectory) -> None:
    seen = [
        (s.turn[i], s.ids[:i], s.ids[i], s.mu[i])
        for s in segments_of(t, 0)
        for i in range(len(s.ids))
        if s.mask[i]
    ]
    assert seen == [
        (n, (*u.prompt_ids, *u.token_ids[:i]), u.token_ids[i], u.logprobs[i])
        for n, u in enumerate(t.turns)
        for i in range(len(u.token_ids))
    ]


@given(conversations())
def test_sampled_ids_are_numbered_through_the_segments(t: Trajectory) -> None:
    numbers = [n for s in segments_of(t, 0) for n, sampled in zip(s.token, s.mask, strict=True) if sampled]
    assert numbers == list(range(sum(len(u.token_ids) for u in t.turns)))
    assert all(n == -1 for s in segments_of(t, 0) for n, sampled in zip(s.token, s.mask, strict=True) if not sampled)


def test_finer_advantages_go_to_their_places() -> None:
    turns = [turn([5, 6], [7, 8]), turn([5, 6, 7, 8, 9], [3]), turn([2], [4, 5])]
    parts = segments_of(trajectory("t", turns), 1)
    flat = collate(parts, torch.zeros(2).double(), torch.ones(2).double())
    table = torch.tensor([[9.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0]]).double()
    by_token = finer(flat, parts, Finer(table, token_of)).advantage
    by_turn = finer(flat, parts, Finer(table, turn_of)).advantage
    assert by_token[flat.mask].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert by_turn[flat.mask].tolist() == [1.0, 1.0, 2.0, 3.0, 3.0]
