"""A training step of GRPO against TRL's GRPOTrainer: the update alone, the whole step, and peak memory.

SmolLM2-135M in float32, all weights, 8 answers of a forced length to each prompt, at two sizes: long prompts with short
answers (four prompts a step, and one), and a short prompt with long ones.  TRL runs its own loop as it is, without
gradient checkpointing (which would slow it down), KL or reference, ``--rows`` rows in one pass, all rows of a step
sampled at once; what it spends on generating and scoring is measured inside, the rest of its step is its update:
loss, backward passes, clipping, optimiser.  (32 rows in one pass were slower than 8: 93 s against 71 s.)  Ours takes
the same prompts before each of TRL's steps, on a model of its own, and as many rows in a pass as 4096 tokens allow,
which are all of a step.  Rewards are trivial on both sides.  Peak memory is that of a process of its own for each side,
after the same steps.  Prints medians, and appends them to RESULTS.md.

    python benchmarks/update_trl.py [--repeats 5] [--cases 4x300/16 300/16 64/256] [--rows 8] [--dry-run]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sides.peak import STEPS, alone, compare_peaks
from sides.steps import Step, arguments, compare

import mmrl
import mmrl_agents  # noqa: F401 - before torch: it says how waiting threads wait
from mmrl.training_args import TrainingArgs
from mmrl_agents.advantage import grpo
from mmrl_agents.generate import Generator, Row
from mmrl_agents.learner import Learner
from mmrl_agents.models import find_model, load_model
from mmrl_agents.sharing import Sharing

MODEL = Path(__file__).resolve().parents[1] / ".cache" / "models" / "SmolLM2-135M-Instruct"
GROUP, RATE = 8, 1e-6
TOKENS = 4096
"""Of one pass of ours, at most."""


@dataclass(frozen=True)
class Case:
    """A size, and how many times as fast in the step and the update, and as small, ours is to be at least.

    With one prompt a step sampling is more of it (1.8 of 4.2 s, with four prompts 4.4 of 12.5), and the step was
    5.9, 6.1 and 6.8 times as fast in three runs: what is asked, give or take noise.
    """

    prompts: int
    prompt: int
    answer: int
    step: float
    update: float
    smaller: float

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.prompts} x {self.prompt}-token prompt, {GROUP} answers of {self.answer} each"


CASES = {
    "4x300/16": Case(4, 300, 16, 6.0, 5.0, 1 / 0.7),
    "300/16": Case(1, 300, 16, 6.0, 5.0, 1 / 0.7),
    "64/256": Case(1, 64, 256, 1.0, 1.0, 1.0),
}

Prompt = tuple[str, list[int]]


def prompts(case: Case, steps: int) -> list[list[Prompt]]:
    """A step's prompts, as text and as ids: random words of one token each, so that answers are unlike each other."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    words = sorted(w for w in tokenizer.get_vocab() if w[0] == "\u0120" and w[1:].isascii() and w[1:].isalpha())
    drawn = np.random.default_rng(0).integers(len(words), size=(steps * case.prompts, case.prompt)).tolist()
    texts = ["".join(f" {words[i][1:]}" for i in row) for row in drawn]
    encoded: list[list[int]] = tokenizer(texts)["input_ids"]
    if {len(ids) for ids in encoded} != {case.prompt}:
        raise SystemExit("a prompt is not of the length that is measured")
    every = list(zip(texts, encoded, strict=True))
    return [every[at : at + case.prompts] for at in range(0, len(every), case.prompts)]


def worth(ids: Sequence[int]) -> float:
    """A reward with spread, for any answers."""
    return float(sum(ids) % 97)


class Ours:
    """The sampler, the advantages and the learner of mmrl."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.model = load_model(find_model(str(MODEL)), device="cpu")
        args = TrainingArgs(learning_rate=RATE, per_device_train_batch_size=GROUP * case.prompts,
                            num_generations=GROUP, max_tokens_per_micro_batch=TOKENS)  # fmt: skip
        self.generator = Generator(self.model, (), 1.0)
        self.learner = Learner(self.model, args, 1.0, 1000, sharing=Sharing(True, print))

    def step(self, number: int, asked: Sequence[Prompt]) -> Step:
        """Sample, compare, update."""
        start = time.perf_counter()
        rows = [Row(f"{number}-{p}-{i}", tuple(ids), (number, p, i), self.case.answer)
                for p, (_, ids) in enumerate(asked) for i in range(GROUP)]  # fmt: skip
        sampled = self.generator.sample(rows)
        trajectories = [
            mmrl.Trajectory(row.episode, "bench", number, "g", mmrl.Sample("s", ()),
                            (mmrl.Turn((), "", row.prompt, s.ids, s.logprobs),), True, False)
            for row, s in zip(rows, sampled, strict=True)
        ]  # fmt: skip
        import torch

        groups = torch.tensor([worth(s.ids) for s in sampled]).split(GROUP)
        advantages = torch.cat([grpo(rewards, torch.ones(GROUP, dtype=torch.bool)) for rewards in groups]).tolist()
        began = time.perf_counter()
        metrics = self.learner.update(trajectories, advantages)
        self.generator.forget()
        end = time.perf_counter()
        if "update/skipped" in metrics:
            raise SystemExit("the rewards have no spread: nothing was learned")
        return Step(end - start, end - began)


def trl(case: Case, rows: int, texts: Sequence[str], before: Callable[[int], object]) -> list[Step]:
    """Train with TRL, so many rows in one pass; ``before`` is called before each step."""
    from datasets import Dataset  # here: the peak memory of our side is without them
    from sides.trl import Timed, train
    from transformers import AutoTokenizer

    def reward(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        if {len(ids) for ids in completion_ids} != {case.answer}:
            raise SystemExit("an answer is not of the length that is measured")
        return [worth(ids) for ids in completion_ids]

    options = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": case.prompts * GROUP // rows,
               "num_generations": GROUP, "max_steps": len(texts) // case.prompts,
               "max_completion_length": case.answer, "generation_kwargs": {"min_new_tokens": case.answer},
               "learning_rate": RATE}  # fmt: skip
    model, tokenizer = load_model(find_model(str(MODEL)), device="cpu"), AutoTokenizer.from_pretrained(MODEL)
    return train(Timed, model, tokenizer, Dataset.from_dict({"prompt": list(texts)}), options,
                 lambda _, number: before(number), reward_funcs=reward)[0]  # fmt: skip


def both(case: Case, rows: int, repeats: int) -> tuple[list[Step], list[Step]]:
    """Steps of ours and of TRL's in turns; the first of each is not counted."""
    asked = prompts(case, repeats + 1)
    ours, mine = Ours(case), list[Step]()
    texts = [text for step in asked for text, _ in step]
    theirs = trl(case, rows, texts, lambda n: mine.append(ours.step(n, asked[n])))
    return mine[1:], theirs[1:]


def mine_alone(case: Case) -> None:
    ours = Ours(case)
    for n, step in enumerate(prompts(case, STEPS)):
        ours.step(n, step)


def theirs_alone(case: Case, rows: int) -> None:
    trl(case, rows, [text for step in prompts(case, STEPS) for text, _ in step], lambda n: None)


def measure(name: str, rows: int, repeats: int, keep: bool) -> bool:
    """Whether ours is as fast and as small as it is to be."""
    case = CASES[name]
    mine, theirs = both(case, rows, repeats)
    ratios = compare(f"SmolLM2-135M, {case.name}", mine, theirs, keep)
    smaller = compare_peaks(f"SmolLM2-135M, {case.name}", __file__, keep, "--cases", name, "--rows", str(rows))
    return ratios["whole"] >= case.step and ratios["update"] >= case.update and smaller >= case.smaller


def main() -> int:
    """Measure every case; exit code 1 if one is below its targets."""
    parser = arguments(__doc__, 5)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--rows", type=int, default=GROUP, help="in one pass of TRL's update")
    args = parser.parse_args()
    if not (MODEL / "config.json").is_file():
        raise SystemExit(f"no model in {MODEL}: run make models")
    if args.memory:
        case = CASES[args.cases[0]]
        return alone({"ours": lambda: mine_alone(case), "trl": lambda: theirs_alone(case, args.rows)}[args.memory])
    return 0 if all([measure(name, args.rows, args.repeats, not args.dry_run) for name in args.cases]) else 1


if __name__ == "__main__":
    sys.exit(main())
