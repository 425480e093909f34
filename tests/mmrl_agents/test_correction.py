import math

import pytest
import torch

from mmrl_agents.correction import CORRECTIONS, Bounds

W = [[4.0, 1.0, 0.4, 9.0], [8.0, 8.0, 3.0, 9.0], [0.5, 5.0, 5.01, 9.0]]
MASK = torch.tensor([[True, True, True, False]] * 3)
LOG_W = torch.where(MASK, torch.tensor(W, dtype=torch.float64).log(), 0.0)
BOUNDS = Bounds(2.0, 0.5, 5.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("token", [[2.0, 1.0, 0.4], [2.0, 2.0, 2.0], [0.5, 2.0, 2.0]]),
        ("icepop", [[4.0, 1.0, 0.0], [0.0, 0.0, 3.0], [0.5, 5.0, 0.0]]),
        # Geometric means: 1.6^(1/3), 192^(1/3) = 5.77 (out), (0.5 * 5 * 5.01)^(1/3).
        ("geometric", [[2.0, 1.0, 0.4], [0.0, 0.0, 0.0], [0.5, 2.0, 2.0]]),
        ("none", [[1.0] * 3] * 3),
    ],
)
def test_weights_by_hand(name: str, expected: list[list[float]]) -> None:
    out = CORRECTIONS[name](LOG_W, MASK, BOUNDS)[:, :3]
    torch.testing.assert_close(out, torch.tensor(expected).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mean", [0.49, 0.51, 4.9, 5.1])
@pytest.mark.parametrize("length", [1, 10, 1000])
def test_a_long_row_is_kept_as_a_short_one_is(mean: float, length: int) -> None:
    log_w = torch.full((1, length), math.log(mean), dtype=torch.float64)
    out = CORRECTIONS["geometric"](log_w, torch.ones((1, length), dtype=torch.bool), BOUNDS)
    assert out[0].tolist() == pytest.approx([min(mean, 2.0) if 0.5 <= mean <= 5.0 else 0.0] * length, abs=1e-12)


@pytest.mark.parametrize("name", CORRECTIONS)
def test_a_sampler_that_is_the_policy_needs_no_correction(name: str) -> None:
    weight = CORRECTIONS[name](torch.zeros(2, 3), torch.ones((2, 3), dtype=torch.bool), BOUNDS)
    assert weight.tolist() == [[1.0] * 3] * 2
