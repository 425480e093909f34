"""What can be wrong with many processes before they meet: found in one line, before a model loads."""

from __future__ import annotations

from mmrl import launched
from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput


def check_processes(loaded: LoadedConfig) -> None:
    """Check that the run can be shared out to the processes that the launcher starts.

    Raises:
        BadInput: naming the launcher's option, or the key and its place, and what would be right.
    """
    if (why := launched.refused()) is not None:
        raise BadInput(f"the launcher asks for {why}")
    count = launched.processes()
    if count > 1:
        check_batch(loaded, count)
    if count > 1 and launched.fsdp():
        check_sharded(loaded)


def check_batch(loaded: LoadedConfig, count: int) -> None:
    """Check that a step's trajectories divide over ``count`` processes.

    Raises:
        BadInput: naming the key and the nearest right values.
    """
    args = loaded.config.training_args
    rows, steps = args.per_device_train_batch_size, args.gradient_accumulation_steps
    if rows * steps % count == 0:
        return
    group = args.num_generations if loaded.config.train_type in ("GRPO", "PPO") else 1
    right = [n for n in range(1, steps + count * group + 1) if rows * n % count == 0 and rows * n % group == 0]
    below, above = max((n for n in right if n < steps), default=None), min(n for n in right if n > steps)
    near = " or ".join(f"{n} ({rows * n})" for n in (below, above) if n is not None)
    raise BadInput(f"{loaded.where('training_args', 'gradient_accumulation_steps')}: the {rows} * {steps} = "
                   f"{rows * steps} trajectories of a step do not divide over {count} processes; set "
                   f"training_args.gradient_accumulation_steps to {near}")  # fmt: skip


def check_sharded(loaded: LoadedConfig) -> None:
    """Refuse what cannot be had while weights are cut over the processes.

    Raises:
        BadInput: naming the key, its place and what would be right.
    """
    args = loaded.config.training_args
    wrong = {
        ("training_args", "load_in_4bit"): (args.load_in_4bit, "4-bit weights cannot be cut; leave it out"),
        ("training_args", "optim"): (args.optim != "adamw", f"optim '{args.optim}' needs whole weights; take 'adamw'"),
        ("training_args", "freeze_vision"): (not args.freeze_vision and args.lora is None,
                                             "a vision tower that learns needs images in every pass; leave it out"),
        ("training_args", "lora", "vision"): (args.lora is not None and args.lora.vision,
                                              "a vision tower that learns needs images in every pass; leave it out"),
    }  # fmt: skip
    for key, (given, why) in wrong.items():
        if given:
            raise BadInput(f"{loaded.where(*key)}: with FSDP {'.'.join(key)}: {why}, or launch without --use_fsdp")
