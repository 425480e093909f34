"""Steps a vLLM engine for as long as something is asked of it: what is asked meanwhile joins what is under way.

Comes in: prompts with how they are sampled.  Goes out: a future of vLLM's own output for each; cancelling one has the
engine drop it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
        self._thread = ThreadPoolExecutor(1, "mmrl-vllm")

    def start(self, prompts: Sequence[tuple[Any, Any]], adapter: Any) -> list[Future[Any]]:
        """Ask for the answers to prompts, each with how it is sampled."""
        asked = [Asked(prompt, how, adapter, Future[Any]()) for prompt, how in prompts]
        for one in asked:
            self._new.put(one)
        self._thread.submit(self._drive)
        return [one.answer for one in asked]

    def close(self) -> None:
        """End the thread; what is open is not answered."""
        self._thread.shutdown(cancel_futures=True)

    def _drive(self) -> None:
        """Step until nothing is left; what fails altogether fails all that is open."""
        try:
            with process_untouched():
                self._admit()
            while self._waiting:
                with process_untouched():  # on a CPU every token draws from the global generator too
                    outputs = self._llm.llm_engine.step()
                    self._drop_cancelled()
                    self._admit()
                for output in outputs:
                    if output.finished and (found := self._waiting.pop(output.request_id, None)) is not None:
                        _give(found[1].answer, output)
        except BaseException as error:
            for _, one in self._waiting.values():
                _fail(one.answer, error)
            self._waiting.clear()

    def _admit(self) -> None:
        """Give the engine what is new; what it refuses fails alone."""
        while True:
            try:
                one = self._new.get_nowait()
            except Empty:
                return
            if not one.answer.cancelled():
                try:
                    (inner,) = self._llm.enqueue([one.prompt], one.how, lora_request=one.adapter, use_tqdm=False)
                except Exception as error:
                    _fail(one.answer, error)
                else:
                    self._waiting[outer_name(inner)] = inner, one

    def _drop_cancelled(self) -> None:
        gone = [name for name, (_, one) in self._waiting.items() if one.answer.cancelled()]
        if gone:
            self._llm.llm_engine.abort_request([self._waiting.pop(name)[0] for name in gone], internal=True)


def outer_name(inner: str) -> str:
    """The name that an output bears, of a request that goes by ``inner`` in the engine ("7" of "7-0f3a9c21")."""
    return inner.partition("-")[0]


def _give(answer: Future[Any], output: Any) -> None:
    if answer.set_running_or_notify_cancel():
        answer.set_result(output)


def _fail(answer: Future[Any], error: BaseException) -> None:
    if answer.set_running_or_notify_cancel():
        answer.set_exception(error)
