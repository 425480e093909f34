"""A run: everything that training needs, made from a config, new or resumed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mmrl.config import Config
from mmrl.config_load import LoadedConfig, dump_config
from mmrl.errors import BadInput
from mmrl.load import RUN_POLICIES
from mmrl.outage import Outage
from mmrl.read_only_store import ReadOnlyStore
from mmrl.report import Reporter
from mmrl.run_state import newest
from mmrl.store import RunStore
from mmrl.table_rows import rows_said
from mmrl.training_args import LoraArgs, TrainingArgs
from mmrl.turn_cap import largest
from mmrl_agents import checkpoint
from mmrl_agents.alarms import Alarms
from mmrl_agents.check_processes import check_processes
from mmrl_agents.checkpoint import Progress
from mmrl_agents.credit import METHODS, find_method
from mmrl_agents.critic import Critic
from mmrl_agents.decoder import base_of, language_parameters
from mmrl_agents.forward import Forward, check_compiler, check_offload
from mmrl_agents.host_memory import give_back_freed
from mmrl_agents.image_tokens import image_tokens
from mmrl_agents.learner import Learner
from mmrl_agents.loss_type import find_loss
from mmrl_agents.models import ModelFiles, find_model, load_model, load_processing, sees
from mmrl_agents.optimizers import check_optimizer
from mmrl_agents.precision import FLOAT32, Precision, check_precision, decide, measure
from mmrl_agents.processes import ALONE, Processes, joined
from mmrl_agents.reference import Reference, adapter_copy, adapter_off, frozen_copy
from mmrl_agents.same_run import check_same_config, check_same_model
from mmrl_agents.shards import WHOLE, Shards, sharded, whole_weights
from mmrl_agents.sharing import Sharing
from mmrl_agents.twin import Weights
from mmrl_agents.unread import check_unread, refuse_unread
from mmrl_agents.vision import Vision

STEP_FILE = "mmrl_step.json"
DR_GRPO_TURNS = 16
"""Turns that the constant token budget of the normaliser ``dr_grpo`` counts where ``rollout.max_turns`` is not set."""


@dataclass
class Run:
    """What a training loop works with; ``progress``, the newest ``metrics`` and ``earlier`` are replaced as it goes.

    ``earlier`` holds what learned in earlier versions of the policy, by version, where batches that are sampled with
    them are still to be learned from.
    """

    loaded: LoadedConfig
    store: RunStore
    model: Any
    processing: Any
    learner: Learner
    reporter: Reporter
    progress: Progress
    precision: Precision = FLOAT32
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    alarms: Alarms = field(default_factory=Alarms)
    outage: Outage = field(default_factory=Outage)
    processes: Processes = ALONE
    shards: Shards = WHOLE
    vision: Vision | None = None
    earlier: Mapping[int, Weights] = field(default_factory=dict[int, Weights])

    @property
    def config(self) -> Config:
        """The run's configuration."""
        return self.loaded.config

    def warn(self, metrics: Mapping[str, float]) -> None:
        """Say what a new step's metrics give cause to fear."""
        for line in self.alarms.note(metrics):
            self.reporter.say(line)

    def stopping(self) -> bool:
        """Whether the run was asked to end after the step in progress, in any of its processes; all must ask."""
        return any(self.processes.exchange(self.reporter.stopping))


def check_names(loaded: LoadedConfig) -> None:
    """Check the learner's own names (loss, advantage, model), and that what is set is read.

    Raises:
        BadInput: naming the key, its place and the nearest right name.
    """
    args = loaded.config.training_args
    find_loss(args.loss_type, args.normaliser, loaded.where("training_args", "loss_type"))
    check_unread(loaded)
    check_credit(loaded)
    check_optimizer(loaded)
    check_processes(loaded)
    check_precision(loaded)
    files = find_model(loaded.config.model_id, loaded.where("model_id"))
    if files.adapter is not None and args.lora is None:
        raise BadInput(f"{loaded.where('model_id')}: model '{files.name}' is a LoRA adapter; "
                       "set training_args.lora to go on training it")  # fmt: skip
    check_offload(loaded)
    check_compiler(loaded)  # last, since it compiles


def check_credit(loaded: LoadedConfig) -> None:
    """Check the advantage, and the keys that only some advantages read.

    Raises:
        BadInput: naming the key, its place and what would be right.
    """
    args = loaded.config.training_args
    method = find_method(args.advantage, loaded.where("training_args", "advantage"))
    if method.groups and args.num_generations < 2:
        raise BadInput(f"{loaded.where('training_args', 'num_generations')}: advantage '{args.advantage}' compares the "
                       "episodes of a task; num_generations must be 2 or more, not 1")  # fmt: skip
    refuse_unread(loaded, "advantage", args.advantage, method.keys, {name: m.keys for name, m in METHODS.items()})
    check_kl(loaded)


def check_kl(loaded: LoadedConfig) -> None:
    """Check the keys of KL that is taken off the reward.

    Raises:
        BadInput: naming the key, its place and what would be right.
    """
    args = loaded.config.training_args
    if args.kl_in != "reward":
        return
    if args.kl_coef == 0:
        raise BadInput(f"{loaded.where('training_args', 'kl_in')}: kl_in 'reward' takes kl_coef times KL off the "
                       "reward, and kl_coef is 0; set training_args.kl_coef, or leave kl_in out")  # fmt: skip
    if args.kl_estimator in ("k2", "rho_k3"):
        raise BadInput(f"{loaded.where('training_args', 'kl_estimator')}: kl_in 'reward' reads 'k1', not "
                       f"'{args.kl_estimator}', which is for the loss; leave kl_estimator out")  # fmt: skip


def open_run(loaded: LoadedConfig, resume: bool, reporter: Reporter, total_steps: int, refers: bool = False) -> Run:
    """Make or reopen the run's folder, load the model, and take up the last checkpoint if there is one.

    ``refers``: load the reference policy, whatever ``kl_coef``.

    Raises:
        BadInput: if the folder exists (without ``resume``), is none of a run, or belongs to another config.
    """
    config, processes = loaded.config, joined()
    store = open_store(loaded, resume, reporter, processes)
    torch.manual_seed(config.training_args.seed)
    files = find_model(config.model_id, loaded.where("model_id"))
    processing = load_processing(files)
    done = store.checkpoints()
    if done:
        check_same_model(done[-1][1], files)
    model, reference = build_model(files, config.training_args, refers, processes.device)
    give_back_freed(model)
    budget = config.rollout.max_new_tokens * (largest(config.rollout.max_turns) or DR_GRPO_TURNS)
    tokens = image_tokens(processing)
    vision = None if tokens is None else Vision(model, tokens)
    where = loaded.where("training_args", "advantage")
    critic = Critic.of(model, vision is not None, where) if find_method(config.training_args.advantage).critic else None
    sharing = Sharing(config.training_args.prefix_sharing, reporter.say)
    if done:
        checkpoint.restore_policy(done[-1][1], model)
    args, temperature = config.training_args, config.rollout.temperature
    precision = processes.of_first(
        decide(loaded.output_dir, args.mixed_precision, lambda: measure(model, temperature, vision), reporter.say)
        if processes.first else FLOAT32
    )  # fmt: skip
    shards = sharded(processes, model, reference)
    forward = Forward(args.torch_compile, precision.update, args.offload_activations)
    learner = Learner(model, args, temperature, total_steps, reference, budget, vision, critic, sharing, forward,
                      processes, shards)  # fmt: skip
    count = len(config.environments)
    start = Progress(cursor=(0,) * count, success=(None,) * count)
    run = Run(loaded, store, model, processing, learner, reporter, start, precision, processes=processes, shards=shards,
              vision=vision)  # fmt: skip
    if done:
        step, folder = done[-1]
        checkpoint.restore_learner(folder, learner)
        run.progress, run.earlier = checkpoint.load_progress(folder), checkpoint.load_earlier(folder)
        reporter.say(f"resuming after step {step}")
    store.rewind(run.progress.step)
    if processes.first:
        drop_future(store, run.progress.step)
    processes.wait()
    for line in store.metrics():
        run.metrics = newest(run.metrics, line)
        run.alarms.note(line)
    if rows := rows_said(config):
        reporter.say(rows)
    return run


def open_store(loaded: LoadedConfig, resume: bool, reporter: Reporter, processes: Processes) -> RunStore:
    """Make or reopen the run's folder: the first process to write in it, the others to read.

    Raises:
        BadInput: if the folder exists (without ``resume``), is none of a run, or belongs to another config.
    """
    out, text = loaded.output_dir, dump_config(loaded.config)
    if not processes.first:
        processes.wait()
        return ReadOnlyStore(out)
    if resume and (out / "config.yaml").is_file():
        check_same_config(loaded)
        store = RunStore.open(out)
    else:
        if resume:
            reporter.say(f"nothing to resume in {out}; starting anew")
        store = RunStore.create(out, text)
    processes.wait()
    return store


def dtype_of(args: TrainingArgs) -> str:
    """The type of the weights of a run's model."""
    return "bfloat16" if args.bf16 else "float32"


def build_model(files: ModelFiles, args: TrainingArgs, refers: bool = False,
                device: str | None = None) -> tuple[Any, Reference | None]:
    """Load the model to train, with its adapter, and the reference if the KL term, or the learner, needs one."""
    model = load_model(files, dtype_of(args), device, trainable=True, four_bit=args.load_in_4bit)
    return fit_out(model, files, args, refers)


def fit_out(model: Any, files: ModelFiles, args: TrainingArgs, refers: bool = False) -> tuple[Any, Reference | None]:
    """Make a model ready to train as ``args`` say: what of it learns, its adapter, checkpointing, the reference."""
    if args.freeze_vision and args.lora is None and sees(files):  # under an adapter all base weights are frozen
        freeze_vision(model)
    needs_reference = refers or args.kl_coef > 0
    reference: Reference | None = None
    if files.adapter is not None:
        reference = adapter_copy(model, files.adapter) if needs_reference else None
    elif args.lora is not None:
        model = add_adapter(model, args.lora, files)
        reference = adapter_off(model) if needs_reference else None
    elif needs_reference:
        reference = frozen_copy(model)
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    return model, reference


def freeze_vision(model: Any) -> None:
    """Train none of the weights between a vision-language model's pixels and its features."""
    base = base_of(model)
    language = {id(p) for p in language_parameters(base)}
    for parameter in base.parameters():
        if id(parameter) not in language:
            parameter.requires_grad_(False)


def add_adapter(model: Any, lora: LoraArgs, files: ModelFiles) -> Any:
    """Put a fresh LoRA adapter on a model; its product starts at 0.  Only ``vision`` puts it on a vision tower too."""
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(
        model,
        LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=lora.target_modules,
            exclude_modules=None if lora.vision else outside_decoder(model),
            use_rslora=lora.rslora,
            use_dora=lora.dora,
            task_type="CAUSAL_LM",
        ),
    )
    # The name as the user wrote it stays right when the run is moved to another machine.
    wrapped.peft_config["default"].base_model_name_or_path = files.name
    return wrapped


def outside_decoder(model: Any) -> str | None:
    """A pattern of the modules that are not the decoder's; None where the decoder is all that there is."""
    decoder = model.get_decoder()
    name = next(n for n, module in model.named_modules() if module is decoder)
    others = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and not n.startswith(f"{name}.")]
    head = model.get_output_embeddings()
    if not name or all(model.get_submodule(n) is head for n in others):
        return None
    return rf"(?!{re.escape(name)}\.).*"


def save_checkpoint(run: Run) -> None:
    """Write a checkpoint of the run as it stands; all of its processes must come here."""
    weights, learning, step = whole_weights(run.model), run.learner.state_dict(), run.progress.step
    ahead = range(step - run.config.rollout.async_steps, step)  # the versions that the next batches are sampled with
    earlier = {n: w for n, w in run.earlier.items() if n in ahead}
    run.store.checkpoint(
        step,
        lambda folder: checkpoint.save(folder, run.model, run.processing, learning, run.progress, weights, earlier),
        keep=run.config.training_args.save_total_limit,
    )


def publish(run: Run, name: str) -> None:
    """Write the policy as it stands, and its step, to ``warm/``, ``best/`` or ``final/``; all processes must come."""
    weights = whole_weights(run.model)

    def write(folder: Path) -> None:
        checkpoint.save_policy(folder, run.model, run.processing, weights)
        (folder / STEP_FILE).write_text(json.dumps({"step": run.progress.step}))

    run.store.publish(name, write)


def drop_future(store: RunStore, step: int) -> None:
    """Remove a ``best/`` or ``final/`` of a later step than the run now stands at: it will be made again."""
    for name in RUN_POLICIES:
        marker = store.root / name / STEP_FILE
        if marker.is_file() and json.loads(marker.read_text())["step"] > step:
            shutil.rmtree(marker.parent)
