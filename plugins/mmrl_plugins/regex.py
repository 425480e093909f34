"""Whether a regular expression is found in the answers, or is not.

Comes in: every answer's text.  Goes out: 1 or 0.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from mmrl.errors import BadInput
from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl.trajectory import Turn
from mmrl_plugins._arguments import imported, installed, one_of, seconds
from mmrl_plugins._checked import checked_flag


class Regex(RewardPlugin):
    r"""Does the answer match the pattern?  1 or 0 a turn, the mean over turns; microseconds for sane patterns.

    Matched by the package ``regex``, which understands what Python's ``re`` does and more, and gives up after
    ``timeout_s``: a pattern that backtracks without end on some text fails there and does not hang the run.

    Failure modes: a pattern that is too wide is learnt word for word.

    Args:
        pattern: the regular expression; flags go inside, such as ``(?i)`` (case) and ``(?s)`` (``.`` is any sign).
        match: ``"search"`` finds the pattern anywhere, ``"full"`` wants the whole answer to match.
        negate: 1 where the pattern does not match: for what must not be said.
        timeout_s: seconds that one answer may take.

    Raises:
        BadInput: for a pattern that is none or empty, or an argument out of bounds.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(self, pattern: str, match: Literal["search", "full"] = "search", negate: bool = False,
                 timeout_s: float = 1.0) -> None:
        installed("regex", "regex")
        regex = imported("regex")
        if not isinstance(pattern, str) or not pattern:  # pyright: ignore[reportUnnecessaryIsInstance] - from YAML
            raise BadInput(f"pattern is a regular expression that is not empty, not {pattern!r}")
        try:
            compiled: Any = regex.compile(pattern)
        except regex.error as error:
            raise BadInput(f"pattern {pattern!r} is no regular expression: {error}") from error
        full = one_of("match", match, ("search", "full")) == "full"
        self._find: Any = compiled.fullmatch if full else compiled.search
        self.pattern, self.negate = pattern, checked_flag("negate", negate)
        self.timeout_s = seconds("timeout_s", timeout_s)

    def compute(self, turn: Turn) -> Score:
        """Match the answer of ``turn``.

        Raises:
            TimeoutError: if that takes longer than ``timeout_s``.
        """
        try:
            # concurrent: other threads run on meanwhile, which re never allows.
            found = self._find(turn.response, timeout=self.timeout_s, concurrent=True)
        except TimeoutError as error:
            raise TimeoutError(f"pattern {self.pattern!r} took over {self.timeout_s:g} s on an answer of "
                               f"{len(turn.response)} characters; it backtracks") from error  # fmt: skip
        info = {} if found is None else {"found": found[0][:80]}
        return Score(float((found is None) == self.negate), info=info)
