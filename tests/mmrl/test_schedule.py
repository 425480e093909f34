import math
from typing import Any

import pytest

from mmrl.errors import BadInput
from mmrl.plugin_config import read_entry
from mmrl.run_state import RunState
from mmrl.schedule import weight_at


def at(weight: Any, **state: Any) -> float:
    return weight_at(read_entry({"name": "p", "weight": weight}).weight, RunState(**state))


def test_a_number_stays() -> None:
    assert at(-2, step=99, progress=1.0) == -2.0


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 1.0), (0.2, 1.0), (0.4, 2.0), (0.6, 3.0), (1.0, 3.0)])
def test_linear(progress: float, weight: float) -> None:
    given = {"schedule": "linear", "from": 1, "to": 3, "start": 0.2, "end": 0.6}
    assert at(given, progress=progress) == pytest.approx(weight)


def test_cosine_is_slow_at_both_ends() -> None:
    given = {"schedule": "cosine", "from": 0.0, "to": 1.0}
    assert [at(given, progress=p) for p in (0.0, 0.25, 0.5, 1.0)] == pytest.approx(
        [0.0, (1 - math.cos(math.pi / 4)) / 2, 0.5, 1.0]
    )


def test_steps() -> None:
    given = {"schedule": "steps", "values": {0: 1.0, 10: 0.5, 20: 0.0}}
    assert [at(given, step=s) for s in (0, 9, 10, 19, 20, 500)] == [1.0, 1.0, 0.5, 0.5, 0.0, 0.0]
    assert at({"schedule": "steps", "values": {5: 2.0}}, step=1) == 2.0


def test_a_metric_of_the_step_before() -> None:
    given = {"schedule": "metric", "metric": "success", "from": 1.0, "to": 0.2, "start": 0.5, "end": 0.9}
    assert at(given) == 1.0  # unknown before the first step
    assert [at(given, metrics={"success": s}) for s in (0.1, 0.7, 1.0)] == pytest.approx([1.0, 0.6, 0.2])


@pytest.mark.parametrize(("weight", "message"), [
    ("high", "weight: Input should be a valid number"),
    (math.inf, "weight: Input should be a finite number"),
    ({"schedule": "quadratic", "from": 0, "to": 1}, "weight: should be a number, or a mapping with schedule: linear"),
    ({"from": 0, "to": 1}, "weight: should be a number, or a mapping with schedule: linear"),
    ({"schedule": "linear", "from": 0}, "weight.to: Field required"),
    ({"schedule": "linear", "from": 0, "to": 1, "end": 0.0}, r"weight: Value error, start \(0\) must lie before end"),
    ({"schedule": "steps", "values": {}}, "weight.values: Dictionary should have at least 1 item"),
    ({"schedule": "metric", "from": 0, "to": 1}, "weight.metric: Field required"),
])  # fmt: skip
def test_bad_weights_are_one_line_with_the_key(weight: Any, message: str) -> None:
    with pytest.raises(BadInput, match=f"^reward plugin 'p': {message}"):
        read_entry({"name": "p", "weight": weight})
