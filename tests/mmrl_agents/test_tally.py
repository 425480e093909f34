import torch

from mmrl_agents.tally import Tally


def test_what_is_held_and_what_was_held_at_most() -> None:
    with Tally() as tally:
        a = torch.zeros(1000)
        b = a + 1
        assert (tally.now, tally.peak) == (8000, 8000)
        c = (b * 2).sum()  # the product is let go
        assert (tally.now, tally.peak) == (8004, 12004)
        del a
        assert (tally.now, tally.peak) == (4004, 12004)
    assert float(c) == 2000.0


def test_views_and_what_was_there_before_count_once() -> None:
    weight = torch.zeros(10, 10, requires_grad=True)
    with Tally([weight]) as tally:
        view = weight.t().reshape(100)[:50]
        made = torch.zeros(100)
        part = made.view(10, 10)[:5]
        assert tally.now == 400 + 400  # the transpose is copied by reshape
    assert (len(view), len(part)) == (50, 5)


def test_meta_tensors_count_as_those_that_take_memory() -> None:
    peaks: list[int] = []
    for device in ("cpu", "meta"):
        x = torch.zeros(32, 64, device=device, requires_grad=True)
        with Tally([x]) as tally:
            (x @ x.T).softmax(-1).square().sum().backward()
        peaks.append(tally.peak)
        assert tally.now == x.nbytes  # its gradient
    assert peaks[0] == peaks[1] > 3 * 32 * 32 * 4


def test_what_a_model_asks_of_nothing_holds() -> None:
    positions = torch.arange(4, device="meta")
    with Tally():
        assert (positions.diff() == 1).all()
