"""What mmrl adds to the workers of a vLLM engine, by vLLM's ``worker_extension_cls``: weights that change whole.

Comes in: all weights of the model, or the folder in which they lie.  Goes out: a worker that computes with them.  This
runs in the workers' own processes, where they have any; it imports nothing of mmrl.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

NAME = "mmrl_agents.vllm_worker.TakesWeights"
"""The value of ``worker_extension_cls``."""


class TakesWeights:
    """A base of vLLM's worker.

    Attributes:
        model_runner: the worker's.
        reload_weights: the worker's; it renews each layer whose weights it is given.
    """

    model_runner: Any
    reload_weights: Callable[..., None]

    @torch.no_grad()
    def take_weights(self, weights_path: str | None = None,
                     weights_iterator: Iterable[tuple[str, Tensor]] | None = None) -> None:
        """Take over all weights, under the names of the model's files.

        On a CPU layers multiply with copies of their weights in another order.  A head that shares the embeddings'
        weights is given none of its own, and vLLM 0.32 leaves it with the copy of the old ones; here it makes a new
        one.

        Args:
            weights_path: the folder; None: they come by ``weights_iterator``.
            weights_iterator: the weights.
        """
        self.reload_weights(weights_path=weights_path, weights_iterator=weights_iterator)
        kind = import_module("vllm.model_executor.layers.vocab_parallel_embedding").ParallelLMHead
        for module in self.model_runner.get_model().modules():
            if isinstance(module, kind) and "cpu_linear" in vars(module):
                head: Any = module
                head.quant_method.process_weights_after_loading(head)
