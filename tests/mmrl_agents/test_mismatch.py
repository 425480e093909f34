import math

import pytest
import torch

from mmrl_agents.mismatch import Gaps, figures, gaps_of, likeliest

LOG_W = torch.tensor([[0.1, -0.2, 0.0], [0.4, 9.0, 9.0]])
MU = torch.tensor([[-1.0, -3.0, -0.5], [-2.0, 9.0, 9.0]])
MASK = torch.tensor([[True, True, True], [True, False, False]])


def test_the_sums_by_hand() -> None:
    g, m = [0.1, -0.2, 0.0, 0.4], [-1.0, -3.0, -0.5, -2.0]
    found = gaps_of(LOG_W, MU, MASK)
    assert found.tokens == 4
    assert found.kl == pytest.approx(sum(math.exp(x) - x - 1 for x in g), abs=1e-7)
    assert found.gap == pytest.approx(0.3, abs=1e-7)
    assert found.gap_sq == pytest.approx(0.01 + 0.04 + 0.16, abs=1e-7)
    assert (found.mu, found.mu_sq) == (pytest.approx(-6.5), pytest.approx(14.25))
    assert found.both == pytest.approx(sum(a * b for a, b in zip(g, m, strict=True)), abs=1e-7)
    assert found.largest == pytest.approx(0.4)


def test_rows_apart_add_up_to_rows_together() -> None:
    parts = [gaps_of(LOG_W[i : i + 1], MU[i : i + 1], MASK[i : i + 1]) for i in (0, 1)]
    whole = gaps_of(LOG_W, MU, MASK)
    together = parts[0] + parts[1]
    assert together.tokens == whole.tokens
    assert together.largest == whole.largest
    assert figures(together) == pytest.approx(figures(whole), abs=1e-12)
    assert parts[0] + Gaps() == parts[0]


def test_equal_log_probabilities_have_no_gap() -> None:
    found = figures(gaps_of(torch.zeros(1, 3), MU[:1], MASK[:1]))
    assert set(found.values()) == {0.0}
    assert figures(Gaps()) == {}


def test_a_line_has_its_slope_and_fits() -> None:
    """As of two temperatures: log w = 0.25 log mu + 0.1 on every token."""
    found = figures(gaps_of(0.25 * MU + 0.1, MU, MASK))
    assert found["mismatch/slope"] == pytest.approx(0.25, abs=1e-6)
    assert found["mismatch/fit"] == pytest.approx(1.0, abs=1e-6)
    assert found["mismatch/mean"] == pytest.approx(0.25 * -6.5 / 4 + 0.1, abs=1e-6)
    noise = torch.tensor([[0.1, 0.1, -0.1], [-0.1, 9.0, 9.0]])  # as often above as below, whatever mu is
    apart = figures(gaps_of(noise, torch.tensor([[-1.0, -2.0, -1.0], [-2.0, 9.0, 9.0]]), MASK))
    assert apart["mismatch/spread"] == pytest.approx(0.1, abs=1e-6)
    assert apart["mismatch/slope"] == pytest.approx(0.0, abs=1e-6)
    assert apart["mismatch/fit"] == pytest.approx(0.0, abs=1e-6)


def test_rounding_has_no_direction() -> None:
    found = figures(gaps_of(1e-6 * MU, MU, MASK))
    assert found["mismatch/spread"] > 0
    assert (found["mismatch/slope"], found["mismatch/fit"]) == (0.0, 0.0)


CASES: dict[str, tuple[dict[str, float], float, str]] = {
    # What scoring the answers of mmrl/tiny on babyai/balrog-goto otherwise than they were sampled looked like.
    "another temperature": ({"kl": 0.0454, "spread": 0.388, "slope": 0.229, "fit": 0.926}, 0.0454, "about 1.2 times"),
    "a cooler sampler": ({"kl": 0.0845, "spread": 0.310, "slope": -0.180, "fit": 0.890}, 0.0845, "about 0.82 times"),
    "half of the prompt": ({"kl": 0.0429, "spread": 0.290, "slope": 0.001, "fit": 0.000}, 0.0429, "different prompts"),
    "no newline after the prompt": ({"kl": 0.328, "spread": 1.39, "slope": 0.109, "fit": 0.016}, 0.328, "prompts"),
    "an adapter two updates old": ({"kl": 0.0196, "spread": 0.199, "slope": -0.017, "fit": 0.019}, 7e-14, "a stale"),
    "rounding": ({"kl": 0.0101, "spread": 0.142, "slope": 0.001, "fit": 0.093}, 0.0101, "different precision"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_likeliest_cause(case: str) -> None:
    now, first, words = CASES[case]
    assert words in likeliest({f"mismatch/{name}": value for name, value in now.items()}, first)
