"""A model of shapes takes the bytes of a real one, in an update and in sampling, to the byte."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learner_tools import ragged, trajectory, turn
from tiny_vlm import KINDS as VLMS
from tiny_vlm import save_tiny_vlm
from torch._subclasses.fake_tensor import FakeTensor

from mmrl.config import LoraArgs, TrainingArgs
from mmrl.image import Image
from mmrl.sample import Message, Text
from mmrl.trajectory import Trajectory
from mmrl_agents import checkpoint
from mmrl_agents.generate import Generator, Row
from mmrl_agents.image_tokens import image_tokens
from mmrl_agents.learner import Learner
from mmrl_agents.models import ModelFiles, find_model, load_processing
from mmrl_agents.run import build_model
from mmrl_agents.shadow import Shadowing, shadow_model
from mmrl_agents.tally import Tally
from mmrl_agents.transcript import Transcript
from mmrl_agents.vision import Vision

ARGS: dict[str, dict[str, Any]] = {
    "all weights": {},
    "checkpointing": {"gradient_checkpointing": True},
    "a reference, bf16": {"kl_coef": 0.1, "bf16": True},
    "LoRA, KL": {"lora": LoraArgs(r=4), "kl_coef": 0.1},
    "DoRA": {"lora": LoraArgs(r=4, dora=True)},
    "GaLore, two iterations": {"optim": "galore_adamw", "num_iterations": 2},
}
MAKERS: tuple[tuple[Callable[..., Any], Callable[[], AbstractContextManager[Any]]], ...] = (
    (build_model, nullcontext), (shadow_model, Shadowing),
)  # fmt: skip


def bytes_of(files: ModelFiles, args: TrainingArgs, trajectories: list[Trajectory], rows: list[Row]) -> list[list[int]]:
    """What the first and second update and sampling take: of a real model, and of its shadow."""
    out: list[list[int]] = []
    for make, frame in MAKERS:
        tokens = image_tokens(load_processing(files))  # it keeps what it has processed
        model, reference = make(files, args)
        with frame():
            vision = None if tokens is None else Vision(model, tokens)
            learner, seen = Learner(model, args, 1.0, 10, reference, vision=vision), list[int]()
            for _ in range(2):
                with Tally() as tally:
                    learner.update(trajectories, [1.0 - 2 * (i % 2) for i in range(len(trajectories))])
                seen += [tally.peak, tally.live]
            generator = Generator(model, (), 1.0, vision)
            with Tally() as tally:
                generator.sample(rows)
            out.append([*seen, tally.peak, tally.live])
    return out


@pytest.mark.parametrize("kind", ARGS)
def test_a_shadow_takes_the_bytes_of_its_model(tiny: Path, kind: str) -> None:
    args = TrainingArgs(learning_rate=1e-3, per_device_train_batch_size=3, **ARGS[kind])
    rows = [Row(f"{i}", (*range(10, 40), 50 + i // 2), (i,), 6) for i in range(6)]
    real, shadow = bytes_of(find_model(str(tiny)), args, ragged(6), rows)
    assert shadow == real
    assert min(real[0], real[2], real[4]) > 10_000


def pictures(files: ModelFiles) -> tuple[list[Trajectory], list[Row]]:
    processing = load_processing(files)
    transcript = Transcript(processing, (1,))
    prompts = []
    for i in range(3):
        image = Image(np.full((24, 40, 3), 60 * i, dtype=np.uint8))
        prompts.append((transcript.prompt([Message("user", (image, Text("what is it?" + "?" * i)))]), image))
    turns = [turn(ids, range(70, 74 + i)) for i, (ids, _) in enumerate(prompts)]
    shown = [dataclasses.replace(t, images=(image,)) for t, (_, image) in zip(turns, prompts, strict=True)]
    rows = [Row(f"{i}", ids, (i,), 4, (image,)) for i, (ids, image) in enumerate(prompts)]
    return [trajectory(f"t{i}", [t]) for i, t in enumerate(shown)], rows


@pytest.mark.parametrize("kind", VLMS)
@pytest.mark.parametrize("freeze", [True, False])
def test_a_shadow_sees(tmp_path: Path, kind: str, freeze: bool) -> None:
    files = find_model(str(save_tiny_vlm(kind, tmp_path / "vlm")))
    trajectories, rows = pictures(files)
    real, shadow = bytes_of(files, TrainingArgs(freeze_vision=freeze), trajectories, rows)
    assert shadow == real


def test_a_shadow_of_an_adapter_and_its_frozen_copy(tiny: Path, tmp_path: Path) -> None:
    args = TrainingArgs(lora=LoraArgs(r=4), kl_coef=0.1)
    checkpoint.save_policy(tmp_path / "p", build_model(find_model(str(tiny)), args)[0],
                           load_processing(find_model(str(tiny))))  # fmt: skip
    rows = [Row("a", tuple(range(10, 40)), (0,), 6)]
    real, shadow = bytes_of(find_model(str(tmp_path / "p")), args, ragged(4), rows)
    assert shadow == real


def test_a_shadow_has_no_values_and_its_tied_weights_are_one(tiny: Path) -> None:
    model, reference = shadow_model(find_model(str(tiny)), TrainingArgs(kl_coef=0.1))
    assert all(isinstance(t, FakeTensor) for t in [*model.parameters(), *model.buffers()])
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert reference is not None
    with reference() as other:
        assert other is not model
        assert all(isinstance(t, FakeTensor) for t in other.parameters())
    assert [tuple(p.shape) for p in model.parameters()] == [
        tuple(p.shape) for p in build_model(find_model(str(tiny)), TrainingArgs())[0].parameters()
    ]


def test_real_tensors_keep_their_answers() -> None:
    with Shadowing():
        values = torch.tensor([0.0, 3.0])
        assert [values.tolist(), float(values[1]), bool(values[0]), torch.equal(values, values.clone())] == [
            [0.0, 3.0], 3.0, False, True,
        ]  # fmt: skip
        assert values[values > 1].tolist() == [3.0]
