from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_tools import StopAfter, llama, repeatable, run_config, trajectory, turn
from safetensors.torch import load_file
from torch import Tensor

from mmrl.config import Config
from mmrl.config_load import LoadedConfig, load_config
from mmrl.errors import BadInput
from mmrl.report import Quiet
from mmrl.store import RunStore
from mmrl.training_args import TrainingArgs
from mmrl_agents.credit import credit
from mmrl_agents.critic import Critic
from mmrl_agents.learner import Learner
from mmrl_agents.ppo import Ppo


def ppo_config(folder: Path, name: str = "run", args: dict[str, Any] | None = None, **sections: Any) -> LoadedConfig:
    """A short run with whole batches of single episodes."""
    loaded = run_config(folder, name, train_type="PPO", training_args=args or {}, **sections)  # type: ignore[arg-type]
    text = (folder / f"{name}.yaml").read_text()
    (folder / f"{name}.yaml").write_text(text.replace("  num_generations: 4\n", ""))
    return load_config(loaded.path)


def train(loaded: LoadedConfig, resume: bool = False, reporter: Any = None) -> Path:
    made = Ppo()
    made.check(loaded)
    return made.train(loaded, resume, reporter or Quiet())


def test_its_defaults_are_ppos_and_can_be_set(tmp_path: Path) -> None:
    args = ppo_config(tmp_path).config.training_args
    assert (args.advantage, args.num_generations, args.num_iterations, args.normaliser, args.epsilon_high) == (
        "gae", 1, 4, "dapo", 0.2)  # fmt: skip
    assert args.gradient_accumulation_steps == 2  # what the file says stays
    said = ppo_config(tmp_path, args={"num_iterations": 2, "advantage": "gae_turn"}).config.training_args
    assert (said.advantage, said.num_iterations, said.normaliser) == ("gae_turn", 2, "dapo")
    bare = {"train_type": "PPO", "model_id": "m", "environments": [{"id": "e"}]}
    assert Config.model_validate(bare).training_args.advantage == "gae"
    assert Config.model_validate({**bare, "train_type": "GRPO"}).training_args == TrainingArgs()


def test_an_advantage_without_a_critic_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        Ppo().check(ppo_config(tmp_path, args={"advantage": "reinforce_pp"}))
    assert str(error.value).endswith("PPO learns with a critic, and advantage 'reinforce_pp' asks none; take gae or "
                                     "gae_turn, or train_type GRPO")  # fmt: skip
    assert str(error.value).startswith(f"{tmp_path}/run.yaml:")
    with pytest.raises(BadInput, match="PPO needs at least one entry in reward_plugins"):
        Ppo().check(ppo_config(tmp_path, reward_plugins=[]))


def bits(root: Path, step: int = 4) -> dict[str, Tensor]:
    """All that a checkpoint holds: weights, critic, moments, random state."""
    folder = root / "checkpoints" / f"step-{step}"
    out = {n: t for file in folder.glob("*.safetensors") for n, t in load_file(file).items()}
    state = torch.load(folder / "learner.pt", weights_only=True)
    for i, moments in state["optimizer"]["state"].items():
        out |= {f"{i}/{n}": t for n, t in moments.items()}
    return {**out, **{f"critic/{n}": t for n, t in state["critic"].items()}, "rng": state["rng"]}


KINDS: dict[str, dict[str, Any]] = {
    "tokens": {"args": {"num_iterations": 2, "critic_learning_rate": 0.01}},
    "turns under a window, lora, KL in the reward": {
        "args": {"advantage": "gae_turn", "turn_discount": 0.9, "num_iterations": 2, "kl_coef": 0.1, "kl_in": "reward",
                 "lora": {"r": 2, "dropout": 0.1}, "learning_rate": 0.01},
        "environments": [{"id": "babyai/GoToLocal"}], "rollout": {"max_new_tokens": 4, "max_turns": 3, "window": 2},
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path, kind: str) -> None:
    whole = train(ppo_config(tmp_path, "whole", **KINDS[kind]))
    cut = ppo_config(tmp_path, "cut", **KINDS[kind])
    with pytest.raises(KeyboardInterrupt):
        train(cut, reporter=StopAfter(2))
    train(cut, resume=True)
    a, b = bits(whole), bits(cut.output_dir)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert bool(a["critic/weight"].any())
    lines = [repeatable(RunStore(r).metrics()) for r in (whole, cut.output_dir)]
    assert lines[0] == lines[1]
    assert not any("critic" in n for f in (whole / "final").glob("*.safetensors") for n in load_file(f))


def test_metrics_of_a_run(tmp_path: Path) -> None:
    first, *others = RunStore(train(ppo_config(tmp_path, args={"kl_coef": 0.1, "kl_in": "reward",
                                                               "learning_rate": 0.01}))).metrics()  # fmt: skip
    assert (first["value"], first["explained_variance"], first["kl"], first["kl_charge"]) == (0.0, 0.0, 0.0, 0.0)
    assert first["value_loss"] > 0
    assert first["ratio_deviation"] > 0  # the last of four iterations
    assert all(m["value"] != 0 and m["kl"] != 0 for m in others)
    # Of each trajectory's reward the sum over its tokens is taken off.
    for m in others:
        assert m["kl_charge"] == pytest.approx(0.1 * m["kl"] * m["tokens"] / 8, rel=1e-6)


def test_grpo_learns_with_a_critic_too(tmp_path: Path) -> None:
    """The advantage alone decides: the same keys under either name are the same run."""
    args = {"advantage": "gae", "num_iterations": 2, "max_steps": 2}
    grpo = {**args, "num_generations": 1, "normaliser": "dapo", "epsilon_high": 0.2}
    one = train(ppo_config(tmp_path, "one", args=args))
    two = train(run_config(tmp_path, "two", training_args=grpo))
    assert all(torch.equal(a, bits(two, 2)[k]) for k, a in bits(one, 2).items())


@pytest.mark.parametrize("advantage", ["gae", "gae_turn"])
def test_training_makes_a_rewarded_answer_likelier(tmp_path: Path, advantage: str) -> None:
    """The whole loop against what it is for: the reward rises, clearly."""
    args = {"advantage": advantage, "num_iterations": 2, "max_steps": 40, "learning_rate": 0.005, "save_steps": 100,
            "lr_scheduler_type": "constant", "critic_learning_rate": 0.02}  # fmt: skip
    rewards = [m["reward"] for m in RunStore(train(ppo_config(tmp_path, args=args))).metrics()]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.1


ARMS, BEST, PULLS = 10, 7, 64


def bandit(policy: Any, generator: torch.Generator) -> Sequence[Any]:
    """Pulls of one of ten arms: an episode is one token, the ids 2 to 11; the others pay nothing too."""
    prompt = [3, 2]
    with torch.no_grad():
        logp = torch.log_softmax(policy(input_ids=torch.tensor([prompt])).logits[0, -1], -1)
    pulled = torch.multinomial(logp.exp(), PULLS, replacement=True, generator=generator).tolist()
    return [trajectory(f"t{i}", [turn(prompt, [arm], [float(logp[arm])])], 3.0 + float(arm - 2 == BEST))
            for i, arm in enumerate(pulled)]  # fmt: skip


def test_ten_arms_are_learned_without_groups() -> None:
    """The best arm goes from rare to nearly always, and the critic says what it pays."""
    model = llama(vocab_size=2 + ARMS, dtype=torch.float32)
    config = Config.model_validate({
        "train_type": "PPO", "model_id": "m", "environments": [{"id": "e"}],
        "training_args": {"learning_rate": 1e-3, "critic_learning_rate": 0.05, "value_clip": None,
                          "per_device_train_batch_size": PULLS},
    })  # fmt: skip
    made = Learner(model, config.training_args, 1.0, 160, critic=Critic.of(model))
    generator = torch.Generator().manual_seed(0)
    paid, metrics = list[float](), dict[str, float]()
    for _ in range(40):
        batch = bandit(model, generator)
        paid.append(sum(t.record.value for t in batch) / PULLS)
        foreseen = made.foresee(batch)
        earned = credit(batch, 1, config, foreseen)
        metrics = made.update(batch, [a for a in earned.advantages if a is not None], None, earned.tokens,
                              earned.returns, foreseen)  # fmt: skip
    assert paid[0] < 3.1
    assert min(paid[-5:]) > 3.9
    assert metrics["value"] == pytest.approx(4.0, abs=0.2)
