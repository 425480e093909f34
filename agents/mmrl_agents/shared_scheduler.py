"""Episodes that the processes of a run share out: each runs a part, and all see all of them."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass

from mmrl.episode import EpisodeSpec
from mmrl.errors import BadInput, one_line
from mmrl.policy import Policy
from mmrl.reward import RewardSuite
from mmrl.rollout import OnDone, Scheduler
from mmrl.run_state import START, RunState
from mmrl.stopwatch import Stopwatch
from mmrl.trajectory import Trajectory
from mmrl_agents.processes import ALONE, Processes
from mmrl_agents.shards import WHOLE, Shards


@dataclass(frozen=True)
class SharedScheduler(Scheduler):
    """A scheduler of which every process of the run has one.

    An episode's noise is a function of its name, so that what is sampled does not depend on who runs it.

    Attributes:
        processes: that share the episodes.
        shards: how they share the weights, which must be whole while they sample.
    """

    processes: Processes = ALONE
    shards: Shards = WHOLE

    async def run(self, specs: Sequence[EpisodeSpec], policy: Policy, suite: RewardSuite | None = None,
                  on_done: OnDone | None = None, state: RunState = START,
                  watch: Stopwatch | None = None) -> list[Trajectory]:
        """Run this process's part of the episodes; returns all of them, in the order of ``specs``.

        Raises:
            BadInput: if an environment puts into an episode what cannot be told to another process.
        """
        with self.shards.gathered():
            mine = await super().run(self.processes.share(specs), policy, suite, on_done, state, watch)
        if self.processes.count == 1:
            return mine
        found: list[Trajectory] = []
        for rank, part in enumerate(self.processes.exchange(told(mine))):
            own = rank == self.processes.rank
            episodes: list[Trajectory] = mine if own else pickle.loads(part)
            if on_done is not None and not own:
                for trajectory in episodes:
                    on_done(trajectory)
            found += episodes
        return found


def told(trajectories: Sequence[Trajectory]) -> bytes:
    """Episodes as one process tells them to another.

    Raises:
        BadInput: naming their environments, if what these put there cannot be told.
    """
    try:
        return pickle.dumps(trajectories)
    except Exception as error:  # whatever the objects in their info raise
        names = ", ".join(dict.fromkeys(t.env_id for t in trajectories))
        raise BadInput(f"{names}: the processes of a run tell each other their episodes, and what an environment puts "
                       f"into 'info' or 'meta' cannot be told ({one_line(error)}); put in plain values, or train with "
                       "one process") from error  # fmt: skip
