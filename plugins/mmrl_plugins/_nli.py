"""Whether a fact entails or contradicts a claim, told by a model of natural-language inference.

Comes in: claims with the facts found for them.  Goes out: a judgement and its probability.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmrl.errors import BadInput
from mmrl_plugins._agreement import Judgement, Pair, Verdict
from mmrl_plugins._classifier import classifier

_MEANS: tuple[tuple[str, Verdict], ...] = (("entail", "supported"), ("contradict", "contradicted"),
                                           ("neutral", "unknown"))  # fmt: skip


def nli_labels(labels: Sequence[str]) -> dict[str, Verdict]:
    """What a model's labels mean, by their names.

    Raises:
        BadInput: if none says entailment, none says contradiction, or one says neither of these nor neutral.
    """
    means: dict[str, Verdict] = {}
    for label in labels:
        name = label.casefold()
        found: Verdict | None = next((v for part, v in _MEANS if part in name and not name.startswith("not")), None)
        if found is None:
            raise BadInput(f"nli_model: the label {label!r} (of {', '.join(labels)}) names neither entailment nor "
                           "contradiction nor neutral; give a model of natural-language inference")
        means[label] = found
    if not {"supported", "contradicted"} <= set(means.values()):
        raise BadInput(f"nli_model: the labels {', '.join(labels)} do not name both entailment and contradiction")
    return means


class NliChecker:
    """A sequence classifier over (fact, claim) pairs, loaded at the first call.

    Args:
        model: a hub name or a folder.
        device: where it runs.
    """

    def __init__(self, model: str, device: str) -> None:
        self.model, self.device = model, device

    def check(self, pairs: Sequence[Pair]) -> list[Judgement]:
        """Judge each pair: the most probable label counts.

        Raises:
            BadInput: if the model cannot be loaded or is none of natural-language inference.
        """
        model = classifier(self.model, self.device)
        means = nli_labels(model.labels)
        out: list[Judgement] = []
        for found in model.probabilities([(pair.fact, pair.claim) for pair in pairs]):
            label = max(found, key=lambda name, by=found: by[name])
            weight = 0.0 if means[label] == "unknown" else found[label]
            out.append(Judgement(means[label], f"{label} {found[label]:.2f}", weight))
        return out
