"""Whether a fact supports or contradicts a claim, told by names, numbers, content words and negation.

Comes in: claims with the facts found for them.  Goes out: a judgement and its reason.  Nothing is understood: where
the two do not speak of the same thing in like words, the judgement is "unknown".
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from mmrl_plugins._embedding import Embedder, cosine
from mmrl_plugins._statement import Number, Statement, read_statement

Verdict = Literal["supported", "contradicted", "unknown"]
Alike = Callable[[str, str], bool]

ON_TOPIC = 0.5
"""Share of the claim's content words that the fact must cover before a difference between them means anything."""
COVERED = 0.8
"""Share of names, numbers and content words together that the fact must cover to support the claim."""
ALIKE = 0.8
"""Cosine from which two words count as the same: tall and height have 0.85, but east and west 0.797."""
PARAPHRASE = 0.9
"""Cosine from which two sentences with the same names and numbers say the same: "fell in 1989" and "came down in 1989"
have 0.93; sentences that differ in one word that matters stay below 0.86 ("was built in 1989": 0.84)."""
_ENDINGS = frozenset({"s", "es", "n", "en", "e"})


@dataclass(frozen=True)
class Judgement:
    """What a fact says of a claim.

    Attributes:
        verdict: the outcome.
        why: the reason, for people.
        weight: of several facts, the one with the highest counts; 0 for ``unknown``.
    """

    verdict: Verdict
    why: str
    weight: float


class Pair(NamedTuple):
    """A claim, a fact that was found for it, and the cosine of the two."""

    claim: str
    fact: str
    similarity: float


class Checker(Protocol):
    """Judges claims by facts."""

    def check(self, pairs: Sequence[Pair]) -> list[Judgement]:
        """Judge each pair."""
        ...


class AgreementChecker:
    """Compares names, numbers, content words and negation.

    Args:
        embedder: makes the embedder that says which words are alike.
    """

    def __init__(self, embedder: Callable[[], Embedder]) -> None:
        self.embedder = embedder

    def check(self, pairs: Sequence[Pair]) -> list[Judgement]:
        """Judge each pair; all words are embedded in one batch."""
        read = {text: read_statement(text) for pair in pairs for text in (pair.claim, pair.fact)}
        listed = sorted({word for statement in read.values() for word in statement.words})
        vectors = dict(zip(listed, self.embedder().encode(listed), strict=True)) if listed else {}

        @functools.cache
        def alike(a: str, b: str) -> bool:
            return cosine(vectors[a], vectors[b]) >= ALIKE

        return [judge(read[p.claim], read[p.fact], alike, p.similarity >= PARAPHRASE) for p in pairs]


def judge(claim: Statement, fact: Statement, alike: Alike, paraphrase: bool = False) -> Judgement:
    """Compare ``claim`` with ``fact``.

    Another name or number in an otherwise like statement contradicts, as does a negation that only one of them has; a
    fact that covers the claim supports it.

    Args:
        claim: what was said.
        fact: what is known.
        alike: whether two content words mean the same.
        paraphrase: whether the two as a whole are so near that content words need not agree one by one.
    """
    unmet = 0 if paraphrase else sum(not _covered(w, fact, alike) for w in claim.words)
    if unmet > (1.0 - ON_TOPIC) * len(claim.words):
        return Judgement("unknown", "the fact is about something else", 0.0)
    missing, extra = _unmatched_names(claim, fact), _unmatched_names(fact, claim)
    rounded = claim.rounded or fact.rounded
    wrong = [n for n in claim.numbers if not _has(n, fact.numbers, rounded)]
    other = [n for n in fact.numbers if not _has(n, claim.numbers, rounded)]
    # What is left when the differing names and numbers are taken out must be alike for them to mean something.
    left = sum(len(name) for name in claim.names if name not in missing) + len(claim.words)
    left += len(claim.numbers) - len(wrong)
    like = left > 0 and left - unmet >= COVERED * left
    if missing:
        told = sum(_covered(w, claim, alike) for w in fact.words) >= ON_TOPIC * len(fact.words)
        contradicts = bool(extra) and told and like and len(missing) < len(claim.names)
        return _difference(_listed(missing), _listed(extra), contradicts)
    if wrong:
        bounded = claim.bounded or fact.bounded
        return _difference(_said(wrong), _said(other), bool(other) and like and not bounded)
    if not like:
        return Judgement("unknown", "the fact says only part of it", 0.0)
    if claim.negated != fact.negated:
        return Judgement("contradicted", "only one of the two is negated", 1.0)
    return Judgement("supported", "names, numbers and words agree", 2.0)


def _difference(missing: str, other: str, contradicts: bool) -> Judgement:
    if contradicts:
        return Judgement("contradicted", f"{missing}, and not {other}", 1.0)
    return Judgement("unknown", f"the fact does not mention {missing}", 0.0)


def _covered(word: str, by: Statement, alike: Alike) -> bool:
    return any(_one_stem(word, other) for other in by.tokens) or any(alike(word, other) for other in by.words)


def _one_stem(a: str, b: str) -> bool:
    if a == b:
        return True
    common = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return common >= 4 and max(len(a), len(b)) - common <= 3


def _unmatched_names(of: Statement, by: Statement) -> list[tuple[str, ...]]:
    """The names that the other statement does not have, neither whole nor in a shorter form."""
    return [name for name in of.names if not all(_named(w, by.tokens) for w in name)
            and not any(all(_named(w, [x.casefold() for x in name]) for w in other) for other in by.names)]


def _named(word: str, among: frozenset[str] | list[str]) -> bool:
    name = word.casefold()
    return name in among or any(_inflected(*sorted((name, other), key=len)) for other in among)


def _inflected(shorter: str, longer: str) -> bool:
    return len(shorter) > 2 and longer.startswith(shorter) and longer[len(shorter) :] in _ENDINGS


def _has(number: Number, among: Sequence[Number], rounded: bool) -> bool:
    return any(_equal(a, b, rounded) for other in among for a in number for b in other)


def _equal(a: float, b: float, rounded: bool) -> bool:
    a_year = min(a, b) >= 1000 and max(a, b) <= 2100 and a.is_integer() and b.is_integer()
    return a == b or (rounded and not a_year and abs(a - b) <= 0.02 * max(abs(a), abs(b)))


def _listed(names: Sequence[tuple[str, ...]]) -> str:
    return ", ".join(" ".join(name) for name in names)


def _said(numbers: Sequence[Number]) -> str:
    return ", ".join(f"{max(number):.12g}" for number in numbers)
