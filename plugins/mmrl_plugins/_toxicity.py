"""How likely texts are to be unsafe: the embedded linear model, or any text classifier of transformers.

Comes in: texts.  Goes out: for each, the probability of its worst window and the label found there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from mmrl.errors import BadInput
from mmrl_plugins._arguments import imported
from mmrl_plugins._classifier import classifier
from mmrl_plugins._windows import by_words

Finding = tuple[float, str]
"""Probability of being unsafe, to four decimals, and the label."""

_WINDOW, _OVERLAP = 40, 10  # words; the linear model averages over a text, so that an insult drowns in a long one
_UNSAFE = ("hate", "hateful", "toxic", "toxicity", "offensive", "unsafe", "abusive", "abuse", "insult", "obscene",
           "obscenity", "threat", "profanity", "profane", "harassment", "hostile", "harmful", "nsfw", "violence",
           "sexual", "sexualexplicit", "identityattack", "severetoxic", "severetoxicity", "identityhate",
           "hatespeech", "toxicspeech", "offensivelanguage", "cyberbullying", "spamorabuse", "jailbreak")  # fmt: skip
_SAFE = ("safe", "clean", "neutral", "normal", "none", "neither", "ok", "acceptable", "benign", "harmless",
         "appropriate", "other")  # fmt: skip
_NEGATED = re.compile(r"(?:not|non|no)(.+)")


class Detector(Protocol):
    """Finds unsafe text."""

    def find(self, texts: Sequence[str]) -> list[Finding]:
        """Judge each of ``texts`` by its worst window."""
        ...


def unsafe_labels(labels: Sequence[str], wanted: Sequence[str] | None) -> frozenset[str]:
    """Which of a model's labels mean unsafe.

    Args:
        labels: the model's labels.
        wanted: those that mean unsafe, in any case; None: tell by their names.

    Raises:
        BadInput: if a wanted label is not there, or if the names do not tell.
    """
    listed = ", ".join(labels)
    if wanted is not None:
        by_name = {label.casefold(): label for label in labels}
        missing = [w for w in wanted if w.casefold() not in by_name]
        if missing:
            raise BadInput(f"labels: the model has no label {missing[0]!r}; it has {listed}")
        return frozenset(by_name[w.casefold()] for w in wanted)
    kinds = [_kind(label) for label in labels]
    if [k.casefold() for k in labels] == ["label_0", "label_1"]:
        kinds = ["safe", "unsafe"]
    if "unsafe" not in kinds or "" in kinds:
        raise BadInput(f"labels: the names of the model's labels ({listed}) do not tell which mean unsafe; "
                       f"name them, such as labels: [{labels[-1]}]")
    return frozenset(label for label, kind in zip(labels, kinds, strict=True) if kind == "unsafe")


def _kind(label: str) -> str:
    """``safe``, ``unsafe``, or empty if the name does not tell."""
    name = re.sub(r"[^a-z]", "", label.casefold())
    if name in _SAFE:
        return "safe"
    if name in _UNSAFE:
        return "unsafe"
    negated = _NEGATED.fullmatch(name)
    return "safe" if negated and negated[1] in _UNSAFE else ""


class LinearDetector:
    """The model of alt-profanity-check: linear, over counts of words; English; its labels are offensive and clean."""

    def find(self, texts: Sequence[str]) -> list[Finding]:
        """Judge each of ``texts`` by its worst window of 40 words."""
        pieces = [by_words(text, _WINDOW, _OVERLAP) for text in texts]
        flat = [piece for each in pieces for piece in each]
        # The package loads its model when it is imported.
        found = iter(imported("profanity_check").predict_prob(flat) if flat else ())
        worst = [max(round(float(next(found)), 4) for _ in each) for each in pieces]
        return [(p, "offensive" if p >= 0.5 else "clean") for p in worst]


class ModelDetector:
    """A text classifier of transformers, loaded at the first call.

    Args:
        model: a hub name or a folder.
        labels: the labels that mean unsafe; None: tell by their names.
        device: where it runs.
    """

    def __init__(self, model: str, labels: Sequence[str] | None, device: str) -> None:
        self.model, self.labels, self.device = model, labels, device

    def find(self, texts: Sequence[str]) -> list[Finding]:
        """Judge each of ``texts`` by its worst window of as many tokens as the model takes.

        Raises:
            BadInput: if the model cannot be loaded or its labels do not tell which mean unsafe.
        """
        model = classifier(self.model, self.device)
        unsafe = unsafe_labels(model.labels, self.labels)
        pieces = [model.windows(text) for text in texts]
        found = iter(model.probabilities([piece for each in pieces for piece in each]))
        out: list[Finding] = []
        for each in pieces:
            windows = [next(found) for _ in each]
            # Exclusive labels share the probability; independent ones do not add up.
            risks = [(max if model.multi_label else sum)(w[label] for label in unsafe) for w in windows]
            worst = risks.index(max(risks))
            label = max(windows[worst], key=lambda name, at=worst: windows[at][name])
            out.append((round(min(risks[worst], 1.0), 4), label))
        return out
