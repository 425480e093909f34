"""Whether the answer is mathematically equal to the reference.

Comes in: the last answer and the reference (one, or a list of acceptable ones).  Goes out: 1 or 0.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mmrl.reward import RewardPlugin
from mmrl.score import Score
from mmrl_plugins._answers import answer_in, reference_texts, tag_name
from mmrl_plugins._arguments import installed, seconds, whole
from mmrl_plugins._math_worker import WORKER

LONGEST = 4_000
"""Signs at the end of an answer that are read; the answer stands there, and the search is not linear."""


class MathVerify(RewardPlugin):
    r"""Is the answer equal to the reference, as mathematics?  1 or 0; some milliseconds, and a second to start with.

    ``1/2``, ``0.5`` and ``\frac{1}{2}`` are equal, so are ``x^2+1`` and ``1+x^2``, sets and intervals.  Read and
    compared by ``math-verify`` and SymPy in a helper process of their own, one for the whole run: neither a formula
    that never ends nor SymPy's memory touches the training, and no thread needs signals.  The answer is the
    ``\boxed{...}`` one, what follows "the answer is", or the last formula or number; of several boxes, the set.

    Not applicable if no reference is mathematics.  An answer that is not decided in time fails the score, for it was
    found neither right nor wrong.

    Failure modes: a formula within prose that is neither boxed nor between dollars is read as its last number: ask
    for ``\boxed{}`` or a tag.  Words are products of symbols to it, ``(1, 2)`` is an interval, ``1e-3`` is not read as
    a number (``number_match`` does), 50% equals both 50 and 0.5, of ``1 = 2`` the last side counts.

    Args:
        tag: read only what stands in ``<tag>...</tag>``; an answer in which that pair does not occur exactly once
            scores 0.
        precision: decimal places to which numbers are compared.
        timeout_s: seconds that one comparison may take.

    Raises:
        BadInput: for a tag that is no name, or an argument out of bounds.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    cost: ClassVar[str] = "milliseconds in a helper process"

    def __init__(self, tag: str | None = None, precision: int = 6, timeout_s: float = 5.0) -> None:
        installed("math_verify", "math-verify")
        self.tag, self.precision = tag_name(tag), whole("precision", precision, 0)
        self.timeout_s = seconds("timeout_s", timeout_s)

    def compute(self, response: str, reference: Any) -> Score:
        """Compare ``response`` with ``reference``.

        Raises:
            TimeoutError: if that takes longer than ``timeout_s``.
        """
        accepted = [text for text in reference_texts(reference) if text.strip()]
        if not accepted:
            return Score.not_applicable(reason="the sample has no reference")
        answer, problem = answer_in(response, self.tag)
        request = {"references": accepted, "answer": (answer or "")[-LONGEST:], "exact": self.tag is not None,
                   "precision": self.precision}  # fmt: skip
        said = WORKER.ask(request, self.timeout_s)
        match said["verdict"]:
            case "no reference":
                return Score.not_applicable(reason="the reference is no mathematics")
            case "no answer":
                return Score(0.0, info={"problem": problem or "no mathematics in the answer"})
            case verdict:
                return Score(float(verdict == "right"), info={"read": said["read"]})
