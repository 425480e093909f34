"""TRL's side: its GRPOTrainer in its own loop, with a clock on its steps.

What it spends on generating and scoring is measured inside; the rest of a step is its update.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import LogitsProcessor, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from mmrl.trajectory import Trajectory
from sides.steps import Step

PLAIN: dict[str, Any] = {
    "loss_type": "grpo", "lr_scheduler_type": "constant", "gradient_checkpointing": False, "bf16": False,
    "use_cpu": True, "save_strategy": "no", "report_to": [], "shuffle_dataset": False, "disable_tqdm": True,
    "logging_steps": 1,
}  # fmt: skip
"""No gradient checkpointing (which would slow it down), no KL, no reference; float32."""


class Timed(GRPOTrainer):
    """Says how long a step's batches took to prepare; ``not_its_own`` are seconds that the benchmark spent in them."""

    prepared = 0.0
    not_its_own = 0.0

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        start = time.perf_counter()
        inputs = super()._prepare_inputs(generation_batch)
        self.prepared += time.perf_counter() - start
        return inputs


class Following(Timed):
    """Says, token by token, what episodes that were already run have said: both sides do the same work.

    It samples as it would; a logits processor leaves one token to choose.  Rows that have the same prompt take their
    answers in the order of the episodes, which is that of the rows.
    """

    def follow(self, episodes: Sequence[Trajectory]) -> None:
        """Follow these, in the order of the rows."""
        self.known: dict[tuple[int, ...], deque[tuple[int, ...]]] = defaultdict(deque)
        for turn in (turn for t in episodes for turn in t.turns):
            self.known[turn.prompt_ids].append(turn.token_ids)

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        answers = [self._answer(tuple(ids)) for ids in prompt_ids]
        forced = Forced(answers, self.model.config.get_text_config().vocab_size)
        generate = self.model.generate
        self.model.generate = lambda **kw: generate(**kw, logits_processor=[forced])
        self.not_its_own += time.perf_counter() - start
        try:
            said = super()._generate_single_turn(prompt_ids, *args, **kwargs)
        finally:
            del self.model.generate
        self.not_its_own += forced.seconds
        if [tuple(ids) for ids in said[0]] != answers:
            raise SystemExit("the two sides have not said the same")
        return said

    def _answer(self, prompt: tuple[int, ...]) -> tuple[int, ...]:
        if not self.known[prompt]:
            raise SystemExit("the two sides do not see the same prompts")
        return self.known[prompt].popleft()


class Forced(LogitsProcessor):
    """Leaves each row the next token of its answer to choose; a row that has ended may choose any.

    ``seconds`` is what it took.
    """

    def __init__(self, answers: Sequence[Sequence[int]], vocabulary: int) -> None:
        longest = max(map(len, answers))
        masks = torch.full((longest, len(answers), vocabulary), -torch.inf)
        for row, ids in enumerate(answers):
            masks[len(ids) :, row] = 0.0
            for at, chosen in enumerate(ids):
                masks[at, row, chosen] = 0.0
        self.masks, self.at, self.seconds = masks, 0, 0.0

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores, all but one of each row put out of reach."""
        start = time.perf_counter()
        scores += self.masks[self.at]
        self.at += 1
        self.seconds += time.perf_counter() - start
        return scores


def train(kind: type[Timed], model: Any, processing: Any, data: Dataset, options: Mapping[str, Any],
          before: Callable[[Any, int], object], **more: Any) -> tuple[list[Step], list[float]]:
    """Train, a step for each call of ``before`` (the trainer, the step's number), which is not on the clock.

    Args:
        kind: the trainer's class.
        model: what it trains.
        processing: its tokenizer or processor.
        data: with a column ``prompt``, in the order of the steps.
        options: of ``GRPOConfig``, beside ``PLAIN``.
        before: called before each step.
        more: what else the trainer takes: rewards, environments.

    Returns:
        The steps, and the norm of the gradient in each.
    """
    steps: list[Step] = []

    class Clock(TrainerCallback):
        began = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            before(trainer, len(steps))
            trainer.prepared = trainer.not_its_own = 0.0
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            whole = time.perf_counter() - self.began
            steps.append(Step(whole - trainer.not_its_own, whole - trainer.prepared))

    with tempfile.TemporaryDirectory() as folder:
        args = GRPOConfig(folder, **{**PLAIN, **options})
        trainer = kind(model, args=args, train_dataset=data, processing_class=processing, callbacks=[Clock()], **more)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return steps, [line["grad_norm"] for line in trainer.state.log_history if "grad_norm" in line]


def same_gradient(ours: float, theirs: float) -> None:
    """End without a result if the norms of the two sides' first gradient differ by more than a thousandth."""
    print(f"norm of the first gradient: ours {ours:.6f}, TRL's {theirs:.6f}", flush=True)
    if abs(ours - theirs) > 1e-3 * theirs:
        raise SystemExit("the two sides have not learned the same")
