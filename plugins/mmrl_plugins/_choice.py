"""Which of several lettered choices a text names.  Every scan is linear in the text's length."""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from dataclasses import dataclass

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_BEFORE, _AFTER = r"[\s(\[{*_\"'`$]*+", r"[\s)\]}*_\"'`$.:,;!]*+"
_ALONE = re.compile(rf"{_BEFORE}(?:\\(?:boxed|text|mathrm)\{{)*+([A-Za-z]){_AFTER}")
_BRACKETED = r"(?<!\w)[(\[]([A-Za-z])[)\]]"
# Latin letters only, so that a letter between Chinese characters stands alone; "U.S.", "B-52" and "I'm" do not.
_MENTION = re.compile(
    rf"{_BRACKETED}|(?<![A-Za-z0-9_.-])(?<![A-Za-z]['’])([A-Z])(?![A-Za-z0-9_]|-\w|\.[A-Z]\b|['’][A-Za-z])"
)
# "A dog", "I think": words, unless what follows could follow a letter that was chosen.
_WORD_GOES_ON = re.compile(r"[ \t]+(?!(?:[A-Z]|and|as|because|but|for|in|is|not|or|since|which|with)\b)[^\W\d_]")
_DENIED = re.compile(
    r"(?i)(?:\b(?:not|neither|nor|never|except)|n['’]t)(?: be)?(?: the)?(?: (?:option|choice|answer))?[\s(\[*\"'`]*$"
)
_NOUN, _IS = r"\b(?:answer|choice|option)s?", r" (?:is|are|was|would be|should be|must be|has to be)"
_STATED = re.compile(
    r"(?i)(?:\\boxed\{(?:\\(?:text|mathrm)\{)?"
    rf"|{_NOUN}{_IS}(?: (?:option|choice|letter))?[*\"]*:?|{_NOUN}[*\"]*[:=]|\banswer"
    r"|\b(?:choose|pick|select|go with|choosing|picking)(?: (?:option|choice|answer|letter))?:?"
    r")[\s(\[*\"'`$]*$"
)
# Whoever takes an answer back says so.  Only between two statements, so that a word in the reasoning changes nothing.
_TAKEN_BACK = re.compile(
    r"(?i)\b(?:wait|actually|correction|scratch that|on second thoughts?|i was wrong|my mistake|oops|sorry|hmm+"
    r"|no(?=\s*[,.!:;–—-])|(?:that|this|it)(?:['’]s| is| was) (?:wrong|incorrect|not (?:right|correct))"
    r"|let me (?:re-?[a-z]+|correct|think again|look again|check again))\b"
)
_FINAL = re.compile(r"(?i)\bfinal (?:answer|choice|option)[^\n.;]*$")
# "Wait, actually: B." puts a letter in the place of one before, if the sentence ends there.
_INSTEAD = re.compile(r"(?i)\b(?:wait|actually|rather|correction|no)[,:]?(?: it(?:['’]s| is| must be))?[\s(\[*\"'`$]*$")
_SENTENCE_ENDS = re.compile(r"[)\]*\"'`$}]*+(?:[.!](?!\w)|\s*+$|[ \t]*+\n)")
_JOINED = re.compile(
    r"(?i)[ \t]+|[\s)\]}*\"'`$.]*(?:,|/|&|\+|;|\bor\b|\band\b)+\s*(?:(?:or|and)\b)?[\s(\[{*\"'`$]*"
    r"(?:(?:option|choice) )?[\s(\[*]*"
)
_LABEL = re.compile(r"[*_]*[)\]:.]")
_LOOK_BACK = 60


@dataclass(frozen=True)
class _Mention:
    letter: str
    start: int
    end: int


@dataclass(frozen=True)
class _Found:
    """A choice's text in the answer."""

    choice: int
    start: int
    end: int


def letter_of(text: str) -> str | None:
    """The letter, in upper case, if ``text`` is one and nothing else but brackets, stars and full stops."""
    match = _ALONE.fullmatch(text)
    return match[1].upper() if match else None


def same(one: str, other: str) -> bool:
    """Whether two texts are equal but for case, white space and a full stop at the end."""
    return _folded(one) == _folded(other)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .*_\"'`")


def chosen(text: str, letters: str, choices: Sequence[str] = ()) -> frozenset[str]:
    """The choices that ``text`` names, as letters; one alone is a clear answer.

    Args:
        text: the answer.
        letters: those that count.
        choices: the texts of the choices, in the order of the letters, where they are known.
    """
    alone = letter_of(text)
    if alone is not None:
        return frozenset(alone) & frozenset(letters)
    whole = [letters[i] for i, choice in enumerate(choices) if same(choice, text)]
    if whole:
        return frozenset(whole[:1])
    texts = _texts_in(text, choices)
    named = _letters_in(text, letters, texts)
    if not named:
        return frozenset(letters[found.choice] for found in texts if not _denied(text, found.start))
    labelled = {letters[found.choice] for found in _labelled(text, named, texts)}
    return frozenset(m.letter for m in named) | labelled


def _texts_in(text: str, choices: Sequence[str]) -> list[_Found]:
    """Where the choices' texts stand in ``text``; of two that begin at one place, the longer."""
    order = sorted((i for i, c in enumerate(choices) if _folded(c)), key=lambda i: -len(_folded(choices[i])))
    if not order:
        return []
    parts = [rf"({_edge(choices[i])})" for i in order]
    pattern = re.compile(rf"(?:{'|'.join(parts)})", re.IGNORECASE)
    return [_Found(order[(m.lastindex or 1) - 1], m.start(), m.end()) for m in pattern.finditer(text)]


def _edge(choice: str) -> str:
    """The choice as a pattern: any white space for white space, and no letter on where a Latin word ends."""
    words = _folded(choice).split()
    body = r"\s+".join(map(re.escape, words))
    before = r"(?<![A-Za-z0-9])" if re.match("[a-z0-9]", words[0]) else ""
    after = r"(?![A-Za-z0-9])" if re.match("[a-z0-9]", words[-1][-1]) else ""
    return f"{before}{body}{after}"


def _letters_in(text: str, letters: str, texts: Sequence[_Found]) -> list[_Mention]:
    """The letters given as the answer; else those that label something; else all that are mentioned."""
    covered = [f.start for f in texts]
    mentions = [
        m for m in _mentions(text, letters)
        if not _denied(text, m.start) and not _within(m, texts, bisect.bisect_right(covered, m.start) - 1)
    ]  # fmt: skip
    stated: list[_Mention] = []
    for i, mention in enumerate(mentions):
        chained = i > 0 and mentions[i - 1] in stated[-1:] and _joins(text, mentions[i - 1], mention)
        if chained or _is_stated(text, mention):
            stated.append(mention)
    if stated:
        return _kept(text, stated)
    if any(_opens_line(text, m) and _LABEL.match(text, m.end) for m in mentions):
        return [m for m in mentions if _is_label(text, m)]
    return mentions


def _kept(text: str, stated: Sequence[_Mention]) -> list[_Mention]:
    """The statements that stand in the end.

    Those before the last correction are taken back; those before the first "final answer" were not final.  Two with
    neither between them both stand.
    """
    finals = (i for i, m in enumerate(stated) if _FINAL.search(_before(text, m.start)))
    corrected = (i for i in range(len(stated) - 1, 0, -1)
                 if _TAKEN_BACK.search(text, stated[i - 1].end, stated[i].start))  # fmt: skip
    return list(stated[max(next(finals, 0), next(corrected, 0)) :])


def _mentions(text: str, letters: str) -> list[_Mention]:
    out: list[_Mention] = []
    for match in _MENTION.finditer(text):
        letter = (match[1] or match[2]).upper()
        word = match[2] in ("A", "I") and _WORD_GOES_ON.match(text, match.end())
        if letter in letters and not word:
            out.append(_Mention(letter, match.start(), match.end()))
    return out


def _within(mention: _Mention, texts: Sequence[_Found], at: int) -> bool:
    return at >= 0 and mention.end <= texts[at].end


def _before(text: str, start: int) -> str:
    return text[max(0, start - _LOOK_BACK) : start]


def _denied(text: str, start: int) -> bool:
    return _DENIED.search(_before(text, start)) is not None


def _opens_line(text: str, mention: _Mention) -> bool:
    return not _before(text, mention.start).rpartition("\n")[2].strip(" \t*_([")


def _is_stated(text: str, mention: _Mention) -> bool:
    """Whether the letter is given as the answer: in so many words, instead of another, or alone in its line."""
    before = _before(text, mention.start)
    if _STATED.search(before) or (_INSTEAD.search(before) and _SENTENCE_ENDS.match(text, mention.end)):
        return True
    after = text[mention.end : mention.end + _LOOK_BACK].partition("\n")[0]
    return _opens_line(text, mention) and not after.strip(" \t*_)].")


def _is_label(text: str, mention: _Mention) -> bool:
    """Whether the letter labels something: ``B)`` and ``(B)`` anywhere, ``B.`` at the beginning of a line."""
    if text[mention.start] in "([" or text[mention.end : mention.end + 1] in (")", "]", ":"):
        return True
    return _opens_line(text, mention) and _LABEL.match(text, mention.end) is not None


def _joins(text: str, one: _Mention, other: _Mention) -> bool:
    return other.start - one.end < _LOOK_BACK and _JOINED.fullmatch(text, one.end, other.start) is not None


def _labelled(text: str, named: Sequence[_Mention], texts: Sequence[_Found]) -> list[_Found]:
    """The texts that stand right behind a named letter: ``B. Paris`` names what B labels and Paris."""
    starts = {found.start: found for found in texts}
    out: list[_Found] = []
    for mention in named:
        end = next((e for e in range(mention.end, mention.end + 8) if e in starts), None)
        if end is not None and not text[mention.end : end].strip(" \t)].:*_-–"):
            out.append(starts[end])
    return out
