from dataclasses import replace

from mmrl.memory_plan import MemoryPlan

PLAN = MemoryPlan(weights=100, reference=0, optimizer=200, gradients=100, activations=50, kept=100, cache=30,
                  work=20, best=0, base=7, notes={}, tokens=64, rows=8, length=32)  # fmt: skip


def test_a_peak_is_what_is_there_at_once() -> None:
    assert PLAN.phases == {"sampling": 357, "learning": 457}
    assert PLAN.peak == 457


def test_gradients_of_a_single_pass_come_as_its_activations_go() -> None:
    assert replace(PLAN, kept=0).phases["learning"] == 307 + 100
    assert replace(PLAN, kept=0, activations=150).phases["learning"] == 307 + 150


def test_a_best_checkpoint_is_a_second_set_of_weights() -> None:
    plan = replace(PLAN, best=100, cache=200, reference=100)
    assert plan.phases["evaluating the best"] == 407 + 100 + 220 == plan.peak


def test_a_run_that_never_samples_has_no_such_phase() -> None:
    assert list(replace(PLAN, cache=0, work=0).phases) == ["learning"]


def test_a_run_that_samples_while_it_learns_holds_both_at_once() -> None:
    plan = replace(PLAN, sampler=60)
    assert plan.phases == {"sampling and learning": 307 + 60 + 50 + 150}
    wide = replace(plan, cache=280, best=100)
    assert wide.phases["sampling and learning"] == 367 + 300 + 300, "an evaluation samples beside it"
    assert wide.phases["evaluating the best"] == 367 + 100 + 300
