"""Make ``mmrl/tiny``: a small Llama that imitates the expert, stopped early.

Episodes of MiniGrid's bot on BALROG's five tasks and GoToLocal (with some random actions in between, which are
shown but not imitated), and short arithmetic, train a tokenizer and a model of about 2 M parameters.

    python scripts/build_tiny.py            # writes assets/mmrl_assets/tiny
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmrl.episode import EpisodeLimits, EpisodeSpec
from mmrl.evaluate import evaluate
from mmrl.rollout import Scheduler, run_sync
from mmrl.training_args import TrainingArgs
from mmrl.trajectory import Trajectory
from mmrl_agents.batch import Segment
from mmrl_agents.imitation import imitation_segments
from mmrl_agents.learner import Learner
from mmrl_agents.policies.hf import HFPolicy
from mmrl_agents.policies.noisy_expert import NoisyExpert
from mmrl_agents.sft import pick
from mmrl_agents.transcript import Transcript

ENVIRONMENTS = {
    "babyai/balrog-goto": 500,
    "babyai/balrog-pickup": 500,
    "babyai/balrog-open": 400,
    "babyai/balrog-putnext": 400,
    "babyai/balrog-pick_up_seq_go_to": 400,
    "babyai/GoToLocal": 1000,
    "text/arithmetic": 600,
}
FIRST_SEED = 2_000_000
"""Far from the training seeds (1,000,000 and up) and the held-out ones (0 and up)."""
CHECK_SEED, CHECK_EPISODES = 3_000_000, 128
"""The episodes that say when to stop; nothing else uses these seeds."""
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]


def collect(noise: float, limit: int) -> tuple[list[Trajectory], dict[str, list[bool]]]:
    """Episodes of the noisy expert on every environment."""
    expert = NoisyExpert(noise)
    specs = [
        EpisodeSpec(f"{env}-{i:05d}", env, FIRST_SEED + i, env, (99, i))
        for env, count in ENVIRONMENTS.items()
        for i in range(count)
    ]
    scheduler = Scheduler(EpisodeLimits(max_turns=limit), concurrency=64)
    found: list[Trajectory] = run_sync(scheduler.run(specs, expert))
    return [t for t in found if t.error is None and t.turns], expert.own


def make_tokenizer(trajectories: Sequence[Trajectory]) -> Any:
    """A byte-level BPE of the episodes' own words; digits stand alone."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator((m.text for t in trajectories for m in t.messages), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>")
    fast.add_special_tokens({"additional_special_tokens": SPECIAL[2:]})
    fast.chat_template = TEMPLATE
    return fast


def make_model(tokenizer: Any) -> Any:
    """A Llama of about 2 M parameters, freshly drawn."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=6,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


def segments_of_all(
    trajectories: Sequence[Trajectory], own: dict[str, list[bool]], transcript: Transcript
) -> list[Segment]:
    """Three episodes in four as whole transcripts, the fourth cut to windows of one to four turns."""
    out: list[Segment] = []
    for i, t in enumerate(trajectories):
        window = None if i % 4 else 1 + (i // 4) % 4
        out += imitation_segments(t, len(out), transcript, window, own[t.id][: len(t.turns)])
    return out


def goto_success(model: Any, tokenizer: Any) -> float:
    """Success on the goto task."""
    policy, seeds = HFPolicy(model, tokenizer, max_new_tokens=8), range(CHECK_SEED, CHECK_SEED + CHECK_EPISODES)
    result, _ = run_sync(evaluate("babyai/balrog-goto", {}, policy, seeds, Scheduler(concurrency=CHECK_EPISODES)))
    print(f"    {result}", flush=True)
    return result.success


def card(size: int, vocabulary: int, steps: int, episodes: int, noise: float, goto: float) -> str:
    """The model card."""
    return f"""---
license: apache-2.0
library_name: transformers
---

# mmrl/tiny

A Llama of {size:,} parameters with a byte-level BPE tokenizer of {vocabulary} tokens and a chat template of its own,
made to be trained further: a start for reinforcement learning that fits into a repository and a laptop.

**How it was made.** `python scripts/build_tiny.py` runs MiniGrid's BabyAIBot on BALROG's five BabyAI tasks and on
BabyAI-GoToLocal, and solves short sums: {episodes} episodes, seeds from {FIRST_SEED:,} up.  In the grid worlds
{noise:.0%} of the actions are random; they are shown, but not imitated.  The model imitates the rest for {steps} steps
of 32 segments (AdamW, seed 0) and is **deliberately stopped early**, as soon as about half of the goto episodes
succeed: {goto:.1%} of {CHECK_EPISODES} episodes of babyai/balrog-goto, sampled at temperature 1, seeds
{CHECK_SEED:,} and up.

**What it is not for.** Anything else.  It knows the words of these tasks and no others.
"""


def main() -> None:
    """Collect, train until the goto task is half solved, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("assets/mmrl_assets/tiny"))
    parser.add_argument("--target", type=float, default=0.5, help="success on babyai/balrog-goto to stop at")
    parser.add_argument("--noise", type=float, default=0.25)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--check", type=int, default=10)
    options = parser.parse_args()
    import torch  # after mmrl_agents, which says how torch's threads wait

    torch.manual_seed(0)
    torch.set_num_threads(2)
    began = time.monotonic()
    trajectories, own = collect(options.noise, 40)
    print(f"{len(trajectories)} episodes in {time.monotonic() - began:.0f} s", flush=True)
    tokenizer = make_tokenizer(trajectories)
    model = make_model(tokenizer)
    transcript = Transcript(tokenizer, [tokenizer.eos_token_id])
    segments = segments_of_all(trajectories, own, transcript)
    size = sum(p.numel() for p in model.parameters())
    tokens = sum(len(s.ids) for s in segments)
    print(f"{size:,} parameters, vocabulary {len(tokenizer)}, {len(segments)} segments, {tokens:,} tokens", flush=True)
    args = TrainingArgs(learning_rate=1e-3, warmup_steps=20, per_device_train_batch_size=64, weight_decay=0.01,
                        max_tokens_per_micro_batch=4096)
    learner = Learner(model, args, 1.0, options.steps)
    step, goto = 0, 0.0
    while step < options.steps and goto < options.target:
        step += 1
        metrics = learner.imitate(pick(segments, step, 32, 0))
        if step >= 40 and step % options.check == 0:
            print(f"step {step}  loss {metrics['loss']:.3f}  {time.monotonic() - began:.0f} s", flush=True)
            goto = goto_success(model, tokenizer)
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    text = card(size, len(tokenizer), step, len(trajectories), options.noise, goto)
    (options.out / "README.md").write_text(text)


if __name__ == "__main__":
    main()
