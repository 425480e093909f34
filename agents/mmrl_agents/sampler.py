"""What a training run samples with: the learner's own model, or an engine beside it that follows its weights.

Comes in: a run (or, to check it, a configuration).  Goes out: a policy that can be told that the weights have changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.policy import Policy
from mmrl.training_args import TrainingArgs
from mmrl_agents.policies import vllm, vllm_server
from mmrl_agents.policies.hf import HFPolicy
from mmrl_agents.run import Run


@runtime_checkable
class Sampler(Policy, Protocol):
    """A policy that follows a learner.

    Attributes:
        version: how many updates the weights that it samples with have seen; every completion carries it.
    """

    version: int

    def updated(self, version: int) -> None:
        """Say that the learner's weights have changed: take them over, and drop what was computed with the old ones.

        No request may be in flight.
        """
        ...

    def rest(self) -> None:
        """Say that no episode goes on until the next call of ``updated`` or ``generate``: free what can be freed."""
        ...

    def stop(self) -> None:
        """Say, from any thread, that the run is over: whoever waits for a server is let go by a CancelledError.

        The loop that asks the policy must have been stopped before.
        """
        ...

    def close(self) -> None:
        """Give back all that it holds; it is not asked again."""
        ...


@dataclass(frozen=True)
class SamplerKind:
    """One kind of sampler.

    Attributes:
        make: of a run; its weights are those of the model as loaded until ``updated`` is called.
        check: refuse what the kind cannot do before a model is loaded, by :class:`mmrl.errors.BadInput`.
    """

    make: Callable[[Run], Sampler]
    check: Callable[[LoadedConfig], None]


def sampler_name(args: TrainingArgs) -> str:
    """Which of :data:`SAMPLERS` a run asks for."""
    if not args.use_vllm_sampler:
        return "hf"
    return "vllm_server" if "server" in args.vllm_config else "vllm"


def check_sampler(loaded: LoadedConfig) -> None:
    """Refuse what the sampler that is asked for cannot do.

    Raises:
        BadInput: naming the key, its place and what would be right.
    """
    SAMPLERS[sampler_name(loaded.config.training_args)].check(loaded)


def make_sampler(run: Run) -> Sampler:
    """The sampler that the run's configuration asks for, with the weights of the run's model."""
    sampler = SAMPLERS[sampler_name(run.config.training_args)].make(run)
    try:
        sampler.updated(run.progress.step)
    except BaseException:
        sampler.close()
        raise
    return sampler


def check_own(loaded: LoadedConfig) -> None:
    """The learner's own model samples whatever it learns; refuse what it would not read.

    Raises:
        BadInput: if there is a ``vllm_config``.
    """
    if loaded.config.training_args.vllm_config:
        raise BadInput(f"{loaded.where('training_args', 'vllm_config')}: vllm_config is read with "
                       "training_args.use_vllm_sampler: true alone; set that, or leave vllm_config out")  # fmt: skip


def own_model(run: Run) -> Sampler:
    """The learner's own model, by :class:`mmrl_agents.policies.hf.HFPolicy`."""
    rollout = run.config.rollout
    return HFPolicy(run.model, run.processing, rollout.temperature, rollout.max_new_tokens, rollout.max_context,
                    run.vision, run.precision.sample, run.reporter.say)  # fmt: skip


SAMPLERS: dict[str, SamplerKind] = {
    "hf": SamplerKind(own_model, check_own),
    "vllm": SamplerKind(vllm.make, vllm.check),
    "vllm_server": SamplerKind(vllm_server.make, vllm_server.check),
}
"""By name; which one a run takes: :func:`sampler_name`."""
