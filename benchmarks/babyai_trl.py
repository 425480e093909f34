"""A training step of GRPO on episodes of many turns against TRL's GRPOTrainer with an ``environment_factory``.

mmrl/tiny (a Llama, 2.1 million weights) in float32, all weights, and babyai/balrog-goto: 8 tasks a step with 8 episodes
each, 64 episodes of up to 20 turns, as in configs/babyai_goto.yaml.  The reward is the environment's own.

TRL acts through tool calls.  mmrl/tiny speaks in plain words, so its tokenizer gets a response template that reads a
whole answer as the argument of the one tool, and a chat template that shows a tool's answer as the user's words: the
tokens of an episode are then the same on both sides.  TRL's loop has no way for an environment to end an episode; here
a tool's answer that is longer than TRL allows ends it, at no cost for TRL.

Both sides do the same work: ours goes first and samples as always; TRL runs its own loop, its sampling held to the same
tokens by a logits processor, whose time is taken off.  Every prompt's tokens, every answer's tokens and (within a
thousandth) the norm of the first step's gradient are compared; if they differ there is no result.  Peak memory is that
of a process of its own for each side, with the libraries of both, after three steps, in which TRL samples as it will.
Prints medians, and appends them to RESULTS.md.

    python benchmarks/babyai_trl.py [--repeats 5] [--rows 8] [--dry-run]
"""

from __future__ import annotations

import re
import statistics
import sys
from typing import Any

from datasets import Dataset
from sides.ours import GROUP, Ours, Work, model_and_processing
from sides.peak import STEPS, alone, compare_peaks
from sides.steps import arguments, compare
from sides.trl import Following, Timed, same_gradient, train

import mmrl
from mmrl.make import make

TARGET = 3.0
WORK = Work("mmrl/tiny", "babyai/balrog-goto", "env_reward", tasks=8, turns=20, answer=16, rate=1e-5)
EPISODE = 2048
"""Tokens that TRL gives an episode, its prompt apart: more than any takes, and what ends one has one more."""
TEMPLATE = (
    "{% for m in messages %}<|{{ 'user' if m['role'] == 'tool' else m['role'] }}|>{{ m['content'] }}"
    "{% for call in m.get('tool_calls') or [] %}{{ call.function.name }}{{ call.function.arguments }}{% endfor %}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""mmrl/tiny's own, and tool calls written out, which TRL wants to see.  No prompt has any in it."""
ANSWER: dict[str, Any] = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|assistant|>",
    "fields": {
        "tool_calls": {
            "open_pattern": r"(?P<action>.*?)(?:<\|end\|>|\Z)",
            "repeats": True,
            "content": "text",
            "transform": {"type": "function", "function": {"name": "act", "arguments": {"action": "{action}"}}},
        }
    },
}
"""Whatever is said is a call of ``act``."""
OVER = "over"


class World:
    """An episode of the environment, as TRL's loop drives it."""

    def __init__(self) -> None:
        self._env = make(WORK.env, **WORK.kwargs)
        self._turns, self._return = 0, 0.0

    def reset(self, seed: int, **_: Any) -> None:
        """Begin; what the environment shows stands in the prompt."""
        self._env.reset(seed=seed)
        self._turns, self._return = 0, 0.0

    def act(self, action: str) -> str:
        """Do something.

        Args:
            action: what to do.
        """
        observation, reward, terminated, truncated, _ = self._env.step(re.sub(r"<\|\w+\|>", "", action))
        self._turns += 1
        self._return += float(reward)
        over = terminated or truncated or self._turns == WORK.turns
        return OVER if over else mmrl.text_of(observation)

    def get_reward(self) -> float:
        """The environment's own reward, summed."""
        return self._return


class Acting(Timed):
    """Ends an episode where its environment ends it."""

    def _get_tool_suffix_ids(self, tool_messages: Any) -> Any:
        if tool_messages[-1]["content"] == OVER:
            return [self._tokenizer.pad_token_id] * (EPISODE + 1)
        return super()._get_tool_suffix_ids(tool_messages)


class Led(Acting, Following):
    """Acts as ours has acted."""


def tasks(steps: int) -> Dataset:
    """The tasks of the steps: how each begins, and its seed."""
    rows: list[dict[str, Any]] = []
    env = make(WORK.env, **WORK.kwargs)
    for seed in (seed for n in range(steps) for seed in WORK.seeds(n)):
        messages = env.reset(seed=seed)[1]["sample"].messages
        rows.append({"prompt": [{"role": m.role, "content": m.text} for m in messages], "seed": seed})
    return Dataset.from_list(rows)


def options(rows: int, steps: int) -> dict[str, Any]:
    """TRL's, so many episodes in one pass of its update."""
    return {
        "per_device_train_batch_size": rows, "gradient_accumulation_steps": WORK.tasks * GROUP // rows,
        "num_generations": GROUP, "max_completion_length": EPISODE, "max_steps": steps,
        "learning_rate": WORK.rate, "generation_kwargs": {"max_new_tokens": WORK.answer},
    }  # fmt: skip


def peer() -> tuple[Any, Any]:
    """The model, and the tokenizer with the templates that TRL's tool calls take."""
    model, processing = model_and_processing(WORK)
    processing.chat_template, processing.response_template = TEMPLATE, ANSWER
    return model, processing


def theirs_alone(rows: int) -> None:
    """TRL, which samples what it will."""
    train(Acting, *peer(), tasks(STEPS), options(rows, STEPS), lambda *_: None, environment_factory=World)


def main() -> int:
    """Measure; exit code 1 below the target."""
    parser = arguments(__doc__, 5)
    parser.add_argument("--rows", type=int, default=GROUP, help="episodes in one pass of TRL's update (64 are slower)")
    args = parser.parse_args()
    if args.memory:
        return alone({"ours": lambda: Ours(WORK).steps(STEPS), "trl": lambda: theirs_alone(args.rows)}[args.memory])
    ours, mine, norms = Ours(WORK), [], []
    turns: list[int] = []

    def before(trainer: Following, number: int) -> None:
        mine.append(ours.step(number))
        norms.append(ours.grad_norm)
        turns.extend(len(t.turns) for t in ours.episodes)
        trainer.follow(ours.episodes)

    steps = args.repeats + 1
    theirs, their_norms = train(Led, *peer(), tasks(steps), options(args.rows, steps), before,
                                environment_factory=World)  # fmt: skip
    same_gradient(norms[0], their_norms[0])
    name = (f"mmrl/tiny, {WORK.tasks * GROUP} episodes of {WORK.env}, {statistics.mean(turns):.1f} turns each, "
            "environment_factory")  # fmt: skip
    ratios = compare(name, mine[1:], theirs[1:], not args.dry_run)
    compare_peaks(name, __file__, not args.dry_run, "--rows", str(args.rows))
    return 0 if ratios["whole"] >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
