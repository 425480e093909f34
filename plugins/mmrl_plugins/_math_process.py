"""The helper process of :mod:`mmrl_plugins._math_worker`: reads requests, one JSON object a line, and answers them.

Comes in: ``{"references": [...], "answer": text, "exact": bool, "precision": int,
"limit_s": seconds}``.  Goes out: ``{"verdict": ...,
"read": what the answer was taken for}``, verdict being ``right``, ``wrong``, ``no reference`` or ``no answer``.
"""

from __future__ import annotations

import json
import logging
import re
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

MEMORY = 4 * 2**30
"""Bytes that the process may take: a huge number is an error here and not the end of the training."""
_DELIMITED = re.compile(r"\$|\\\(|\\\[|\\boxed")
_NUMBER = re.compile(r"\s*[-+]?[$€£]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]+)?\s*%?\s*")
_FORMULA = re.compile(r"[\\^_={}()\[\]<>+*/,;|-]|[0-9][A-Za-z]|[A-Za-z][0-9]")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3}")
_TAG = re.compile(r"</?[A-Za-z][\w-]{2,}>")
_MINUS_SIGNS = str.maketrans({"\u2212": "-", "\ufe63": "-", "\uff0d": "-"})
_LONGEST_BARE = 500


def forms(text: str) -> list[str]:
    """How to hand a formula, and not prose, to math-verify, which reads LaTeX between delimiters only."""
    bare = text.strip()
    if not bare or _DELIMITED.search(bare) or not _is_short(bare):
        return [bare]
    if _FORMULA.search(bare) and not _NUMBER.fullmatch(bare):
        return [f"${bare}$", bare]
    return [bare, f"${bare}$"]


def _is_short(bare: str) -> bool:
    return len(bare) <= _LONGEST_BARE and "\n" not in bare


def read(text: str, exact: bool) -> list[Any]:
    """What ``text`` says: expressions, as math-verify finds them; empty if it finds none.

    Args:
        text: a formula, or prose in which to find one.
        exact: it is a formula; otherwise it counts as one if it is short and without words.
    """
    import math_verify

    text = _TAG.sub(" ", text.translate(_MINUS_SIGNS))  # math-verify wants a space before a number
    is_formula = exact or (_is_short(text.strip()) and not _WORD.search(text))
    for form in forms(text) if is_formula else [text]:
        with suppress(Exception):
            found = math_verify.parse(form, parsing_timeout=None)  # pyright: ignore[reportArgumentType] - None: no signals
            if any(not isinstance(item, str) for item in found):
                return found
    return []


def judge(request: Mapping[str, Any]) -> dict[str, str]:
    """Answer one request."""
    import math_verify

    golds = [gold for text in request["references"] if (gold := read(text, True))]
    if not golds:
        return {"verdict": "no reference", "read": ""}
    said = read(request["answer"], request["exact"])
    if not said:
        return {"verdict": "no answer", "read": ""}
    right = any(
        math_verify.verify(gold, said, float_rounding=request["precision"], timeout_seconds=None) for gold in golds
    )
    return {"verdict": "right" if right else "wrong", "read": str(said[-1])[:200]}


def _limit_memory() -> None:
    with suppress(ImportError, ValueError, OSError):  # Windows has no limits, and a lower one may be set already
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _alarm(limit_s: float | None) -> None:
    """Have this process ended some time after the parent should have done so, which may have died; None: no more."""
    with suppress(AttributeError):  # Windows has no alarm
        signal.alarm(0 if limit_s is None else int(limit_s) + 10)


def main() -> None:
    """Answer requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair, which then ends this process
    answers, sys.stdout = sys.stdout, sys.stderr  # a library that prints must not answer
    _limit_memory()
    logging.disable(logging.CRITICAL)
    # Imports and first uses are slow, so they are done before anybody waits.
    judge({"references": ["$x$"], "answer": "The answer is 1.", "exact": False, "precision": 6})
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        _alarm(request["limit_s"])
        try:
            out = judge(request)
        except (MemoryError, RecursionError) as error:
            out = {"verdict": "no answer", "read": f"{type(error).__name__}"}
        _alarm(None)
        print(json.dumps(out), file=answers, flush=True)


if __name__ == "__main__":
    main()
