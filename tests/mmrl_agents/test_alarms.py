from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from learner_tools import StopAfter, run_config

from mmrl_agents.alarms import KEYS, Alarms, appearing, collapse, runaway
from mmrl_agents.policies.hf import HFPolicy
from mmrl_agents.run import Run
from mmrl_agents.sampler import SAMPLERS, SamplerKind, check_own
from mmrl_agents.train import Grpo

HEALTHY = Path(__file__).parents[1] / "data" / "healthy_metrics.jsonl"
"""A run of mmrl/tiny on babyai/balrog-goto (configs/babyai_goto.yaml with 60 steps of 16 episodes): success from 13 to
100% of a step's episodes; the spread of the rewards falls, since nothing is left to win."""


def steps(**series: Sequence[float]) -> list[dict[str, float]]:
    """The metrics of steps 1, 2, ...; a series is repeated from its end."""
    n = max(map(len, series.values()))
    usual = {"reward": [0.5], "reward_spread": [0.4], "grad_norm": [1.0], "answer_length": [12.0]}
    full = {k: [*v, *[v[-1]] * (n - len(v))] for k, v in {**usual, **series}.items()}
    return [{"step": float(i + 1), **{k: float(v[i]) for k, v in full.items()}} for i in range(n)]


def said(history: list[dict[str, float]]) -> list[str]:
    alarms = Alarms()
    return [line for step in history for line in alarms.note(step)]


FALL = {"reward_spread": [0.4] * 20 + [0.1] * 10, "grad_norm": [1.0] * 22 + [4.0] + [1.0] * 7}


def test_a_collapse_in_words_once() -> None:
    """The spread's mean over five steps is at half of what it was in step 24; the spike of step 23 counts until 27."""
    assert said(steps(**FALL)) == [
        "step 24: the rewards within a group have come closer (spread 0.16, before 0.4) at no gain (reward 0.5, before "
        "0.5) while the gradient jumped (norm 4, before 1): the policy may be collapsing; consider a lower "
        "training_args.learning_rate, or training_args.kl_coef"
    ]


def test_a_fall_alone_and_a_spike_alone_are_none() -> None:
    assert said(steps(reward_spread=FALL["reward_spread"])) == []
    assert said(steps(grad_norm=FALL["grad_norm"])) == []
    assert said(steps(reward_spread=FALL["reward_spread"], grad_norm=[1.0] * 22 + [2.9] + [1.0] * 7)) == []
    assert said(steps(reward_spread=[0.4] * 20 + [0.21] * 10, grad_norm=FALL["grad_norm"])) == []


def test_success_everywhere_is_no_collapse() -> None:
    """Rewards come closer because there is nothing left to win, and small differences make large gradients."""
    assert said(steps(**FALL, reward=[0.5] * 20 + [0.9])) == []
    assert len(said(steps(**FALL, reward=[0.5] * 20 + [0.1]))) == 1


def test_a_second_collapse_is_said_again() -> None:
    twice = {k: [*v, *[0.4 if k == "reward_spread" else 1.0] * 30, *v[20:]] for k, v in FALL.items()}
    assert [line.partition(":")[0] for line in said(steps(**twice))] == ["step 24", "step 64"]


def test_a_sign_stays_until_it_is_over_for_sure() -> None:
    """Norms that flicker between half a spike and a spike are one occurrence."""
    flicker = [1.0] * 22 + [4.0, 1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 4.0, 1.0, 1.0]
    history = steps(reward_spread=[0.4] * 20 + [0.1] * 12, grad_norm=flicker)
    assert [line.partition(":")[0] for line in said(history)] == ["step 24"]
    reading = collapse(history[:29])
    assert (reading.on, reading.over) == (False, False)
    assert appearing(history[:29], frozenset({"collapse"})) == ([], frozenset({"collapse"}))
    assert appearing(history[:29], frozenset()) == ([], frozenset())


def test_answers_that_run_away_in_words_once() -> None:
    """12 tokens at first; 3 more in each step from the 13th on, for nothing."""
    growing = [12.0] * 12 + [12.0 + 3 * i for i in range(1, 20)]
    assert said(steps(answer_length=growing, reward=[0.5] * 12 + [0.4])) == [
        "step 18: answers run away in length (24 tokens, 12 at first) and the reward does not follow (0.4, before "
        "0.492): consider the plugin 'length', or fewer rollout.max_new_tokens"
    ]


def test_longer_answers_that_pay_are_none() -> None:
    growing = [12.0] * 12 + [12.0 + 3 * i for i in range(1, 20)]
    assert said(steps(answer_length=growing, reward=[0.5 + 0.01 * i for i in range(31)])) == []


def test_long_answers_that_grow_no_more_are_said_once() -> None:
    long = [12.0] * 12 + [40.0] * 60
    assert len(said(steps(answer_length=long))) == 1
    again = [*long, *[15.0] * 10, *[40.0] * 10]
    assert [line.partition(":")[0] for line in said(steps(answer_length=again))] == ["step 15", "step 86"]
    assert runaway(steps(answer_length=long)).over is False


def test_few_tokens_more_are_no_running_away() -> None:
    assert said(steps(answer_length=[2.0] * 15 + [9.9] * 15)) == []
    assert len(said(steps(answer_length=[2.0] * 15 + [10.1] * 15))) == 1


def test_too_short_a_history_says_nothing() -> None:
    assert said(steps(reward_spread=[0.4] * 9 + [0.0] * 5, grad_norm=[1.0] * 9 + [9.0] * 5,
                      answer_length=[1.0] * 9 + [99.0] * 5)) == []  # fmt: skip
    assert said([{"step": float(i)} for i in range(40)]) == []


def test_a_step_without_a_gradient_is_left_out() -> None:
    """As of a skipped update, or of a norm that was not finite and is read back as null."""
    history: list[dict[str, Any]] = list(steps(**FALL))
    for i in (3, 7, 24):
        del history[i]["grad_norm"]
    history[10]["grad_norm"] = None
    history[11]["grad_norm"] = float("inf")
    alarms = Alarms()
    assert [line.partition(":")[0] for step in history for line in alarms.note(step)] == ["step 24"]


def test_a_healthy_run_says_nothing() -> None:
    lines = [json.loads(line) for line in HEALTHY.read_text().splitlines()]
    assert len(lines) == 60
    assert all({*KEYS, *line} == set(KEYS) for line in lines)
    assert lines[-1]["reward"] > 0.9 > 0.1 > lines[0]["reward"]
    assert said(lines) == []


def apart(*kl: float, **figures: float) -> list[dict[str, float]]:
    """Steps of such a divergence; its other figures are as of rounding."""
    shape = {"mismatch/spread": 0.05, "mismatch/slope": 0.0, "mismatch/fit": 0.0, **figures}
    return [{**step, "mismatch/kl": k, **shape} for step, k in zip(steps(reward=[0.5] * len(kl)), kl, strict=True)]


def test_a_mismatch_in_words_once_and_again_when_it_comes_back() -> None:
    assert said(apart(*[1e-9] * 40)) == []
    lines = said(apart(*[0.02] * 10, *[1e-4] * 5, *[0.02] * 5))
    assert [line.partition(":")[0] for line in lines] == ["step 1", "step 17"]
    assert lines[0] == (
        "step 1: sampler and learner disagree on the same tokens (mismatch/kl 0.02 nats a token, at most 0.01 is "
        "well); small and in no direction (log w varies by 0.05): the two compute in different precision (the "
        "sampler's dtype, training_args.bf16 and mixed_precision, a quantised sampler)"
    )


def test_a_rare_token_is_no_mismatch() -> None:
    """A single step above the limit is not; the median of three is asked."""
    assert said(apart(*[1e-4] * 10, 0.5, *[1e-4] * 10)) == []
    assert len(said(apart(*[1e-4] * 10, 0.5, 1e-4, 0.02, *[1e-4] * 10))) == 1
    assert said(apart(*[0.009] * 20)) == []


def test_a_step_without_a_comparison_is_left_out() -> None:
    """As a skipped update, and as all of a run before there was one."""
    history = [*steps(reward=[0.5] * 20), *apart(*[0.02] * 5)]
    assert len(said(history)) == 1
    assert said(steps(reward=[0.5] * 20)) == []


class Stuck(HFPolicy):
    """Takes over three updates, and then no more, though it says so: a stale adapter."""

    def __init__(self, run: Run) -> None:
        super().__init__(copy.deepcopy(run.model), run.processing, 1.0, 6)
        self.source = run.model

    def updated(self, version: int) -> None:
        if version <= 3:
            self.generator.model.load_state_dict(self.source.state_dict())
        super().updated(version)


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_stale_sampler_trips_the_watch_and_a_sampler_that_is_ahead_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    args = {"max_steps": 12, "learning_rate": 0.01, "lr_scheduler_type": "constant", "save_steps": 100}
    healthy, stale = Lines(100), Lines(100)
    for name, reporter in (("healthy", healthy), ("stale", stale)):
        loaded = run_config(tmp_path, name, training_args=args, rollout={"async_steps": ahead})
        Grpo().train(loaded, False, reporter)
        monkeypatch.setitem(SAMPLERS, "hf", SamplerKind(Stuck, check_own))
    assert not any("disagree" in line for line in healthy.lines)
    lines = [line for line in stale.lines if "disagree" in line]
    assert lines
    assert int(lines[0].removeprefix("step ").partition(":")[0]) > 4 + ahead
    assert all("the sampler does not follow the learner's weights (a stale adapter" in line for line in lines)


class Lines(StopAfter):
    def __init__(self, steps: int) -> None:
        super().__init__(steps)
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_a_run_says_it_once_also_when_it_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmrl_agents import alarms

    def third(history: Sequence[alarms.Step]) -> alarms.Reading:
        return alarms.Reading(on=len(history) >= 3, words=f"a reward of {history[-1]['reward']:.0f}")

    monkeypatch.setitem(alarms.SIGNS, "third", third)
    whole, cut = Lines(10), Lines(3)
    Grpo().train(run_config(tmp_path, "whole"), False, whole)
    assert [line for line in whole.lines if line.startswith("step ")] == ["step 3: a reward of 0"]
    loaded = run_config(tmp_path, "cut")
    with pytest.raises(KeyboardInterrupt):
        Grpo().train(loaded, False, cut)
    rest = Lines(10)
    Grpo().train(loaded, True, rest)
    assert [line for line in cut.lines if line.startswith("step ")] == ["step 3: a reward of 0"]
    assert [line for line in rest.lines if line.startswith("step ")] == []
    assert rest.left == 9
