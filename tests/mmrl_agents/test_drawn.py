import pytest

from mmrl.run_state import START
from mmrl_agents.drawn import Drawn, Place
from mmrl_agents.mismatch import Gaps
from mmrl_agents.sampling import Sampled


@pytest.mark.parametrize(
    ("gaps", "kept"),
    [(None, {"loss": 2.0, "mismatch/kl": 1.0}), (Gaps(), {"loss": 2.0}), (Gaps(tokens=1), {"loss": 2.0})],
)
def test_a_batchs_own_comparison_stands_for_that_of_its_update(gaps: Gaps | None, kept: dict[str, float]) -> None:
    nothing = Sampled([], 1, [], [], [], 0, None, ())
    drawn = Drawn(Place(1, (), (), {}), nothing, START, (), (), {}, gaps)
    assert drawn.compared({"loss": 2.0, "mismatch/kl": 1.0}) == kept
