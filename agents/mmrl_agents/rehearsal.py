"""Episodes of a run without its model: the real tasks, and answers of random tokens as long as the run allows.

Comes in: a configuration.  Goes out: the segments that a step would learn from, and how many tokens its sampler would
be fed and hold.  Real answers are shorter or as long, so that a rehearsal shows the most that a step can take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmrl.config import Config
from mmrl.episode import EpisodeLimits, EpisodeSpec
from mmrl.errors import BadInput
from mmrl.evaluate import eval_specs
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
class Fed:
    """New tokens that a sampler reads at once.

    Attributes:
        rows: answers that they are for.
        tokens: how many of each.
        held: tokens of each row that are read already and held.
    """

    rows: int
    tokens: int
    held: int = 0

    @property
    def pairs(self) -> int:
        """New tokens times what each may attend to."""
        return self.rows * self.tokens * (self.held + self.tokens)


@dataclass(frozen=True)
class Sampling:
    """What a sampler does at most at once.

    Attributes:
        rows: answers.
        ends: tokens of the longest row, turn after turn: its prompt, and its prompt with the answer.
        fresh: the largest batch of prompts that are read whole.
        further: the largest of new tokens behind what is held; None where no prompt goes on with one before.
        batches: how many batches of rows take turns and are held: those that are kept, and the one in hand.
        prompts: different prompts that the rows begin with, where an episode is one turn and several share one; else 0.
        joined: whether new episodes come to those that go on already.
        images: the different images that it sees in a step.
    """

    rows: int
    ends: tuple[tuple[int, int], ...]
    fresh: Fed
    further: Fed | None = None
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
    specs, _ = step_specs(config, sizes, 1, [0] * len(config.environments))
    return _play(config, specs, largest(config.rollout.max_turns), transcript, context, "the first step")


def rehearse_evaluations(config: Config, transcript: Transcript, context: int) -> list[list[Trajectory]]:
    """Play as many episodes of a run's largest evaluation as are with the sampler at once, in each of its environments.

    Args:
        config: the run's; nothing is played if it evaluates nothing.
        transcript: renders with the run's own tokenizer.
        context: tokens of prompt and answer that the model holds.

    Raises:
        BadInput: if no episode of an environment comes to an answer.
    """
    e = config.eval
    first, most = max([(e.final_seed, e.final_episodes), (e.seed, e.episodes)], key=lambda seeds: seeds[1])
    seeds = range(first, first + _rows(config, most))
    return [
        _play(config, eval_specs(env.id, env.kwargs, seeds), e.max_turns, transcript, context,
              f"an evaluation in '{env.id}'")
        for env in (e.environments or config.environments)
        if seeds
    ]


def _rows(config: Config, episodes: int) -> int:
    """Answers of so many episodes that are sampled at once."""
    return min(episodes, config.rollout.concurrency, config.rollout.max_batch)


def _play(config: Config, specs: Sequence[EpisodeSpec], turns: int | None, transcript: Transcript, context: int,
          of: str) -> list[Trajectory]:  # fmt: skip
    r = config.rollout
    scheduler = Scheduler(EpisodeLimits(turns, r.window), r.concurrency, r.max_batch, r.deterministic)
    played = run_sync(scheduler.run(specs, Stranger(transcript, r.max_new_tokens, context), None))
    spoken = [t for t in played if t.error is None and t.turns]
    if not spoken:
        failed = next((t.error for t in played if t.error is not None), None)
        full = f"a prompt and {r.max_new_tokens} new tokens do not fit into a context of {context} tokens"
        why = full if failed is None else f"the environment failed: {failed}"
        raise BadInput(f"no episode of {of} comes to an answer: {why}")
    return spoken


def samplings_of(config: Config, played: Sequence[Trajectory],
                 evaluated: Sequence[Sequence[Trajectory]] = ()) -> list[Sampling]:  # fmt: skip
    """What the sampler of a run does at most, in its steps and in its evaluations.

    Args:
        config: the run's.
        played: from :func:`rehearse`; none if a run samples in evaluations alone.
        evaluated: from :func:`rehearse_evaluations`.
    """
    episodes = max(config.eval.episodes, config.eval.final_episodes)
    tasks = len({(t.turns[0].prompt_ids, t.turns[0].images) for t in played})
    steps = [_sampling(config, played, len(played), tasks)] if played else []
    return [*steps, *(_sampling(config, some, episodes, episodes) for some in evaluated)]


def _sampling(config: Config, played: Sequence[Trajectory], episodes: int, tasks: int) -> Sampling:
    """What is done at most for so many episodes like these, of so many different tasks."""
    at_once = min(config.rollout.concurrency, episodes)
    rows = _rows(config, episodes)
    fed: list[Fed] = []
    ends: list[tuple[int, int]] = []
    for n in range(max(len(t.turns) for t in played)):
        turns = [(t.turns[n - 1] if n else None, t.turns[n]) for t in played if n < len(t.turns)]
        fresh = min(rows, tasks) if n == 0 else rows  # equal fresh prompts are read once
        fed += [_fed(fresh, before, turn) for before, turn in turns]
        prompt = max(len(turn.prompt_ids) for _, turn in turns)
        ends.append((prompt, max(len(turn.prompt_ids) + len(turn.token_ids) for _, turn in turns)))
    turns_taken = -(-at_once // rows)
    if turns_taken > CACHES:  # what was kept is gone when its turn comes again
        fed.append(Fed(rows, max(prompt for prompt, _ in ends)))
    segments = [s for i, t in enumerate(played) for s in segments_of(t, i)]
    return Sampling(
        rows,
        tuple(ends),
        fresh=max((f for f in fed if not f.held), key=lambda f: f.pairs),
        further=max((f for f in fed if f.held), key=lambda f: f.pairs, default=None),
        batches=min(CACHES + 1, turns_taken),
        prompts=tasks if len(ends) == 1 and tasks < rows else 0,
        joined=len(ends) > 1 and episodes > at_once,
        images=images_of(segments),
    )


def images_of(segments: Sequence[Segment]) -> tuple[Image, ...]:
    """The different images of some segments."""
    return tuple({image.sha256: image for s in segments for image in s.images}.values())


def _fed(rows: int, before: Turn | None, turn: Turn) -> Fed:
    """What so many rows like this one read: all that the turn before has not, or everything, if it starts anew."""
    told = () if before is None else (*before.prompt_ids, *before.token_ids)
    held = len(told) - 1 if told and turn.prompt_ids[: len(told)] == told else 0  # the last one is not read yet
    return Fed(rows, len(turn.prompt_ids) - held, held)
