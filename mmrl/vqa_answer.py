"""The official VQA accuracy: how an answer is normalised, and what it is worth among several annotators.

Comes in: a short answer and what the annotators said.  Goes out: the normalised text; a score in [0, 1].

Source: Antol et al. 2015, "VQA: Visual Question Answering" (arXiv 1505.00468), the evaluation page of visualqa.org and
the evaluation script that it names (GT-Vision-Lab/VQA), from which the tables of punctuation, number words and
contractions are taken over as facts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

PUNCTUATION = ";/[]\"{}()=+\\_-><@`,?!"
"""What the punctuation rule removes.  The full stop has a rule of its own; apostrophes, colons, ``%``, ``$`` stay."""
NUMBER_WORDS = {"none": "0", **{word: str(i) for i, word in enumerate(
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
)}}  # fmt: skip
ARTICLES = frozenset({"a", "an", "the"})
ENOUGH = 3
"""Other annotators who must agree for an answer to be wholly right."""

_GROUPED = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_RIGHT = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _one_apostrophe_less(word: str) -> Iterator[str]:
    return (word[:i] + word[i + 1 :] for i, character in enumerate(word) if character == "'")


# The script's table also has entries that change nothing (let's, she's) or that lower-case text cannot meet (Im, Ive,
# Id've, I'dve): they are left out.  Its entry for somebody'd points the other way; both spellings meet all the same.
CONTRACTIONS = {wrong: right for right in _RIGHT.split() for wrong in _one_apostrophe_less(right)} | {
    "somebody'd": "somebodyd"
}
"""A contraction in which one apostrophe was forgotten -> how it is written."""


def normalise_answer(text: str) -> str:
    """Normalise an answer as the VQA evaluation does; linear in the text's length.

    In this order: line breaks and tabs become blanks; a punctuation mark is deleted everywhere if it stands beside a
    blank anywhere, or if a comma stands between two digits anywhere, and else becomes a blank; full stops that no digit
    follows are deleted; lower case; *none* and *zero* to *ten* become digits; articles are dropped; forgotten
    apostrophes are put back; words are joined by one blank.

    The script deletes no more than the first 32 full stops, by an accident; here all go.
    """
    words = [NUMBER_WORDS.get(word, word) for word in _unpunctuated(text).lower().split()]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def vqa_score(answer: str, annotators: Sequence[str]) -> float:
    """The official accuracy of ``answer``.

    With n annotators it is the mean, over each annotator i, of ``min(1, m_i / 3)``, where ``m_i`` of the other n - 1
    gave this answer.  Of ten annotators 0, 1, 2, 3, 4 equal answers are thus worth 0, 0.3, 0.6, 0.9 and 1.  With two or
    three annotators the formula cannot reach 1 (1/3 and 2/3 at most): such lists are better taken as alternatives, one
    call each.  A single annotator is a plain reference: 1 if equal, else 0.

    Answers are compared after :func:`normalise_answer`, always and on both sides.  The script leaves them as they are
    when all annotators wrote the same; that only loses answers that differ in harmless ways ("Yes." for ten times
    "yes").  One more difference: where nothing is left after normalising ("a", "the", "?"), what stood there before the
    articles were dropped is compared, so that an empty answer never equals the letter "a".

    Args:
        answer: what is judged.
        annotators: what people answered; one text each, repetitions count.

    Returns:
        The score in [0, 1].

    Raises:
        ValueError: if there are no annotators.
        TypeError: if ``annotators`` is a text and no sequence of texts.
    """
    if isinstance(annotators, str):
        raise TypeError(f"annotators is a list of answers, not the text {annotators!r:.80}")
    if not annotators:
        raise ValueError("annotators is a list of at least one answer, not an empty one")
    said = _compared(answer)
    count, equal = len(annotators), sum(_compared(text) == said for text in annotators)
    if count == 1:
        return float(equal)
    agreeing, others = min(1.0, (equal - 1) / ENOUGH), min(1.0, equal / ENOUGH)
    return (equal * agreeing + (count - equal) * others) / count


def _unpunctuated(text: str) -> str:
    text = text.replace("\n", " ").replace("\t", " ").strip()
    grouped = _GROUPED.search(text) is not None
    table = {mark: "" if grouped or f"{mark} " in text or f" {mark}" in text else " " for mark in PUNCTUATION}
    return _FULL_STOP.sub("", text.translate(str.maketrans(table)))


def _compared(text: str) -> str:
    """What stands for ``text`` in a comparison; empty only for a text without any visible character."""
    return normalise_answer(text) or " ".join(_unpunctuated(text).lower().split()) or text.strip()
