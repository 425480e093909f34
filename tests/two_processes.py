"""What two processes do together in the tests of many processes: ``python two_processes.py FOLDER``, once a rank.

Each rank writes what it came to into ``FOLDER``; :func:`start` starts them, and the test does the same by itself.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from learner_tools import StopAfter, llama, lora, ragged, run_config

from mmrl.config import TrainingArgs
from mmrl.config_load import load_config
from mmrl.errors import BadInput, RunStopped
from mmrl.report import Quiet
from mmrl.trajectory import Trajectory
from mmrl_agents.batch import segments_of
from mmrl_agents.credit import find_method
from mmrl_agents.critic import Critic
from mmrl_agents.learner import Learner
from mmrl_agents.processes import ALONE, Processes, in_step, joined
from mmrl_agents.reference import adapter_off, frozen_copy
from mmrl_agents.shards import WHOLE, Shards, put_together, take_state, whole_state, whole_weights
from mmrl_agents.train import Grpo

COUNT = 2


@dataclass(frozen=True)
class Case:
    """Updates of a tiny model.

    Attributes:
        trajectories: how many, all of different lengths.
        args: of the learner.
        lora: train an adapter.
        dtype: of the weights.
        work: what a step is, by :data:`WORK`.
    """

    trajectories: int
    args: dict[str, Any] = field(default_factory=dict[str, Any])
    lora: bool = False
    dtype: torch.dtype = torch.float32
    work: str = "update"


CASES = {
    "full": Case(7),
    "full in float64": Case(7, {"loss_type": "dapo", "num_iterations": 2}, dtype=torch.float64),
    "lora": Case(5, {"kl_coef": 0.1, "entropy_coef": 0.01}, lora=True),
    "lora in float64": Case(5, {"loss_type": "gspo"}, lora=True, dtype=torch.float64),
    "reference": Case(4, {"kl_coef": 0.1, "kl_estimator": "k2"}, dtype=torch.float64),
    "one process has nothing": Case(1, {"loss_type": "dr_grpo"}),
    "one process has nothing, lora": Case(1, lora=True),
    "critic": Case(5, {"advantage": "gae", "num_iterations": 2}, dtype=torch.float64, work="estimate"),
    "imitation": Case(5, work="imitate"),
    "logged": Case(4, {"kl_coef": 0.1}, lora=True, work="weigh"),
    "watched entropy": Case(5, {"entropy_coef": 0.1, "entropy_target": 100.0}, work="watch"),
    "watched entropy, one process has nothing": Case(1, {"entropy_coef": 0.1, "entropy_target": 100.0}, work="watch"),
    "checkpointing": Case(4, {"gradient_checkpointing": True}, dtype=torch.float64),
}


@dataclass(frozen=True)
class Learned:
    """What came of it: the trained weights and each step's metrics."""

    weights: dict[str, torch.Tensor]
    metrics: list[dict[str, float]]


def learned(case: Case, processes: Processes = ALONE, shards: Shards = WHOLE) -> Learned:
    """Two steps; between them the optimiser's state is taken out and put in again, as by a checkpoint."""
    args = TrainingArgs(learning_rate=1e-4, per_device_train_batch_size=2, max_tokens_per_micro_batch=64, **case.args)
    model = llama(dtype=case.dtype)
    model = lora(model, trained=True) if case.lora else model
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    refers = args.kl_coef > 0
    reference = (adapter_off(model) if case.lora else frozen_copy(model)) if refers else None
    critic = Critic.of(model) if case.work == "estimate" else None
    shards.add(model)
    if reference is not None:
        with reference() as other:
            if other is not model:
                shards.add(other)
    learner = Learner(model, args, 0.8, 4, reference, critic=critic, processes=processes, shards=shards)
    step = WORK[case.work]
    metrics = [step(learner, ragged(case.trajectories))]
    take_state(learner.optimizer, whole_state(learner.optimizer))
    metrics.append(step(learner, ragged(case.trajectories, seed=1)))
    weights = whole_weights(model) or {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    more = {} if critic is None else {f"critic.{n}": put_together(p.detach()) for n, p in critic.named_parameters()}
    return Learned({**weights, **more}, metrics)


def update(learner: Learner, trajectories: Sequence[Trajectory]) -> dict[str, float]:
    return learner.update(trajectories, [1.0 - i for i in range(len(trajectories))])


def estimate(learner: Learner, trajectories: Sequence[Trajectory]) -> dict[str, float]:
    foreseen = learner.foresee(trajectories)
    earned = find_method("gae").assign(trajectories, 1, learner.args, foreseen)
    advantages = [a for a in earned.advantages if a is not None]
    return learner.update(trajectories, advantages, earned.turns, earned.tokens, earned.returns, foreseen)


def imitate(learner: Learner, trajectories: Sequence[Trajectory]) -> dict[str, float]:
    return learner.imitate([s for i, t in enumerate(trajectories) for s in segments_of(t, i)])


def weigh(learner: Learner, trajectories: Sequence[Trajectory]) -> dict[str, float]:
    segments = [s for i, t in enumerate(trajectories) for s in segments_of(t, i)]
    return learner.weigh(segments, [1.0 - i for i in range(len(trajectories))])


def watch(learner: Learner, trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """A step in which nothing is learned but the entropy, which is below its target, and one with the bonus."""
    looked = learner.update(trajectories, [0.0] * len(trajectories))
    return {**update(learner, trajectories), "looked": looked["entropy"], "pulled": 1 - looked.get("update/skipped", 0)}


WORK = {"watch": watch, "update": update, "estimate": estimate, "imitate": imitate, "weigh": weigh}


def stopped(folder: Path, processes: Processes) -> str:
    """The second process alone is asked to stop, after the second of four steps."""
    loaded = load_config(folder / "stopped.yaml")
    try:
        Grpo().train(loaded, False, StopAfter(2) if processes.rank == 1 else Quiet())
    except KeyboardInterrupt:
        return "interrupted"
    return "went on"


def failing(processes: Processes, error: Exception) -> str:
    """The second process alone fails; how this one ends."""

    @in_step
    def work() -> None:
        if processes.rank == 1:
            raise error
        processes.exchange("all is well")
        raise AssertionError("it was not told")

    try:
        work()
    except Exception as met:
        return f"{type(met).__name__}: {met}"
    return "went on"


def main(folder: Path) -> None:
    from torch.distributed.device_mesh import init_device_mesh

    processes = joined()
    mesh = init_device_mesh("cpu", (processes.count,))
    for name, case in CASES.items():
        for kind, shards in {"whole": WHOLE, "cut": Shards(mesh)}.items():
            found = learned(case, processes, shards)
            torch.save(dataclasses.asdict(found), folder / f"{name}, {kind}, {processes.rank}.pt")
    ends = [stopped(folder, processes)]
    ends += [failing(processes, error) for error in (BadInput("mend it"), RunStopped("full"), ValueError("odd"))]
    if processes.rank == 1:
        (folder / "ends-1.txt").write_text("\n".join(ends))
        os._exit(0)
    try:
        processes.wait()
    except RunStopped as error:
        ends.append(str(error))
    (folder / "ends-0.txt").write_text("\n".join(ends))


def launch(folder: Path, name: str, *options: str, words: tuple[str, ...] = ()) -> str:
    """The output of ``accelerate launch`` of two processes on CPUs."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1",
               "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", *options,
               "-m", "mmrl", "train", str(folder / f"{name}.yaml"), *words]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


MEETING = """
import atexit, pathlib
from mmrl_agents.processes import joined
threads = lambda: sorted(p.read_text().strip() for p in pathlib.Path("/proc/self/task").glob("*/comm"))
atexit.register(lambda: print("after", threads()))  # comes last
joined().exchange("here")
print("while", threads())
"""
"""Meets the other process, and says which threads the kernel knows, by then and at the end of the interpreter."""


def start(folder: Path) -> list[subprocess.Popen[bytes]]:
    """Start the processes of the updates, as :func:`ranks` does."""
    run_config(folder, "stopped")
    return ranks(folder, __file__, str(folder))


def ranks(folder: Path, *command: str) -> list[subprocess.Popen[bytes]]:
    """Start Python once a rank; what it prints goes to ``log-<rank>.txt``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(COUNT), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, *command], stderr=subprocess.STDOUT,
            stdout=(folder / f"log-{rank}.txt").open("wb"),
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(COUNT)
    ]  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
