"""A training step of GRPO on questions about pictures against TRL's GRPOTrainer: the whole step, and the update alone.

mmrl/tiny-vlm (LLaVA, 3.3 million weights) in float32, its vision tower frozen on both sides, and vqa/shapes: one
picture of 49 tokens and a question, 58 or 59 tokens in all, answers of a word.  8 questions a step with 8 answers each,
64 rows, as in configs/vqa_dataset.yaml.  TRL has all of them in one pass.

Both sides do the same work: ours goes first and samples as always; TRL samples in its own loop, held to the same
tokens by a logits processor, whose time is taken off.  The prompts' tokens, the answers' tokens and (within a
thousandth) the norm of the first step's gradient are compared; if they differ there is no result.  Rewards are trivial
on both sides.  Peak memory is that of a process of its own for each side, with the libraries of both, after three
steps, in which TRL samples as it will.  Prints medians, and appends them to RESULTS.md.

    python benchmarks/vlm_trl.py [--repeats 20] [--dry-run]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from sides.ours import GROUP, Ours, Work, model_and_processing
from sides.peak import STEPS, alone, compare_peaks
from sides.steps import arguments, compare
from sides.trl import Following, Timed, same_gradient, train

import mmrl
from mmrl.make import make
from mmrl.sample import Text, images_of, text_of

TARGET = 3.0
WORK = Work("mmrl/tiny-vlm", "vqa/shapes", "benchmark_worth", tasks=8, turns=1, answer=4, rate=1e-5,
            kwargs={"image_size": 56, "kinds": ["existence", "colour", "shape"]})  # fmt: skip


def worth(ids: Sequence[int]) -> float:
    """A reward with spread, for any answers."""
    return float(sum(ids) % 97)


@mmrl.reward_plugin
def benchmark_worth(trajectory: mmrl.Trajectory) -> float:
    return worth(trajectory.turns[-1].token_ids)


def reward(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
    return [worth(ids) for ids in completion_ids]


def questions(steps: int) -> Dataset:
    """The questions of the steps, with their pictures, as TRL takes them."""
    rows: list[dict[str, Any]] = []
    env = make(WORK.env, **WORK.kwargs)
    for seed in (seed for n in range(steps) for seed in WORK.seeds(n)):
        (message,) = env.reset(seed=seed)[1]["sample"].messages
        (image,) = images_of(message.content)
        assert [isinstance(part, Text) for part in message.content] == [False, True]
        rows.append({"prompt": [{"role": "user", "content": text_of(message.content)}], "image": image.to_pil()})
    return Dataset.from_list(rows)


OPTIONS = {"per_device_train_batch_size": WORK.tasks * GROUP, "num_generations": GROUP,
           "max_completion_length": WORK.answer, "learning_rate": WORK.rate}  # fmt: skip


def theirs_alone() -> None:
    """TRL, which samples what it will."""
    model, processing = model_and_processing(WORK)
    train(Timed, model, processing, questions(STEPS), {**OPTIONS, "max_steps": STEPS}, lambda *_: None,
          reward_funcs=reward)  # fmt: skip


def main() -> int:
    """Measure; exit code 1 below the target."""
    args = arguments(__doc__, 20).parse_args()
    if args.memory:
        return alone({"ours": lambda: Ours(WORK).steps(STEPS), "trl": theirs_alone}[args.memory])
    ours, mine, norms = Ours(WORK), [], []

    def before(trainer: Following, number: int) -> None:
        mine.append(ours.step(number))
        norms.append(ours.grad_norm)
        trainer.follow(ours.episodes)

    model, processing = model_and_processing(WORK)
    options = {**OPTIONS, "max_steps": args.repeats + 1}
    theirs, their_norms = train(Following, model, processing, questions(args.repeats + 1), options, before,
                                reward_funcs=reward)  # fmt: skip
    same_gradient(norms[0], their_norms[0])
    name = f"mmrl/tiny-vlm, {WORK.tasks} questions on a picture each, {GROUP} answers of a word"
    ratios = compare(name, mine[1:], theirs[1:], not args.dry_run)
    compare_peaks(name, __file__, not args.dry_run)
    return 0 if ratios["whole"] >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
