"""How much a text overlaps with a reference text: for summaries and long answers.

Comes in: the last answer and the reference (one, or a list of acceptable ones).  Goes out: the best ROUGE.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, Literal

from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl_plugins._answers import answer_in, reference_texts, tag_name
from mmrl_plugins._arguments import imported, installed, one_of, whole
from mmrl_plugins._checked import checked_flag
from mmrl_plugins._words import words

VARIANTS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
MEASURES = ("f1", "precision", "recall")


class Rouge(RewardPlugin):
    """How much does the text overlap with the reference?  In [0, 1]; milliseconds for 100 words, 0.2 s for 1,000.

    ROUGE (Lin, 2004) by the package ``rouge-score``: shared words, shared pairs of words, or the longest common
    subsequence; the best over the references.  Words are the package's for ASCII text; other scripts count too,
    by characters where they have no spaces.  Loaded with the first score; nothing is downloaded.

    Failure modes: ``recall`` alone pays for length; order and truth count little; a copy of the source often does
    well.

    Args:
        variant: ``"rouge1"``, ``"rouge2"``, ``"rougeL"``, or ``"rougeLsum"`` (line by line, for summaries of
            several sentences, one a line).
        measure: ``"f1"``, ``"precision"`` or ``"recall"``.
        stemmer: compare stems of English words of more than three letters.
        max_words: how many words of either side are compared, since the longest common subsequence takes time and
            memory in the product of both; what lies beyond counts as not shared.
        tag: compare only what stands in ``<tag>...</tag>``; an answer in which that pair does not occur exactly
            once scores 0.

    Raises:
        BadInput: for an unknown variant or measure, or an argument out of bounds.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    cost: ClassVar[str] = "milliseconds for 100 words"

    def __init__(self, variant: Literal["rouge1", "rouge2", "rougeL", "rougeLsum"] = "rougeL",
                 measure: Literal["f1", "precision", "recall"] = "f1", stemmer: bool = False, max_words: int = 1000,
                 tag: str | None = None) -> None:
        installed("rouge_score", "rouge-score")
        self.variant, self.measure = one_of("variant", variant, VARIANTS), one_of("measure", measure, MEASURES)
        self.stemmer, self.tag = checked_flag("stemmer", stemmer), tag_name(tag)
        self.max_words = whole("max_words", max_words, 1)

    def compute(self, response: str, reference: Any) -> Score:
        """Compare ``response`` with ``reference``."""
        accepted = reference_texts(reference)
        if not accepted:
            return Score.not_applicable(reason="the sample has no reference")
        answer, problem = answer_in(response, self.tag)
        if answer is None:
            return Score(0.0, info={"problem": problem})
        scores = [self.measures(text, answer) for text in accepted]
        best = max(scores, key=lambda score: score[self.measure])
        return Score(best[self.measure], info={name: best[name] for name in MEASURES})

    def measures(self, reference: str, answer: str) -> dict[str, float]:
        """Precision, recall and F1 of ``answer`` against ``reference``."""
        right, said = self._cut(reference), self._cut(answer)
        found = self._scorer.score(right[0], said[0])[self.variant]
        precision, recall = float(found.precision) * said[1], float(found.recall) * right[1]
        both = precision + recall
        return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / both if both else 0.0}

    def _cut(self, text: str) -> tuple[str, float]:
        """The first ``max_words`` words, spaced apart, line by line; and which share of all words they are."""
        lines = [words(line) for line in text.splitlines()]
        total, left = sum(map(len, lines)), self.max_words
        kept: list[str] = []
        for line in lines:
            kept.append(" ".join(line[:left]))
            left = max(0, left - len(line))
        return "\n".join(kept), min(1.0, self.max_words / total) if total else 1.0

    @cached_property
    def _scorer(self) -> Any:
        stem = imported("nltk.stem.porter").PorterStemmer().stem if self.stemmer else None
        scorer = imported("rouge_score.rouge_scorer")
        return scorer.RougeScorer([self.variant], tokenizer=_Tokenizer(stem))


class _Tokenizer:
    """What ``rouge-score`` asks for words; the text is made of spaced words already."""

    def __init__(self, stem: Any) -> None:
        self.stem = stem

    def tokenize(self, text: str) -> list[str]:
        """The words of ``text``, stemmed if asked for."""
        found = text.split()
        return found if self.stem is None else [self.stem(w) if len(w) > 3 and w.isascii() else w for w in found]
