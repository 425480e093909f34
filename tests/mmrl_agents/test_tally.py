"""Counted bytes against tensors of known size, and against torch's own profiler of its allocator."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from learner_tools import llama, ragged

from mmrl.config import TrainingArgs
from mmrl_agents.learner import Learner
from mmrl_agents.tally import Tally

KB = 256  # floats


def test_what_is_made_counts_and_what_is_dropped_does_not() -> None:
    with Tally() as tally:
        a = torch.zeros(KB)
        b = a + 1
        assert (tally.live, tally.peak) == (2048, 2048)
        del a
        assert (tally.live, tally.peak) == (1024, 2048)
        c = [b * 2, b * 3]
        assert (tally.live, tally.peak) == (3072, 3072)
    del b, c
    assert (tally.live, tally.peak) == (0, 3072)


def test_views_and_work_in_place_are_free() -> None:
    before = torch.ones(KB)
    with Tally() as tally:
        view = before.view(2, 128)[1:]
        view.mul_(2)
        before[3] = 5.0
        assert (tally.live, tally.peak) == (0, 0)
        own = torch.ones(KB)
        kept = own[:1]
        del own
        assert tally.live == 1024  # the view holds all of it
    assert kept.shape == (1,)


def test_several_threads_may_count_together() -> None:
    tally, made = Tally(), list[torch.Tensor]()

    def work() -> None:
        with tally:
            made.append(torch.zeros(KB))

    with tally:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        made.append(torch.zeros(KB))
    assert tally.live == 2048
    uncounted = threading.Thread(target=lambda: made.append(torch.zeros(KB)))
    with tally:
        uncounted.start()
        uncounted.join()
    assert tally.live == 2048


def profiled(work: Callable[[], object]) -> int:
    """The most bytes that torch's allocator held beyond what it did at first."""
    with torch.profiler.profile(profile_memory=True) as prof:
        work()
    live = peak = 0
    for event in prof.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak


def test_a_whole_update_is_counted_as_the_allocator_counts_it() -> None:
    learners = [Learner(llama(dtype=torch.float32), TrainingArgs(num_iterations=2), 1.0, 10) for _ in range(2)]
    for made in learners:
        made.update(ragged(6), [1.0, -1.0, 0.5, -0.5, 0.2, 0.1])
    with Tally() as tally:
        learners[0].update(ragged(6), [1.0, -1.0, 0.5, -0.5, 0.2, 0.1])
    allocated = profiled(lambda: learners[1].update(ragged(6), [1.0, -1.0, 0.5, -0.5, 0.2, 0.1]))
    assert 0 < tally.peak <= allocated  # scratch space inside an operation is the allocator's alone
    assert allocated < 1.05 * tally.peak
