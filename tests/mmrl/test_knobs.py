"""Knobs are turned on a plan that is a plain function of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mmrl.config import Config
from mmrl.config_load import load_config
from mmrl.errors import BadInput
from mmrl.knobs import Turned, fit
from mmrl.memory_plan import MemoryPlan

PlanWith = Callable[[Sequence[str]], tuple[Config, MemoryPlan]]
LONGEST = 300
"""Tokens of one row, which always goes."""


def planned(config: Config) -> MemoryPlan:
    """1000 weights; a step of 5000 tokens; 40 answers of 100 tokens or of what the context holds."""
    args, r = config.training_args, config.rollout
    if r.max_context is not None and r.max_context < 100:
        raise BadInput("no room")
    half = 2 if args.bf16 else 1
    learned = 10 if args.lora else 1000
    tokens = max(LONGEST, min(args.max_tokens_per_micro_batch, 5000))
    cache = min(r.max_batch, 40) * min(100, r.max_context or 100)
    return MemoryPlan(
        weights=(250 if args.load_in_4bit else 1000 // half), reference=0, gradients=learned // half,
        optimizer=2 * learned // (4 if args.optim == "adamw_8bit" else half),
        activations=tokens // half // (3 if args.gradient_checkpointing else 1), kept=learned // half,
        cache=cache // half, work=0, best=0, base=0, notes={}, tokens=tokens, rows=min(r.max_batch, 40),
        length=min(100, r.max_context or 100), sampler=learned // half if r.async_steps else 0,
    )  # fmt: skip


@pytest.fixture
def plan_with(tmp_path: Path) -> PlanWith:
    tree = {"train_type": "GRPO", "model_id": "m", "environments": [{"id": "text/arithmetic"}],
            "rollout": {"max_new_tokens": 50}}  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tree))

    def plan(changes: Sequence[str]) -> tuple[Config, MemoryPlan]:
        config = load_config(tmp_path / "run.yaml", changes).config
        return config, planned(config)

    return plan


def turned(plan_with: PlanWith, limit: int) -> list[tuple[str, int]]:
    return [(t.change, t.plan.peak) for t in fit(plan_with, limit)]


def test_what_fits_is_left_alone(plan_with: PlanWith) -> None:
    assert plan_with([])[1].peak == 1000 + 2000 + 1000 + 5000
    assert turned(plan_with, 9000) == []


def test_the_first_knob_is_turned_as_far_as_it_must(plan_with: PlanWith) -> None:
    tokens = "training_args.max_tokens_per_micro_batch"
    assert turned(plan_with, 8999) == [(f"{tokens}=4096", 8096)]
    assert turned(plan_with, 7500) == [(f"{tokens}=2048", 7000)]  # now sampling is the peak: 3000 and 4000


def test_a_knob_is_turned_no_further_than_it_gives(plan_with: PlanWith) -> None:
    tokens = "training_args.max_tokens_per_micro_batch"
    assert turned(plan_with, 4200) == [
        (f"{tokens}=256", 7000),  # one row of 300 always goes; sampling is the peak all the while
        ("rollout.max_batch=8", 4300),  # and now learning
        ("training_args.gradient_checkpointing=true", 4100),
    ]


def test_of_two_phases_as_large_each_is_turned_before_anything_harmful(plan_with: PlanWith) -> None:
    def plan(changes: Sequence[str]) -> tuple[Config, MemoryPlan]:
        config, made = plan_with(changes)
        return config, replace(made, cache=6000 * min(config.rollout.max_batch, 40) // 40)

    assert plan([])[1].phases == {"sampling": 9000, "learning": 9000}
    assert turned(plan, 7500) == [
        ("training_args.max_tokens_per_micro_batch=2048", 9000),
        ("rollout.max_batch=16", 6048),
    ]


def test_the_last_resorts(plan_with: PlanWith) -> None:
    found = [change for change, _ in turned(plan_with, 400)]
    harmful = [c for c in found if "max_" not in c]
    assert harmful == [
        "training_args.gradient_checkpointing=true",
        "training_args.bf16=true",
        "training_args.optim=adamw_8bit",
        "training_args.lora.r=16",
        "training_args.load_in_4bit=true",
    ]


def test_nothing_makes_it_fit(plan_with: PlanWith) -> None:
    found: list[Turned] = list(fit(plan_with, 10))
    peaks = [t.plan.peak for t in found]
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[-1] > 10
    assert all(t.price for t in found)


def test_sampling_ahead_is_given_up_before_activations_are_computed_twice(plan_with: PlanWith) -> None:
    def ahead(changes: Sequence[str]) -> tuple[Config, MemoryPlan]:
        return plan_with(["rollout.async_steps=1", *changes])

    assert ahead([])[1].peak == 1000 + 1000 + 2000 + 4000 + 6000
    (*before, last) = turned(ahead, 5200)
    assert last[0] == "rollout.async_steps=0"
    assert last[1] <= 5200 < before[-1][1]
    assert not any("checkpointing" in change for change, _ in before)
