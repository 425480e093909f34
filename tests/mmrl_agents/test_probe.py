from __future__ import annotations

import dataclasses

import pytest
import torch
from learner_tools import llama, ragged, scored

from mmrl_agents.logprobs import Scorer
from mmrl_agents.mismatch import figures
from mmrl_agents.probe import ROWS, Probe


def test_a_sampler_with_the_same_weights_has_no_gap_and_another_temperature_has() -> None:
    model = llama()
    batch = scored(model, ragged(6), 0.8)
    found = Probe(Scorer(model, 0.8), 4096).compare(batch)
    assert found.tokens == len(batch[0].turns[0].token_ids), "one of eight segments, and one at least"
    assert found.largest < 1e-5
    warm = figures(Probe(Scorer(model, 1.0), 4096).compare(batch))
    assert warm["mismatch/kl"] > 1e-3
    other = Probe(Scorer(llama(seed=1), 0.8), 4096).compare(batch)
    assert other.kl / other.tokens > 0.01


def test_it_asks_a_few_segments_spread_over_the_batch_and_learns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama()
    batch = scored(model, ragged(80), 1.0)
    asked: list[int] = []
    plain = Scorer.tokens

    def tokens(self: Scorer, ids: torch.Tensor, *args: object, **more: object) -> object:
        assert not torch.is_grad_enabled()
        asked.append(len(ids))
        return plain(self, ids, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Scorer, "tokens", tokens)
    whole = Probe(Scorer(model, 1.0), 4096).compare(batch)
    assert asked == [ROWS]
    parts = Probe(Scorer(model, 1.0), 1).compare(batch)
    assert asked[1:] == [1] * ROWS
    assert figures(parts) == pytest.approx(figures(whole), abs=1e-9)


def test_trajectories_that_are_not_valid_are_left_out() -> None:
    model = llama()
    (good, bad) = scored(model, ragged(2), 1.0)
    broken = dataclasses.replace(bad, error="the environment fell over", turns=())
    probe = Probe(Scorer(model, 1.0), 4096)
    assert probe.compare([broken, good]) == probe.compare([good])
    assert probe.compare([broken]).tokens == 0
