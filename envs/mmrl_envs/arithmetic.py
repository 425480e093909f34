"""Arithmetic: an endless supply of sums with a right answer.

Comes in: a range of numbers and the operations.  Goes out: one question a seed, graded by the last number
of the answer.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from decimal import Decimal

from mmrl.env import SingleTurnEnv
from mmrl.errors import BadInput
from mmrl.sample import Sample

OPERATIONS: dict[str, Callable[[int, int], int]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_LIMIT = 10**9  # products stay within 64 bits, where numpy draws
# A minus belongs to the number unless a digit stands before it: "7-3" ends in 3, "= -3" in -3.
_NUMBER = re.compile(r"(?:(?<![0-9])-)?[0-9][0-9,]*(?:\.[0-9]+)?")
_GROUPED = re.compile(r"-?(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.[0-9]+)?")


def last_number(text: str) -> Decimal | None:
    """The last number that ``text`` writes in digits, or None; commas may only stand between thousands."""
    found = [n.rstrip(",") for n in _NUMBER.findall(text.replace("\N{MINUS SIGN}", "-"))]
    return Decimal(found[-1].replace(",", "")) if found and _GROUPED.fullmatch(found[-1]) else None


class Arithmetic(SingleTurnEnv):
    """One calculation with two numbers.

    Args:
        operations: which of ``+``, ``-`` and ``*`` are drawn, as one string.
        low: the smallest number.
        high: the largest number.
        prompt: the question's wording; ``{expression}`` stands for the calculation.
        system: an optional system message.
    """

    def __init__(
        self,
        *,
        operations: str = "+-",
        low: int = 0,
        high: int = 9,
        prompt: str = "What is {expression}?",
        system: str | None = None,
    ) -> None:
        super().__init__()
        if not operations or any(sign not in OPERATIONS for sign in operations):
            raise BadInput(f"text/arithmetic's operations is made of {' '.join(OPERATIONS)}, not {operations!r}")
        if not -_LIMIT <= low <= high <= _LIMIT:
            raise BadInput(f"text/arithmetic needs {-_LIMIT} <= low <= high <= {_LIMIT}, not low={low}, high={high}")
        if "{expression}" not in prompt:
            raise BadInput(f"text/arithmetic's prompt must contain {{expression}}: {prompt!r}")
        self._operations = operations
        self._low, self._high = low, high
        self._prompt = prompt
        self._system = system

    def draw(self) -> Sample:
        """Draw two numbers and an operation."""
        first, second = (int(n) for n in self.np_random.integers(self._low, self._high, size=2, endpoint=True))
        sign = self._operations[int(self.np_random.integers(len(self._operations)))]
        expression = f"{first} {sign} {second}" if second >= 0 else f"{first} {sign} ({second})"
        question = self._prompt.replace("{expression}", expression)
        answer = OPERATIONS[sign](first, second)
        return Sample.ask(question, str(answer), system=self._system, id=f"text/arithmetic {expression}",
                          expression=expression)  # fmt: skip

    def grade(self, sample: Sample, response: str) -> float:
        """1 if the last number of the answer is the result, else 0."""
        return float(last_number(response) == Decimal(sample.reference))
