"""What can be scored without looking: strategies that know the question's words alone."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from math import log, sqrt

from mmrl_envs.picture_question import Question

_NAMES = re.compile(
    r"\b(red|green|blue|purple|yellow|grey|small|large|circle|square|triangle|diamond|star|cross|object|key|ball|box|"
    r"door|goal)(e?s)?\b"
)
Strategy = Callable[[str], str]


def _majority(pairs: Sequence[tuple[str, str]], key: Strategy) -> Strategy:
    """The most frequent answer among questions with the same key."""
    by_key: dict[str, Counter[str]] = defaultdict(Counter)
    for text, answer in pairs:
        by_key[key(text)][answer] += 1
    overall = Counter(answer for _, answer in pairs).most_common(1)[0][0]
    return lambda text: by_key[key(text)].most_common(1)[0][0] if by_key[key(text)] else overall


def _naive_bayes(pairs: Sequence[tuple[str, str]]) -> Strategy:
    """The answer that the question's words speak for."""
    totals = Counter(answer for _, answer in pairs)
    words = Counter((word, answer) for text, answer in pairs for word in set(text.split()))

    def guess(text: str) -> str:
        def score(answer: str) -> float:
            seen = [log((words[word, answer] + 1) / (totals[answer] + 2)) for word in set(text.split())]
            return log(totals[answer]) + sum(seen)

        return max(totals, key=score)

    return guess


def excess(questions: Sequence[Question]) -> float:
    """How far the best blind strategy lies above chance, in standard errors.

    Strategies are fitted to the first half of ``questions`` and scored on the second.
    """
    pairs = [(q.text, q.answer) for q in questions]
    half = len(pairs) // 2
    seen, held_out = pairs[:half], pairs[half:]
    strategies = [
        _majority(seen, lambda text: ""), _majority(seen, lambda text: _NAMES.sub("_", text)),
        _majority(seen, lambda text: text), _naive_bayes(seen),
    ]  # fmt: skip
    best = max(sum(guess(text) == answer for text, answer in held_out) for guess in strategies) / len(held_out)
    chance = sum(1 / len(q.answers) for q in questions[half:]) / len(held_out)
    return (best - chance) / sqrt(chance * (1 - chance) / len(held_out))
