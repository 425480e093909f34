"""What a launcher (``accelerate launch``, ``torchrun``, ``mpirun``) says of this process; a plain start is one of one.

Comes in: the environment.  Goes out: numbers; nothing is joined or imported.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

COUNT = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
LOCAL = ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK")
"""The names of torchrun, MPICH and Intel MPI, Open MPI and MVAPICH: those that Accelerate reads."""


def processes() -> int:
    """How many processes run together, at least 1.

    A number of processes alone says nothing: clusters set it in every shell.
    """
    return max(1, _first(COUNT, 1)) if _first(LOCAL, -1) >= 0 else 1


def is_first() -> bool:
    """Whether this is the first of them: the one that writes and speaks."""
    return processes() == 1 or _first(RANK, 0) == 0


def is_first_here() -> bool:
    """Whether this is the first of them on its machine, which says what is wrong there."""
    return processes() == 1 or _first(LOCAL, 0) == 0


def fsdp() -> bool:
    """Whether the launcher asks that weights be cut over the processes (``accelerate launch --use_fsdp``)."""
    return _flag("ACCELERATE_USE_FSDP")


def refused() -> str | None:
    """What the launcher asks for and no run of many processes does, and what to do instead; None: nothing."""
    asked = {
        "--use_deepspeed: mmrl cuts weights over processes by FSDP2; take --use_fsdp --fsdp_version 2":
            _flag("ACCELERATE_USE_DEEPSPEED"),
        "FSDP version 1: mmrl knows version 2; add --fsdp_version 2": fsdp() and _word("FSDP_VERSION", "1") != "2",
        "--fsdp_offload_params: weights stay on the devices; leave it out": fsdp() and _flag("FSDP_OFFLOAD_PARAMS"),
        "--fsdp_activation_checkpointing: set training_args.gradient_checkpointing instead":
            fsdp() and _flag("FSDP_ACTIVATION_CHECKPOINTING"),
        "--mixed_precision: a run's number type is that of its training_args; leave it out, or set it to no":
            _word("ACCELERATE_MIXED_PRECISION", "no") != "no",
        "one process where more were asked for (on CPUs --cpu needs mpirun and --mpirun_hostfile); take --multi_gpu "
        "in the place of --cpu, which does without GPUs too, or torchrun --nproc-per-node N":
            _flag("ACCELERATE_USE_CPU") and "MASTER_ADDR" in os.environ and processes() == 1,
    }  # fmt: skip
    return next((what for what, given in asked.items() if given), None)


def _flag(name: str) -> bool:
    return _word(name, "false") in ("true", "1", "yes", "on")


def _word(name: str, otherwise: str) -> str:
    return os.environ.get(name, otherwise).strip().lower()


def _first(names: Sequence[str], otherwise: int) -> int:
    return next((int(value) for name in names if (value := os.environ.get(name, "")).isdigit()), otherwise)
