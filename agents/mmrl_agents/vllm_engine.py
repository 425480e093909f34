"""A vLLM engine in this process: rows of ids in, sampled ids with their log-probabilities out, weights that change.

Comes in: the arguments of ``vllm.LLM``.  Goes out: what a policy and a learner ask of it.  Ids are never made text
here; an answer's noise comes from its row's seed alone.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmrl.errors import BadInput
from mmrl_agents.feed import BANNED
from mmrl_agents.generate import Row, Sampled
from mmrl_agents.image_tokens import PROBE, ImageTokens
from mmrl_agents.vllm_args import refused
from mmrl_agents.vllm_library import process_untouched, shares_process
from mmrl_agents.vllm_stepping import Asked, Stepping, open_answers


class Engine:
    """Samples with vLLM.

    Args:
        library: the module ``vllm``.
        made: the arguments of ``vllm.LLM`` (:func:`mmrl_agents.vllm_args.arguments`).
        name: the model, as the user wrote it.
        temperature: of the sampling distribution; 0 takes the likeliest id (log-probability 0).
        ends: ids that end an answer.
        tokens: how images become ids; None for a model of text alone.

    Attributes:
        here: whether all of its weights are in this process.

    Raises:
        BadInput: with vLLM's reason, if it cannot serve the model so; or if it sees images otherwise than the learner.
    """

    def __init__(self, library: Any, made: Mapping[str, Any], name: str, temperature: float, ends: Sequence[int],
                 tokens: ImageTokens | None = None) -> None:
        self._library = library
        try:
            with process_untouched():
                self._llm: Any = library.LLM(**made)
        except (ValueError, RuntimeError, NotImplementedError) as error:
            raise refused(error, name, "") from error
        atexit.register(self.close)
        self._temperature = temperature
        self._ends = frozenset(ends)
        self._tokens = tokens
        self._sleeps = bool(made.get("enable_sleep_mode"))
        self._asleep = False
        self._resting = threading.Lock()
        self._adapter: Any = None
        self._adapters = 0
        self._stepping = Stepping(self._llm)
        parallel = self._llm.llm_engine.vllm_config.parallel_config
        self.here = shares_process() and parallel.world_size == 1
        if tokens is not None:
            self._check_sight(tokens)

    def sample(self, rows: Sequence[Row]) -> list[Sampled]:
        """Answer each row.

        Raises:
            RuntimeError: if the engine read a prompt otherwise than it was given.
        """
        with open_answers(len(rows)) as answers:
            self.start(rows, answers)
            return self.read(rows, [answer.result() for answer in answers])

    def start(self, rows: Sequence[Row], answers: Sequence[Future[Any]]) -> None:
        """Ask for answers, together with whatever else is asked; :meth:`read` reads them, once they are there.

        A future that is cancelled, before or meanwhile, is not answered.
        """
        self.wake()
        pairs = zip(rows, answers, strict=True)
        self._stepping.start([Asked(self._prompt(r), self._sampling(r), self._adapter, a) for r, a in pairs])

    def read(self, rows: Sequence[Row], answers: Sequence[Any]) -> list[Sampled]:
        """What was answered to each row.

        Raises:
            RuntimeError: if the engine read a prompt otherwise than it was given.
        """
        for row, answer in zip(rows, answers, strict=True):
            if tuple(answer.prompt_token_ids) != row.prompt:
                raise RuntimeError(f"vLLM read the prompt of episode {row.episode} as {len(answer.prompt_token_ids)} "
                                   f"other ids than the {len(row.prompt)} that the learner trains on")  # fmt: skip
        return [self._sampled(answer.outputs[0]) for answer in answers]

    def _prompt(self, row: Row) -> dict[str, Any]:
        if self._tokens is None or not row.images:
            return {"prompt_token_ids": list(row.prompt)}
        ids = self._tokens.collapse(row.prompt, row.images)
        return {"prompt_token_ids": list(ids), "multi_modal_data": {"image": [i.to_pil() for i in row.images]}}

    def _sampling(self, row: Row) -> Any:
        banned = {} if self._tokens is None else dict.fromkeys(self._tokens.banned, BANNED)
        return self._library.SamplingParams(
            temperature=self._temperature, top_p=1.0, top_k=0, seed=seed_of(row), max_tokens=row.limit, logprobs=0,
            stop_token_ids=sorted(self._ends), ignore_eos=True, detokenize=False, logit_bias=banned or None,
        )  # fmt: skip

    def _sampled(self, said: Any) -> Sampled:
        ids = tuple(said.token_ids)
        logprobs = tuple(float(at[i].logprob) for i, at in zip(ids, said.logprobs, strict=True))
        kept = logprobs if self._temperature > 0 else (0.0,) * len(ids)
        return Sampled(ids, kept, bool(ids) and ids[-1] in self._ends)

    def take_weights(self, named: Iterable[tuple[str, Tensor]]) -> None:
        """Take over all weights, under the names that they have in the model's files; it must be :attr:`here`."""
        self._changed(lambda: self._llm.collective_rpc("take_weights", kwargs={"weights_iterator": iter(named)}))

    def take_folder(self, folder: Path) -> None:
        """Take over the weights in a folder, in Hugging Face's format; it is read before this returns."""
        self._changed(lambda: self._llm.collective_rpc("take_weights", kwargs={"weights_path": str(folder)}))

    def take_adapter(self, folder: Path) -> None:
        """Sample with the LoRA adapter in a folder, in PEFT's format, in the place of the one before.

        It is read before this returns, and goes by a number that none had before.
        """
        self._adapters += 1
        number = self._adapters
        request = import_module("vllm.lora.request").LoRARequest(f"mmrl-{number}", number, str(folder))
        old, self._adapter = self._adapter, request
        self._changed(lambda: self._swap(old, request))

    def _swap(self, old: Any, new: Any) -> None:
        if old is not None:
            self._llm.llm_engine.remove_lora(old.lora_int_id)
        self._llm.llm_engine.add_lora(new)

    def _changed(self, change: Callable[[], Any]) -> None:
        """Change weights, and drop what was computed with the old ones."""
        self.wake()
        with process_untouched(), torch.no_grad():
            change()
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM's weights were changed while it sampled; what it keeps of prompts is stale")
        self._llm.llm_engine.reset_encoder_cache()  # its scheduler would count on features that the worker has dropped

    def rest(self) -> None:
        """Give a GPU's memory back until something is asked; weights wait in the host's memory."""
        with self._resting:
            if self._sleeps and not self._asleep:
                self._llm.sleep(level=1)
                self._asleep = True

    def wake(self) -> None:
        """End :meth:`rest`."""
        with self._resting:
            if self._asleep:
                torch.cuda.empty_cache()  # what the learner has let go is still torch's
                self._llm.wake_up()
                self._asleep = False

    def close(self) -> None:
        """Free all that it holds; it is not asked again."""
        atexit.unregister(self.close)
        if self._llm is not None:
            self._stepping.close()
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            import_module("vllm.distributed.parallel_state").cleanup_dist_env_and_memory()

    def _check_sight(self, tokens: ImageTokens) -> None:
        """Compare how both read one picture."""
        try:
            self.sample([Row("probe", tokens.probe(), (0,), 1, (PROBE,))])
        except (RuntimeError, ValueError) as error:
            raise BadInput(f"vLLM reads images of this model otherwise than mmrl does ({error}); leave "
                           "use_vllm_sampler out") from error  # fmt: skip


def seed_of(row: Row) -> int:
    """The seed of a row's noise, in [0, 2**63), as the engine takes it."""
    return int(np.random.SeedSequence(row.seed).generate_state(1, np.uint64)[0] >> np.uint64(1))

