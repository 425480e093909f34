"""Batched sampling from a Hugging Face causal language model.

Comes in: prompts as token ids, named by episode.  Goes out: sampled ids with their log-probabilities.
A prompt that several rows share is computed once; a row whose episode went on keeps, of the turn before, the
keys and values of what its prompt begins with.  Every row has its own noise, so that a row does not depend on
its neighbours.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mmrl.image import Image
from mmrl_agents.feed import Feed
from mmrl_agents.forward import Forward
from mmrl_agents.kv_cache import RaggedCache, can_keep, merge
from mmrl_agents.packs import common
from mmrl_agents.products import quick_products
from mmrl_agents.reading import WAYS, Read, last_logits, padded, way_to_read
from mmrl_agents.vision import Vision

LOG = logging.getLogger(__name__)
HOW: dict[str | None, str] = {
    "packed": "the new tokens of all rows are read in one line",
    "padded": "rows are read beside each other, padded",
    None: "every prompt is read anew in every turn",
}
"""What a way to read is, in words."""
CACHE_BYTES = 4 * 2**30
"""Keys and values that are kept between turns: above this the older batches go, never the newest."""
CACHES = 2
"""Batches that are kept between turns, at most: two that take turns, or one and what is left of it."""


@dataclass(frozen=True)
class Row:
    """One prompt to answer: whose it is, its ids, the seed of its noise, and the images among the ids."""

    episode: str
    prompt: tuple[int, ...]
    seed: tuple[int, ...]
    limit: int
    images: tuple[Image, ...] = ()

    def shared(self, ids: Sequence[int], images: Sequence[Image]) -> int:
        """With how many of these ids, among which these images stand, the prompt begins; its last id does not count.

        All of them, or (images may differ where ids agree) as many as agree where there are no images; 0 where that is
        less than a quarter of the prompt.
        """
        if len(ids) < len(self.prompt) and list(self.prompt[: len(ids)]) == list(ids):
            same = len(ids) if self.images[: len(images)] == tuple(images) else 0
        else:
            same = 0 if images or self.images else common(ids, self.prompt[:-1])
        return same if 4 * same >= len(self.prompt) else 0


@dataclass(frozen=True)
class Sampled:
    """Sampled ids and their log-probabilities under the sampling distribution; whether the turn ended by itself."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    ended: bool


class Generator:
    """Samples from ``model``; keeps keys and values between calls until :meth:`forget`.

    Args:
        model: a causal language model.
        end_ids: ids that end an answer.
        temperature: of the sampling distribution; 0 takes the likeliest id (log-probability 0).
        vision: how the model sees, if it does; the ids that it bans are never sampled.
        bfloat16: products in bfloat16 (autocast).
        say: is told, in a line, how the model reads what is new, once that has been tried.

    Attributes:
        over: episodes that go on no more, put there by whichever thread; the next call drops what is kept of them.
    """

    def __init__(self, model: Any, end_ids: Sequence[int], temperature: float, vision: Vision | None = None,
                 bfloat16: bool = False, say: Callable[[str], None] = LOG.info) -> None:
        self.model = model
        self._say = say
        self.feed = Feed(vision)
        self.forward = Forward(bfloat16=bfloat16)
        self.end_ids = frozenset(end_ids)
        self.temperature = temperature
        self._keeps: bool | None = None
        self._held: list[RaggedCache] = []
        self._read: Read = padded
        self.over: deque[str] = deque()

    def forget(self) -> None:
        """Drop all kept keys, values and features; call it whenever the weights have changed."""
        self.rest()
        if self.feed.vision is not None:
            self.feed.vision.forget()

    def rest(self) -> None:
        """Drop all kept keys and values; call it when no episode goes on."""
        self._held = []
        self.over.clear()

    @torch.no_grad()
    def sample(self, rows: Sequence[Row]) -> list[Sampled]:
        """Answer each row."""
        self._let_go()
        training = self.model.training
        self.model.eval()
        try:
            with self.forward.autocast(self.model.device), quick_products(self.model):
                if self._keeps is None:
                    self._choose()
                return self._sample(rows) if self._keeps else self._sample_plain(rows)
        except BaseException:
            self.rest()  # a cache may be half taken apart
            raise
        finally:
            self.model.train(training)

    def _choose(self) -> None:
        """How the model reads new tokens behind those that are kept, if it can; tried once."""
        way, why = None, "not every layer attends to all earlier tokens"
        if can_keep(self.model):
            way, why = way_to_read(self.model, self.feed, self.forward.dtype(self.model.dtype))
        self._say(f"sampling: {HOW[way]}" + (f" ({why})" if why else "; agrees with each alone"))
        self._keeps = way is not None
        if way is not None:
            self._read = WAYS[way]

    def _let_go(self) -> None:
        """Let go of the rows of episodes that are over."""
        over = {self.over.popleft() for _ in range(len(self.over))}
        for cache in self._held:
            cache.names = [None if n in over else n for n in cache.names]
        self._held = [c for c in self._held if any(c.names)]

    def _sample(self, rows: Sequence[Row]) -> list[Sampled]:
        cache, logits, place = self._start(rows)
        slots: list[_Answer | None] = [None] * len(cache.names)
        answers = [_Answer(r) for r in rows]
        for at, answer in zip(place, answers, strict=True):
            slots[at] = answer
        while True:
            live = [i for i, a in enumerate(slots) if a is not None and not a.done(self.end_ids)]
            if live:
                self._draw(logits, slots, live)
            feed = [a.unfed() if a is not None else [] for a in slots]
            if all(a is None or a.done(self.end_ids) for a in slots):
                break
            logits = self._read(cache, self.model, feed, self.feed, ())
            for a in slots:
                if a is not None:
                    a.fed = len(a.ids)
        self._keep(cache)
        return [a.result(self.end_ids) for a in answers]

    def _sample_plain(self, rows: Sequence[Row]) -> list[Sampled]:
        """A plain left-padded batch, nothing kept.

        For models whose layers do not all see everything, and those that :func:`way_to_read` finds no way for.
        """
        from transformers import DynamicCache

        answers = [_Answer(r) for r in rows]
        width = max(len(r.prompt) for r in rows)
        device, images = self.model.device, [r.images for r in rows]
        ids = torch.tensor([[0] * (width - len(r.prompt)) + list(r.prompt) for r in rows], device=device)
        mask = torch.tensor([[0] * (width - len(r.prompt)) + [1] * len(r.prompt) for r in rows], device=device)
        positions, after = self.feed.positions([r.prompt for r in rows], images, [0] * len(rows), width)
        positions, places = positions.to(device), torch.tensor(after, device=device)
        cache = DynamicCache(config=self.model.config)
        while True:
            logits = last_logits(self.model, self.feed.tokens(ids, images), cache, attention_mask=mask,
                                 position_ids=positions, use_cache=True)  # fmt: skip
            live = [i for i, a in enumerate(answers) if not a.done(self.end_ids)]
            self._draw(logits, answers, live)
            if all(a.done(self.end_ids) for a in answers):
                return [a.result(self.end_ids) for a in answers]
            ids, images = torch.tensor([[a.ids[-1]] for a in answers], device=device), []
            mask = torch.cat([mask, mask.new_ones((len(rows), 1))], dim=1)
            positions = places[:, None].expand(*positions.shape[:-1], 1)
            places = places + 1

    def _draw(self, logits: Float[Tensor, "rows vocab"], slots: Sequence[_Answer | None], live: Sequence[int]) -> None:
        """Draw the next id of every live row."""
        picked = [slots[i] for i in live]
        # In float32 a noise just below 1 would round to 1, past the end of the distribution.
        noise = [a.noise[len(a.ids)] for a in picked if a is not None]
        at = torch.tensor(noise, dtype=torch.float64, device=logits.device)
        allowed = self.feed.allowed(logits[torch.tensor(list(live), device=logits.device)])
        chosen, logprobs = draw(allowed, at, self.temperature)
        for answer, i, logprob in zip(picked, chosen.tolist(), logprobs.tolist(), strict=True):
            assert answer is not None
            answer.ids.append(i)
            answer.logprobs.append(logprob)

    def _start(self, rows: Sequence[Row]) -> tuple[RaggedCache, Tensor, list[int]]:
        """Feed the prompts; returns a cache, its logits, and each row's place in it."""
        found = {row.episode: hit for row in rows if (hit := self._recall(row)) is not None}
        whole = self._whole(rows, found)
        if whole is not None:
            at = {n: i for i, n in enumerate(whole.names)}
            place = [at[r.episode] for r in rows]
            wanted = dict(zip(place, rows, strict=True))
            new = [wanted.get(i) for i in range(len(whole.names))]
            return whole, self._feed(whole, new), place
        parts, logits, order = self._old(rows, found)
        fresh = [r for r in rows if r.episode not in found]
        if fresh:
            first = {(r.prompt, r.images): r for r in reversed(fresh)}
            unique = list(dict.fromkeys((r.prompt, r.images) for r in fresh))
            layers = self.model.config.get_text_config().num_hidden_layers
            cache = RaggedCache.empty([first[key].episode for key in unique], layers)
            out = self._feed(cache, [first[key] for key in unique])
            index = [unique.index((r.prompt, r.images)) for r in fresh]
            shared = len(unique) < len(fresh)
            parts.append(cache.fan_out(index, [r.episode for r in fresh]) if shared else cache)
            logits.append(out[torch.tensor(index, device=out.device)])
            order += [r.episode for r in fresh]
        return merge(parts), torch.cat(logits), [order.index(r.episode) for r in rows]

    def _recall(self, row: Row) -> tuple[RaggedCache, int] | None:
        """The kept cache and row that hold a proper prefix of the row's prompt; what they hold beyond it is dropped."""
        for cache in self._held:
            if row.episode in cache.names:
                i = cache.names.index(row.episode)
                if same := row.shared(cache.ids[i], cache.images[i]):
                    cache.cut(i, same)
                    return cache, i
        return None

    def _feed(self, cache: RaggedCache, rows: Sequence[Row | None]) -> Float[Tensor, "rows vocab"]:
        """Feed each of the cache's rows what its prompt has beyond what it holds; None feeds nothing."""
        pairs = list(zip(rows, cache.ids, cache.images, strict=True))
        new = [r.prompt[len(held) :] if r is not None else () for r, held, _ in pairs]
        images = [r.images[len(held) :] if r is not None else () for r, _, held in pairs]
        return self._read(cache, self.model, new, self.feed, images)

    def _whole(self, rows: Sequence[Row], found: dict[str, tuple[RaggedCache, int]]) -> RaggedCache | None:
        """The one cache that holds all rows and little else, which can then be used without a copy."""
        if len(found) < len(rows) or not found:
            return None
        caches = {id(c): c for c, _ in found.values()}
        if len(caches) > 1:
            return None
        (cache,) = caches.values()
        if len(cache.names) - len(rows) > len(cache.names) // 8:
            return None
        wanted = {r.episode for r in rows}
        cache.names = [n if n in wanted else None for n in cache.names]
        return cache

    def _old(self, rows: Sequence[Row], found: dict[str, tuple[RaggedCache, int]]) -> tuple[
            list[RaggedCache], list[Tensor], list[str]]:
        """Take the rows that are kept out of their caches and feed them what is new."""
        parts: list[RaggedCache] = []
        asked = {r.episode for r in rows}  # what is kept of them is taken, or of no use to their new prompts
        for cache in list(self._held):
            taken = [r.episode for r in rows if r.episode in found and found[r.episode][0] is cache]
            if taken:
                last = asked.issuperset(n for n in cache.names if n is not None)
                parts.append(cache.select([found[e][1] for e in taken], last))
            cache.names = [None if n in asked else n for n in cache.names]
        self._held = [c for c in self._held if any(c.names)]
        if not parts:
            return [], [], []
        merged = merge(parts)
        by_name = {r.episode: r for r in rows}
        names = [n for n in merged.names if n is not None]
        return [merged], [self._feed(merged, [by_name[n] for n in names])], names

    def _keep(self, cache: RaggedCache) -> None:
        self._held = [c for c in self._held if c is not cache] + [cache]
        # The newest stays whatever it takes: it was needed a moment ago, and without it all would be computed again.
        while len(self._held) > CACHES or (len(self._held) > 1 and sum(c.nbytes for c in self._held) > CACHE_BYTES):
            self._held.pop(0)


class _Answer:
    """One row while it grows."""

    def __init__(self, row: Row) -> None:
        self.limit = row.limit
        self.noise: list[float] = (
            np.random.Generator(np.random.Philox(np.random.SeedSequence(row.seed))).random(row.limit).tolist()
        )
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.fed = 0

    def done(self, end_ids: frozenset[int]) -> bool:
        return len(self.ids) >= self.limit or (bool(self.ids) and self.ids[-1] in end_ids)

    def unfed(self) -> list[int]:
        return self.ids[self.fed :]

    def result(self, end_ids: frozenset[int]) -> Sampled:
        return Sampled(tuple(self.ids), tuple(self.logprobs), bool(self.ids) and self.ids[-1] in end_ids)


def draw(logits: Float[Tensor, "rows vocab"], noise: Float[Tensor, " rows"], temperature: float) -> tuple[
        Int[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Draw one id a row by inverting the cumulative distribution at ``noise`` in [0, 1).

    Returns:
        The ids, and their log-probabilities under ``softmax(logits / temperature)``; at temperature 0 the
        likeliest ids with log-probability 0.
    """
    if temperature == 0:
        return logits.argmax(-1), torch.zeros(len(logits), device=logits.device)
    logprobs = torch.log_softmax(logits.float() / temperature, dim=-1)
    cumulative = logprobs.exp().cumsum(-1, dtype=torch.float64)
    target = noise.double()[:, None] * cumulative[:, -1:]
    ids = torch.searchsorted(cumulative, target, right=True).clamp(max=logits.shape[-1] - 1)
    return ids[:, 0], logprobs.gather(1, ids)[:, 0]
