"""Many processes, one run: what they tell each other.

Every process holds the same run and decides the same things; what differs between them (episodes, passes of an update,
clocks) is split, and put together again by :meth:`Processes.exchange`.  A process that fails says so at the next
exchange, so that no other waits for it in vain and all end alike.
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from mmrl import launched
from mmrl.errors import BadInput, RunStopped, one_line

P = ParamSpec("P")
T = TypeVar("T")
PATIENCE = timedelta(days=1)
"""How long a process waits for others that are alive; one that died is noticed at once."""
BUCKET = 2**24
"""Numbers of gradients that are summed over the processes at once."""
ENDS: dict[str, type[BaseException]] = {e.__name__: e for e in (BadInput, RunStopped, KeyboardInterrupt)}
"""How the others end when one process ends so; any other error stops their run."""


@dataclass(frozen=True)
class _Said:
    """What one process brings to an exchange: a value or, if it failed, the name of its error and what it says."""

    value: Any = None
    failure: tuple[str, str] | None = None


class Processes:
    """The processes of a run, seen from one of them.

    Args:
        rank: its number, from 0.
        count: how many there are.
        device: where its model goes; None: the GPU if there is one.
        group: the ``torch.distributed`` group through which they tell each other values; unused if there is one.
    """

    def __init__(self, rank: int = 0, count: int = 1, device: str | None = None, group: Any = None) -> None:
        self.rank = rank
        self.count = count
        self.device = device
        self._group = group
        self._over = False

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def exchange(self, value: T) -> list[T]:
        """What each process gives here, in their order; every process must come here.

        Raises:
            BadInput: if another process ended by it; KeyboardInterrupt likewise.
            RunStopped: if another process failed or is gone.
        """
        if self.count == 1:
            return [value]
        return [said.value for said in self._meet(_Said(value))]

    def of_first(self, value: T) -> T:
        """What the first process gives here: for what depends on a clock."""
        return self.exchange(value)[0]

    def wait(self) -> None:
        """Go on when all processes are here."""
        self.exchange(None)

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of what is to be done: runs of almost equal length, so that groups stay whole."""
        at = [len(items) * rank // self.count for rank in (self.rank, self.rank + 1)]
        return items[at[0] : at[1]]

    def deal(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of what is sorted by size: every so manieth, so that all have long and short ones."""
        return items[self.rank :: self.count]

    def add_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Sum the gradient of each parameter over all processes; one without any anywhere keeps none."""
        if self.count == 1:
            return
        learned = zip(*self.exchange([p.grad is not None for p in parameters]), strict=True)
        for parameter, flags in zip(parameters, learned, strict=True):
            if parameter.grad is None and any(flags):
                parameter.grad = torch.zeros_like(parameter)
        for bucket in buckets([p.grad for p in parameters if p.grad is not None]):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            torch.distributed.all_reduce(flat)
            for gradient, total in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                gradient.copy_(total.view_as(gradient))

    @contextmanager
    def own_noise(self) -> Generator[None]:
        """Random numbers (dropout's) of its own for each process; afterwards all draw the same again."""
        if self.count == 1:
            yield
            return
        seed = int(torch.randint(2**62, ()))
        with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
            torch.manual_seed(seed + self.rank)
            yield

    @contextmanager
    def together(self) -> Generator[None]:
        """Work that ends in every process as it ends in the first that ends otherwise than well."""
        self._over = False
        try:
            yield
            self.wait()
        except BaseException as error:
            if self.count > 1 and not self._over:
                with suppress(Exception, KeyboardInterrupt):  # it comes back to all, and so here too
                    self._meet(_Said(failure=(type(error).__name__, str(error) or one_line(error))))
            raise

    def leave(self) -> None:
        """Meet no more, at the end of the interpreter.

        The threads of a group end with what refers to it.  One that is left then, and lets go of a tensor of what was
        exchanged last, asks for the interpreter that is no more, and ends the process by a signal.
        """
        self._group = None
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def _meet(self, said: _Said) -> list[_Said]:
        heard: list[Any] = [None] * self.count
        try:
            torch.distributed.all_gather_object(heard, said, self._group)
        except RuntimeError as error:
            self._over = True
            raise RunStopped("another process of this run is gone; what was written is intact, and --resume goes on "
                             f"({one_line(error)[:200]})") from error  # fmt: skip
        for rank, other in enumerate(heard):
            if other.failure is not None:
                self._over = True
                kind, why = other.failure
                raise ENDS.get(kind, RunStopped)(why if kind in ENDS else f"process {rank} failed: {kind}: {why}")
        return heard


ALONE = Processes()
"""The one process of a run that no launcher split."""


@functools.cache
def joined() -> Processes:
    """The processes that a launcher started; they meet here first.

    Accelerate knows the launchers, their variables and each process's device.
    """
    if launched.processes() == 1:
        return ALONE
    from accelerate import PartialState
    from accelerate.utils import disable_fsdp_ram_efficient_loading, parse_flag_from_env

    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
    if launched.fsdp():  # else from_pretrained leaves all but the first process without weights, for Accelerate to send
        disable_fsdp_ram_efficient_loading()
    state = PartialState(cpu=cpu)
    group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
    processes = Processes(state.process_index, state.num_processes, str(state.device), group)
    atexit.register(processes.leave)
    return processes


def in_step(work: Callable[P, T]) -> Callable[P, T]:
    """``work`` that every process of a run does, and that ends in all of them alike; see :meth:`Processes.together`."""

    @functools.wraps(work)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        with joined().together():
            return work(*args, **kwargs)

    return wrapped


def buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Cut into lists of one dtype and device with at most :data:`BUCKET` numbers, or one tensor."""
    held: list[Tensor] = []
    for tensor in tensors:
        alike = all(tensor.dtype == t.dtype and tensor.device == t.device for t in held[:1])
        if held and not (alike and sum(t.numel() for t in held) + tensor.numel() <= BUCKET):
            yield held
            held = []
        held.append(tensor)
    if held:
        yield held
