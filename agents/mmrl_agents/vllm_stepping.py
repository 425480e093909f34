"""Steps a vLLM engine for as long as something is asked of it: what is asked meanwhile joins what is under way.

Comes in: prompts with how they are sampled, and a future for each.  Goes out: vLLM's own output in each future; one
that is cancelled is dropped by the engine at its next step.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from mmrl_agents.vllm_library import process_untouched


@dataclass(frozen=True)
class Asked:
    """One prompt.

    Attributes:
        prompt: as ``vllm.LLM`` takes it.
        how: its ``SamplingParams``.
        adapter: a ``LoRARequest``, or None.
        answer: the ``RequestOutput`` of the whole answer.
    """

    prompt: Any
    how: Any
    adapter: Any
    answer: Future[Any]


class Stepping:
    """Drives an engine on a thread of its own.

    Args:
        llm: a ``vllm.LLM``; nobody else may step it while a future is open.
    """

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._new: SimpleQueue[Asked] = SimpleQueue()
        self._waiting: dict[str, tuple[str, Asked]] = {}
        self._closing = False
        self._thread = ThreadPoolExecutor(1, "mmrl-vllm")

    def start(self, asked: Sequence[Asked]) -> None:
        """Ask for answers, together with whatever else is asked."""
        for one in asked:
            self._new.put(one)
        self._thread.submit(self._drive)

    def close(self) -> None:
        """Drop what is open, and end the thread."""
        self._closing = True
        self._thread.shutdown()

    def _drive(self) -> None:
        """Step until nothing is left; what fails altogether fails all that is open."""
        if self._new.empty():  # an earlier call has taken it along
            return
        try:
            with process_untouched():  # on a CPU every token draws from the global generator too
                self._admit()
                while self._waiting and not self._closing:
                    self._give(self._llm.llm_engine.step())
                    self._drop_cancelled()
                    self._admit()
        except BaseException as error:
            self._drop_all(error)
        if self._closing:
            self._drop_all(CancelledError("the engine is closed"))

    def _admit(self) -> None:
        """Give the engine what is new; what it refuses fails alone."""
        for one in self._taken():
            if not one.answer.cancelled():
                try:
                    (inner,) = self._llm.enqueue([one.prompt], one.how, lora_request=one.adapter, use_tqdm=False)
                except Exception as error:
                    _fail(one.answer, error)
                else:
                    self._waiting[outer_name(inner)] = inner, one

    def _taken(self) -> list[Asked]:
        out: list[Asked] = []
        with suppress(Empty):
            while True:
                out.append(self._new.get_nowait())
        return out

    def _give(self, outputs: Sequence[Any]) -> None:
        for output in outputs:
            if output.finished and (found := self._waiting.pop(output.request_id, None)) is not None:
                answer = found[1].answer
                if answer.set_running_or_notify_cancel():
                    answer.set_result(output)

    def _drop_cancelled(self) -> None:
        gone = [name for name, (_, one) in self._waiting.items() if one.answer.cancelled()]
        if gone:
            self._llm.llm_engine.abort_request([self._waiting.pop(name)[0] for name in gone], internal=True)

    def _drop_all(self, error: BaseException) -> None:
        """Fail all that is open, and have the engine forget it."""
        waiting, self._waiting = list(self._waiting.values()), {}
        for one in [*(one for _, one in waiting), *self._taken()]:
            _fail(one.answer, error)
        if waiting:
            with suppress(Exception):  # it may be what has failed
                self._llm.llm_engine.abort_request([inner for inner, _ in waiting], internal=True)


@contextmanager
def open_answers(n: int) -> Generator[list[Future[Any]]]:
    """Futures of so many answers; whoever leaves by an exception waits for none of them."""
    answers = [Future[Any]() for _ in range(n)]
    try:
        yield answers
    except BaseException:
        for answer in answers:
            answer.cancel()
        raise


def outer_name(inner: str) -> str:
    """The name that an output bears, of a request that goes by ``inner`` in the engine ("7" of "7-0f3a9c21")."""
    return inner.partition("-")[0]


def _fail(answer: Future[Any], error: BaseException) -> None:
    if answer.set_running_or_notify_cancel():
        answer.set_exception(error)
