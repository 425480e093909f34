"""The claims that a text makes: its sentences, and clauses that could stand alone, in languages with and without case.

Comes in: an answer.  Goes out: what it asserts, one claim at a time, pronouns at the start replaced by what the claim
before was about.  Questions, titles of one word and admissions of not knowing assert nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmrl_plugins._statement import read_statement
from mmrl_plugins._words import words

_TAG = re.compile(r"</?[A-Za-z][\w-]{0,40}>")
_MARKUP = re.compile(r"\*\*|__|`+")
_LEAD = re.compile(r"\s*(?:[-*•#>]+|\d{1,3}[.)])\s+")
_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]*]*+(?=\s|$)|[。！？｡।؟]+[”’」』）]*|[;；]+")
_ABBREVIATIONS = frozenset({
    "mr", "mrs", "mt", "ms", "dr", "prof", "st", "no", "vs", "etc", "e.g", "i.e", "approx", "ca", "cf", "vol", "fig",
    "z.b", "d.h", "bzw", "usw", "u.a", "nr", "hr", "fr", "jh", "mme", "p.ej", "sr", "sra",
})  # fmt: skip
_JOINT = re.compile(
    r",\s++(?:and|but|while|whereas|und|aber|während|et|mais|tandis que|y|pero|mientras|e|mas|ma)\s+"
    r"|，(?:而且|并且|但是|而|但)"
)
_OPENING = re.compile(
    r"(?:yes|no|well|indeed|correct|however|therefore|ja|nein|oui|non|sí|sim|não|是的|不)\s*[,:，]\s*", re.IGNORECASE
)
_UNSURE = re.compile(
    r"\bI(?:'m| am) (?:not sure|unsure)|\bI (?:don't|do not|cannot|can't) (?:know|tell|say)\b"
    r"|\bich weiß (?:es )?nicht|\bje ne sais pas|\bno (?:lo )?sé\b|我不(?:知道|确定|清楚)", re.IGNORECASE
)  # fmt: skip
_PRONOUN = re.compile(
    r"(?:it|he|she|they|its|his|her|their|sie|er|il|elle|ils|elles|él|ella)(?!\w)|[它他她]们?的?", re.IGNORECASE
)
_POSSESSIVE = {"its": "'s", "his": "'s", "her": "'s", "their": "'s", "它的": "的", "他的": "的", "她的": "的"}
_SMALLEST = 3
"""Words on each side of a conjunction for it to join two claims and not two things."""
MAX_CLAIMS, MAX_LENGTH = 200, 1000
"""Claims of an answer that are looked at, and characters of a claim; an answer without end costs no more than this."""


@dataclass(frozen=True)
class Claim:
    """One thing that a text asserts.

    Attributes:
        text: as it was said.
        meaning: the same, without a leading "no," and with a name in place of a leading pronoun.
    """

    text: str
    meaning: str


def claims_of(text: str) -> list[Claim]:
    """The first claims of ``text``, in order, at most :data:`MAX_CLAIMS`."""
    claims: list[Claim] = []
    subject = ""
    for said in _clauses(text):
        meaning = _OPENING.sub("", said, count=1) if _OPENING.match(said) else said
        pronoun = _PRONOUN.match(meaning)
        if pronoun and subject:
            name = subject + _POSSESSIVE.get(pronoun[0].lower(), "")
            meaning = name + meaning[pronoun.end() :]
        elif not pronoun:
            subject = _subject(meaning)
        claims.append(Claim(said, meaning))
    return claims


def _clauses(text: str) -> list[str]:
    found: list[str] = []
    for line in _MARKUP.sub("", _TAG.sub("\n", text)).splitlines():
        for sentence in _sentences(_LEAD.sub("", line, count=1) if _LEAD.match(line) else line):
            asked = sentence.rstrip("\"'”’)]*」』） ").endswith(("?", "？", "؟"))
            if not asked and not _UNSURE.search(sentence):
                found += [clause.strip() for clause in _parts(sentence)]
    return [clause[:MAX_LENGTH] for clause in found if _size(clause[:MAX_LENGTH]) >= 2.0][:MAX_CLAIMS]


def _size(clause: str) -> float:
    """Words that are no numbers; a character of a script without spaces counts half."""
    return sum(0.5 if len(word) == 1 and word >= "\u0e00" else 1.0 for word in words(clause) if not word.isdigit())


def _sentences(line: str) -> list[str]:
    out: list[str] = []
    start = 0
    for end in _END.finditer(line):
        if end[0].strip(".…") == "" and _goes_on(line, end.start(), end.end()):
            continue
        out.append(line[start : end.end()].strip())
        start = end.end()
    return [sentence for sentence in (*out, line[start:].strip()) if sentence]


def _goes_on(line: str, dot: int, after: int) -> bool:
    """Whether the full stop at ``dot`` belongs to an abbreviation, an initial or a number within a sentence."""
    before = line[max(0, dot - 12) : dot].split()
    word = before[-1].strip("([\"'").casefold() if before else ""
    following = line[after : after + 8].lstrip()[:1]
    return word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha()) or following.islower()


def _parts(sentence: str) -> list[str]:
    """The sentence, or its two halves if a conjunction joins two claims."""
    joint = _JOINT.search(sentence)
    if joint is None:
        return [sentence]
    left, right = sentence[: joint.start()], sentence[joint.end() :]
    long = min(len(words(left)), len(words(right))) >= _SMALLEST
    return [left, right] if long and "," not in left else [sentence]


def _subject(claim: str) -> str:
    names = read_statement(claim).names
    return " ".join(names[0]) if names else ""
