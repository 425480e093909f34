"""The precision of a run's products: float32, bfloat16, or whichever is faster here.

Comes in: a model on its device.  Goes out: a :class:`Precision` for the update and for sampling, measured once at the
start of a run and kept in its folder, so that a resumed run takes the same.  Weights, gradients and the optimiser's
state stay float32: under autocast only products are made in bfloat16.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.files import atomic_write
from mmrl_agents.decoder import evaluating
from mmrl_agents.feed import Feed
from mmrl_agents.forward import Forward
from mmrl_agents.generate import Generator, Row
from mmrl_agents.logprobs import Scorer
from mmrl_agents.models import context_of
from mmrl_agents.vision import Vision

FILE = "precision.json"
GAIN = 1.1
"""How many times as fast bfloat16 must be to be taken."""
MISMATCH = 0.01
"""Divergence between sampler and update, in nats a token, up to which the two may differ in precision."""
ROWS, PROMPT, ANSWER = 8, 64, 16
"""The batch that is measured: rows, tokens before each answer, tokens of it."""
ROUNDS = 3


@dataclass(frozen=True)
class Precision:
    """Where products are in bfloat16.

    Attributes:
        update: in the update, the reference's and the old log-probabilities included.
        sample: in sampling and evaluation.
    """

    update: bool = False
    sample: bool = False


FLOAT32, BFLOAT16 = Precision(), Precision(True, True)


@dataclass(frozen=True)
class Measured:
    """What a device was found to take.

    Attributes:
        update: seconds of a forward and backward pass in (float32, bfloat16).
        sample: seconds of sampling in (float32, bfloat16).
        mismatch: mean of ``w - log w - 1`` over tokens, with w = pi/mu between a policy in float32 and a sampler in
            bfloat16: about what a sampler unlike its learner diverges by, in nats.
    """

    update: tuple[float, float]
    sample: tuple[float, float]
    mismatch: float


def choose(measured: Measured) -> Precision:
    """The faster precision for each use; one for both, the faster in all, if sampler and learner would disagree."""
    update, sample = (pair[0] >= GAIN * pair[1] for pair in (measured.update, measured.sample))
    if update != sample and not measured.mismatch <= MISMATCH:
        whole = [measured.update[i] + measured.sample[i] for i in (0, 1)]
        update = sample = whole[0] >= GAIN * whole[1]
    return Precision(update, sample)


def said(chosen: Precision, measured: Measured) -> str:
    """A choice in a line, with what it was made by."""

    def part(name: str, bfloat16: bool, pair: tuple[float, float]) -> str:
        kind = "bfloat16" if bfloat16 else "float32"
        return f"{name} in {kind} (float32 {pair[0]:.3g} s, bfloat16 {pair[1]:.3g} s)"

    both = part("update", chosen.update, measured.update), part("sampling", chosen.sample, measured.sample)
    return f"mixed_precision: {', '.join(both)}; a sampler in bfloat16 diverges by {measured.mismatch:.1g} nats a token"


def decide(root: Path, wanted: bool | Literal["auto"], find: Callable[[], Measured],
           say: Callable[[str], None]) -> Precision:
    """The precision of a run.

    Args:
        root: the run's folder, which keeps what was chosen.
        wanted: ``training_args.mixed_precision``.
        find: measures, if the folder does not know.
        say: is told, in a line.
    """
    if wanted != "auto":
        return BFLOAT16 if wanted else FLOAT32
    if (root / FILE).is_file():
        return Precision(**json.loads((root / FILE).read_text())["chosen"])
    measured = find()
    chosen = choose(measured)
    kept = {"chosen": asdict(chosen), "measured": asdict(measured)}
    atomic_write(root / FILE, (json.dumps(kept, indent=2) + "\n").encode())
    say(said(chosen, measured))
    return chosen


def measure(model: Any, temperature: float, vision: Vision | None = None) -> Measured:
    """Time a forward and backward pass, and sampling, in both precisions; weights stay as they are."""
    with evaluating(model):
        rows = _rows(model, vision)
        answers = {kind: Generator(model, (), temperature, vision, kind) for kind in (False, True)}
        scorers = {kind: Scorer(model, temperature, vision, Forward(bfloat16=kind)) for kind in (False, True)}
        sampled = answers[True].sample(rows)
        ids = torch.tensor([[*r.prompt, *s.ids] for r, s in zip(rows, sampled, strict=True)], device=model.device)
        mask = torch.zeros_like(ids[:, 1:], dtype=torch.bool)
        mask[:, len(rows[0].prompt) - 1 :] = True
        with torch.no_grad():
            logp = scorers[False](ids, mask)[0][mask]
        mu = torch.tensor([x for s in sampled for x in s.logprobs], dtype=logp.dtype, device=logp.device)

        def update(kind: bool) -> None:
            scorers[kind](ids, mask)[0].sum().backward()
            model.zero_grad(set_to_none=True)

        def sample(kind: bool) -> None:
            answers[kind].rest()
            answers[kind].sample(rows)

        log_w = logp - mu
        return Measured(_times(update, model.device), _times(sample, model.device),
                        float((log_w.exp() - log_w - 1).mean()))  # fmt: skip


def _rows(model: Any, vision: Vision | None) -> list[Row]:
    """Rows to answer, alike but for their noise; of ids that any answer may have."""
    banned = {*Feed(vision).banned}
    known = [i for i in range(model.config.get_text_config().vocab_size) if i not in banned]
    length = min(PROMPT, context_of(model.config) - ANSWER)
    prompt = tuple(known[(7919 * i) % len(known)] for i in range(length))
    return [Row(f"measured {i}", prompt, (i,), ANSWER) for i in range(ROWS)]


def _times(work: Callable[[bool], None], device: torch.device) -> tuple[float, float]:
    """The least seconds that ``work(False)`` and ``work(True)`` took, in turns, after one each for practice."""
    best = {False: float("inf"), True: float("inf")}
    for n in range(1 + ROUNDS):
        for kind in best:
            began = time.perf_counter()
            work(kind)
            if device.type != "cpu":
                torch.accelerator.synchronize()
            if n:
                best[kind] = min(best[kind], time.perf_counter() - began)
    return best[False], best[True]


def check_precision(loaded: LoadedConfig) -> None:
    """Refuse products in bfloat16 under weights that already are.

    Raises:
        BadInput: naming the key and its place.
    """
    args = loaded.config.training_args
    if args.bf16 and args.mixed_precision:
        raise BadInput(f"{loaded.where('training_args', 'mixed_precision')}: mixed_precision keeps weights in float32, "
                       "and bf16 has them in bfloat16; leave one of them out")  # fmt: skip
