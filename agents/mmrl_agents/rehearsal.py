"""Episodes of a run without its model: the real tasks, and answers of random tokens as long as the run allows.

Comes in: a configuration.  Goes out: the segments that a step would learn from, and how many tokens its sampler would
be fed and hold.  Real answers are shorter or as long, so that a rehearsal shows the most that a step can take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmrl.config import Config
from mmrl.episode import EpisodeLimits
from mmrl.errors import BadInput
from mmrl.image import Image
from mmrl.policy import Completion, Request
from mmrl.rollout import Scheduler, run_sync
from mmrl.trajectory import Trajectory, Turn
from mmrl.turn_cap import largest
from mmrl_agents.batch import Segment, segments_of
from mmrl_agents.generate import CACHES
from mmrl_agents.tasks import Plan, step_specs
from mmrl_agents.transcript import Transcript


@dataclass(frozen=True)
class Sampling:
    """What a sampler does at most at once.

    Attributes:
        rows: answers.
        ends: tokens of the longest row, turn after turn: its prompt, and its prompt with the answer.
        fed_rows: rows of the largest batch of new tokens; ``fed_tokens``: tokens of each.
        batches: how many batches of rows take turns and are held: those that are kept, and the one in hand.
        prompts: different prompts that the rows begin with, where an episode is one turn and several share one; else 0.
        joined: whether new episodes come to those that go on already.
        images: the different images that it sees in a step.
    """

    rows: int
    ends: tuple[tuple[int, int], ...]
    fed_rows: int
    fed_tokens: int
    batches: int = 1
    prompts: int = 0
    joined: bool = False
    images: tuple[Image, ...] = ()

    @property
    def length(self) -> int:
        """Tokens of the longest row, prompt and answers: it holds keys and values of them."""
        return max(end for pair in self.ends for end in pair)


class Stranger:
    """A policy that answers with random words up to its limit, and never ends an answer by itself.

    Args:
        transcript: of the model's own tokenizer or processor.
        limit: tokens of an answer.
        context: tokens of prompt and answer together.
    """

    def __init__(self, transcript: Transcript, limit: int, context: int) -> None:
        self.transcript, self.limit, self.context = transcript, limit, context
        tokenizer = transcript.tokenizer
        special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder, *transcript.end_ids}
        self.words: list[int] = sorted(set(tokenizer.get_vocab().values()) - special)

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Completion:
        prompt, images = self.transcript.prompt_of(request), self.transcript.images_of(request)
        if len(prompt) + self.limit > self.context:
            return Completion("", prompt, finish_reason="context", images=images)
        noise = np.random.Generator(np.random.Philox(np.random.SeedSequence(request.seed)))
        ids = tuple(noise.choice(self.words, self.limit).tolist())
        text = self.transcript.tokenizer.decode(ids, skip_special_tokens=True)
        return Completion(text, prompt, ids, (0.0,) * len(ids), "length", images=images)


def rehearse(config: Config, sizes: Plan, transcript: Transcript, context: int) -> list[Trajectory]:
    """Play the episodes of a run's first step.

    Args:
        config: the run's.
        sizes: how many tasks, and how often each.
        transcript: renders with the run's own tokenizer.
        context: tokens of prompt and answer that the model holds.

    Raises:
        BadInput: if no episode comes to an answer.
    """
    r = config.rollout
    specs, _ = step_specs(config, sizes, 1, [0] * len(config.environments))
    scheduler = Scheduler(EpisodeLimits(largest(r.max_turns), r.window), r.concurrency, r.max_batch, r.deterministic)
    played = run_sync(scheduler.run(specs, Stranger(transcript, r.max_new_tokens, context), None))
    spoken = [t for t in played if t.error is None and t.turns]
    if not spoken:
        failed = next((t.error for t in played if t.error is not None), None)
        full = f"a prompt and {r.max_new_tokens} new tokens do not fit into a context of {context} tokens"
        why = full if failed is None else f"the environment failed: {failed}"
        raise BadInput(f"no episode of the first step comes to an answer: {why}")
    return spoken


def samplings_of(config: Config, played: Sequence[Trajectory], evaluated_only: bool = False) -> list[Sampling]:
    """What the sampler of a run does at most, in its steps and in its evaluations.

    Args:
        config: the run's.
        played: from :func:`rehearse`.
        evaluated_only: whether the run samples in evaluations alone.
    """
    evaluated = max(config.eval.episodes, config.eval.final_episodes)
    tasks = len({(t.turns[0].prompt_ids, t.turns[0].images) for t in played})
    steps = [] if evaluated_only else [_sampling(config, played, len(played), tasks)]
    return [*steps, *([_sampling(config, played, evaluated, evaluated)] if evaluated else [])]


def _sampling(config: Config, played: Sequence[Trajectory], episodes: int, tasks: int) -> Sampling:
    """What is done at most for so many episodes like these, of so many different tasks."""
    at_once = min(config.rollout.concurrency, episodes)
    rows = min(at_once, config.rollout.max_batch)
    fed: list[tuple[int, int]] = []
    ends: list[tuple[int, int]] = []
    for n in range(max(len(t.turns) for t in played)):
        turns = [(t.turns[n - 1] if n else None, t.turns[n]) for t in played if n < len(t.turns)]
        fresh = min(rows, tasks) if n == 0 else rows  # equal fresh prompts are read once
        fed.append((fresh, max(_new(before, turn) for before, turn in turns)))
        prompt = max(len(turn.prompt_ids) for _, turn in turns)
        ends.append((prompt, max(len(turn.prompt_ids) + len(turn.token_ids) for _, turn in turns)))
    turns_taken = -(-at_once // rows)
    if turns_taken > CACHES:  # what was kept is gone when its turn comes again
        fed.append((rows, max(prompt for prompt, _ in ends)))
    rows_fed, tokens_fed = max(fed, key=lambda f: f[0] * f[1])
    segments = [s for i, t in enumerate(played) for s in segments_of(t, i)]
    prompts = tasks if len(ends) == 1 and tasks < rows else 0
    return Sampling(rows, tuple(ends), rows_fed, tokens_fed, min(CACHES + 1, turns_taken), prompts,
                    len(ends) > 1 and episodes > at_once, images_of(segments))  # fmt: skip


def images_of(segments: Sequence[Segment]) -> tuple[Image, ...]:
    """The different images of some segments."""
    return tuple({image.sha256: image for s in segments for image in s.images}.values())


def _new(before: Turn | None, turn: Turn) -> int:
    """Tokens of a prompt that go beyond the turn before it, whose last one is not read yet; all, if it starts anew."""
    held = () if before is None else (*before.prompt_ids, *before.token_ids)
    goes_on = bool(held) and turn.prompt_ids[: len(held)] == held
    return len(turn.prompt_ids) - len(held) + 1 if goes_on else len(turn.prompt_ids)
