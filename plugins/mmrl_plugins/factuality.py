"""Whether what the policy claims agrees with a knowledge base.

Comes in: answers, and facts in a JSONL file.  Goes out: the mean over the claims, 1 where a fact supports one and -1
where a fact contradicts it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.trajectory import Trajectory
from mmrl_plugins._agreement import AgreementChecker, Checker, Judgement, Pair
from mmrl_plugins._arguments import installed, one_of, whole
from mmrl_plugins._claims import Claim, claims_of
from mmrl_plugins._classifier import local_labels
from mmrl_plugins._embedding import checked_embedding, embedder
from mmrl_plugins._knowledge import Fact, knowledge_of, read_facts
from mmrl_plugins._lazy import EMBEDDED
from mmrl_plugins._model_arguments import checked_device, checked_model, checked_number
from mmrl_plugins._nli import NliChecker, nli_labels

_VALUES = {"supported": 1.0, "contradicted": -1.0, "unknown": 0.0}
_Found = list[tuple[Fact, float]]
_SHOWN, _EXCERPT = 40, 200
"""Claims in ``info``, and characters of each text there."""


class Factuality(RewardPlugin):
    """Mean over the claims of the answers: 1 supported by a fact, -1 contradicted by one, 0 undecided.

    An answer is split into claims; for each, the nearest facts are found by sentence embeddings.  A claim to which no
    fact comes near says nothing about the value; the others are judged by ``nli_model`` where one is given, and else
    by whether names, numbers, content words and negation agree with the fact.  Of several facts, one that supports
    counts before one that contradicts (with ``nli_model``: the more probable).  Not applicable if an answer makes no
    claim, or if nothing in the knowledge base comes near one.

    Range: [-1, 1].  With ``turns: all`` the claims of all answers are joined, and the per-turn values add up to the
    value.  ``info`` counts the verdicts, and says of the first 40 claims which fact decided, and why.

    Cost: one pass of a small encoder over claims (and single words), and of ``nli_model`` over ``top_k`` pairs a claim;
    the knowledge base is embedded once.

    Source: Thorne et al. (2018), "FEVER" (retrieve, then judge); Min et al. (2023), "FActScore" (claim by claim).  With
    the embedded model and no ``nli_model`` it judges 20 of 20 plain and 50 of 60 freely worded claims as labelled in
    ``mmrl_assets/checks``, and leaves all but one of the others undecided.

    Fails: without ``nli_model`` nothing is understood.  A wrong word that is no name or number goes unnoticed or
    undecided ("whales are fish"), a broader name counts as another one (Germany for Ulm), a fact that lists several
    things supports any mixture of them, and in German every noun counts as a name.  The embedded model reads English:
    name a multilingual one for other languages.  Hedging ("it is said that") is not noticed.  Claims after the 200th of
    an answer, and what a claim says after 1,000 characters, are not looked at.

    Args:
        knowledge: a JSONL file of ``{"fact": "...", "id": "...", "source": "..."}`` lines (only ``fact`` must be
            there), one fact a line; ``sample`` is a small one for trying out.
        top_k: facts looked at for each claim, at least 1.
        min_similarity: cosine below which a fact has nothing to do with a claim, in [-1, 1].
        nli_model: a model of natural-language inference (a sequence classifier of transformers with labels for
            entailment and contradiction), by hub name or folder.
        model: what finds the facts: ``embedded`` (all-MiniLM-L6-v2), or any sentence-transformers model.
        turns: ``last`` checks the last answer, ``all`` every one.
        device: where the models run: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        BadInput: for a wrong argument, a missing package, or a bad line of the knowledge base (file and line named).
    """

    range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    cost: ClassVar[str] = "one pass of a small text encoder a batch, and of the NLI model where one is named"

    def __init__(self, knowledge: str, top_k: int = 3, min_similarity: float = 0.5, nli_model: str | None = None,
                 model: str = EMBEDDED, turns: Literal["last", "all"] = "last", device: str = "auto") -> None:
        self.top_k = whole("top_k", top_k, 1)
        self.min_similarity = checked_number("min_similarity", min_similarity, -1.0, 1.0)
        self.model, self.device = checked_embedding(model), checked_device(device)
        self.turns = one_of("turns", turns, ("last", "all"))
        self.facts = read_facts(knowledge)
        self.checker = self._make_checker(nli_model)

    def _make_checker(self, nli_model: str | None) -> Checker:
        if nli_model is None:
            return AgreementChecker(lambda: embedder(self.model, self.device))
        checked_model("nli_model", nli_model, "a model of natural-language inference")
        installed("transformers", "transformers")
        labels = local_labels(nli_model)
        if labels is not None:
            nli_labels(labels)
        return NliChecker(nli_model, self.device)

    def load(self) -> None:
        """Load the encoder."""
        embedder(self.model, self.device).encode(["hello"])

    def score(self, trajectories: Sequence[Trajectory]) -> list[Score]:
        """Check the claims of ``trajectories``, in one batch."""
        made = [self._claims(t) for t in trajectories]
        meanings = list(dict.fromkeys(claim.meaning for turns in made for claims in turns for claim in claims))
        found = self.find(meanings)
        pairs = [Pair(meaning, fact.text, cosine) for meaning, facts in found.items() for fact, cosine in facts]
        judgements = self.checker.check(pairs) if pairs else []
        judged = {(p.claim, p.fact): judgement for p, judgement in zip(pairs, judgements, strict=True)}
        return [self._score(turns, found, judged) for turns in made]

    def _claims(self, trajectory: Trajectory) -> list[list[Claim]]:
        """The claims of each turn; none of the turns that are not looked at."""
        last = len(trajectory.turns) - 1
        return [claims_of(turn.response) if self.turns == "all" or i == last else []
                for i, turn in enumerate(trajectory.turns)]

    def find(self, meanings: Sequence[str]) -> dict[str, _Found]:
        """The facts near each of ``meanings``, with their cosines, nearest first."""
        if not meanings:
            return {}
        knowledge = knowledge_of(self.facts, self.model, self.device)
        vectors = embedder(self.model, self.device).encode(meanings)
        return {meaning: knowledge.nearest(vector, self.top_k, self.min_similarity)
                for meaning, vector in zip(meanings, vectors, strict=True)}

    def _score(self, turns: Sequence[Sequence[Claim]], found: Mapping[str, _Found],
               judged: Mapping[tuple[str, str], Judgement]) -> Score:
        if not turns:
            return Score.not_applicable(reason="the episode has no turns")
        if not any(turns):
            return Score.not_applicable(reason="the answer makes no claim that could be checked")
        reports = [[_report(c, found[c.meaning], judged) for c in claims if found[c.meaning]] for claims in turns]
        checked = [report for each in reports for report in each]
        unmatched = sum(map(len, turns)) - len(checked)
        if not checked:
            reason = "the knowledge base holds nothing near the claims"
            return Score.not_applicable(reason=reason, without_a_fact=unmatched)
        shares = tuple(sum(_VALUES[r["verdict"]] for r in each) / len(checked) for each in reports)
        counts = {v: sum(r["verdict"] == v for r in checked) for v in _VALUES}
        info = {**counts, "without_a_fact": unmatched, "claims": checked[:_SHOWN]}
        value = min(1.0, max(-1.0, math.fsum(shares)))
        return Score(value, info=info, turns=shares if self.turns == "all" else None)


def _report(claim: Claim, found: _Found, judged: Mapping[tuple[str, str], Judgement]) -> dict[str, Any]:
    """The verdict on a claim, with the fact that decided or, if none did, the nearest."""
    judgements = [judged[claim.meaning, fact.text] for fact, _ in found]
    best = max(range(len(found)), key=lambda i: (judgements[i].weight, -i))
    fact, similarity = found[best]
    said = {"claim": claim.text, "why": judgements[best].why, "fact": fact.text}
    return {**{key: text[:_EXCERPT] for key, text in said.items()}, "verdict": judgements[best].verdict,
            "fact_id": fact.id, "source": fact.source, "similarity": similarity}
