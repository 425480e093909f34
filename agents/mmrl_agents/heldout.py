"""Evaluation of a run's policy on held-out seeds: to choose the best checkpoint, and to say how it ended."""

from __future__ import annotations

import dataclasses

from mmrl.blind import Blind
from mmrl.config import EnvironmentConfig
from mmrl.episode import EpisodeLimits
from mmrl.evaluate import EvalResult, evaluate
from mmrl.policy import Policy
from mmrl.rollout import run_sync
from mmrl_agents.models import find_model, load_model
from mmrl_agents.policies.hf import HFPolicy
from mmrl_agents.run import Run, dtype_of, publish
from mmrl_agents.shared_scheduler import SharedScheduler

WHEN = {"before": "before training", "warm": "after warm start", "after": " after training"}
"""The moments of the final evaluation, as they are said."""


class HeldOut:
    """Evaluates ``run``'s policy; keeps ``best/`` and ``progress.best``."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def choose_best(self) -> dict[str, float]:
        """Evaluate the policy as it stands; publish it as ``best/`` if no earlier one did better."""
        run, config = self.run, self.run.config.eval
        if config.episodes == 0:
            return {}
        results = self._all(self._policy(run.model), config.seed, config.episodes, "held-out episodes")
        for result in results:
            name = f"step-{run.progress.step:06d}-{result.env.replace('/', '-')}"
            run.store.write_eval(name, {**result.as_dict(), "policy": str(run.store.root), "step": run.progress.step})
        success = sum(r.success for r in results) / len(results)
        if success > run.progress.best:
            run.progress = dataclasses.replace(run.progress, best=success, best_step=run.progress.step)
            publish(run, "best")
        return {"eval/success": success, **{f"eval/success/{r.env}": r.success for r in results}}

    def final(self, when: str) -> list[EvalResult]:
        """Evaluate ``before`` training, after a ``warm`` start, or ``after`` all with the best; say the figures."""
        run, config = self.run, self.run.config.eval
        if config.final_episodes == 0:
            return []
        said = WHEN[when]
        run.reporter.say(f"{said}  {config.final_episodes} held-out episodes ...")
        run.processes.wait()  # for what the first of them has published
        best = run.store.root / "best"
        if when == "after" and best.is_dir():
            args = run.config.training_args
            device = run.processes.device
            model = load_model(find_model(str(best)), dtype_of(args), device, four_bit=args.load_in_4bit)
        else:
            model = run.model
        results = self._all(self._policy(model), config.final_seed, config.final_episodes, f"{when}: held-out episodes")
        for result in results:
            run.store.write_eval(f"{when}-{result.env.replace('/', '-')}", {**result.as_dict(), "when": when})
            run.reporter.say(f"{said}  {result}")
        if config.blind:
            self._blind(when, self._policy(model))
        return results

    def _blind(self, when: str, policy: HFPolicy) -> None:
        """The same evaluation with grey in the place of every image."""
        run, config = self.run, self.run.config.eval
        for result in self._all(Blind(policy), config.final_seed, config.final_episodes, f"{when}, blind: episodes"):
            name = f"{when}-blind-{result.env.replace('/', '-')}"
            run.store.write_eval(name, {**result.as_dict(), "when": when, "blind": True})
            run.reporter.say(f"{WHEN[when]}, images replaced by grey: {result}")

    def _policy(self, model: object) -> HFPolicy:
        rollout = self.run.config.rollout
        vision = self.run.learner.vision if model is self.run.model else None
        return HFPolicy(model, self.run.processing, self.run.config.eval.temperature, rollout.max_new_tokens,
                        rollout.max_context, vision, self.run.precision.sample)  # fmt: skip

    def _all(self, policy: Policy, seed: int, episodes: int, what: str) -> list[EvalResult]:
        run = self.run
        rollout, limits = run.config.rollout, EpisodeLimits(run.config.eval.max_turns, run.config.rollout.window)
        scheduler = SharedScheduler(limits, rollout.concurrency, rollout.max_batch, rollout.deterministic,
                                    run.processes, run.shards)  # fmt: skip
        environments: list[EnvironmentConfig] = run.config.eval.environments or run.config.environments
        seeds = range(seed, seed + episodes)
        run.reporter.begin(what, episodes * len(environments))
        return [
            run_sync(evaluate(e.id, e.kwargs, policy, seeds, scheduler, on_done=run.reporter.episode))[0]
            for e in environments
        ]
