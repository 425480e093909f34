"""Make ``mmrl/tiny-vlm``: a small LLaVA that imitates experts on pixels, stopped early.

Episodes of MiniGrid's bot on BALROG's five tasks and GoToLocal, seen as pictures (with some random actions in between,
which are shown but not imitated), and questions about scenes of shapes and MiniGrid frames with their answers train a
tokenizer and a model of about 3 M parameters.  Its text model has the architecture of ``mmrl/tiny``; a patch of its
vision tower is a tile of the agent's view.

    python scripts/build_tiny_vlm.py            # writes assets/mmrl_assets/tiny-vlm
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from build_tiny import FIRST_SEED, SPECIAL, make_tokenizer
from shapes_talks import QUESTIONS_EACH, talks
from tiny_eye import teach

from mmrl.episode import EpisodeLimits, EpisodeSpec
from mmrl.evaluate import evaluate
from mmrl.make import make
from mmrl.rollout import Scheduler, run_sync
from mmrl.sample import Sample, Text, images_of
from mmrl.training_args import TrainingArgs
from mmrl.trajectory import Trajectory, Turn
from mmrl_agents.batch import Segment
from mmrl_agents.image_tokens import ImageTokens
from mmrl_agents.imitation import imitation_segments
from mmrl_agents.learner import Learner
from mmrl_agents.policies.hf import HFPolicy
from mmrl_agents.policies.noisy_expert import NoisyExpert
from mmrl_agents.sft import pick
from mmrl_agents.transcript import Transcript
from mmrl_agents.vision import Vision

PIXELS = {"observation": "image"}
TURNS = ("turn left", "turn right", "go forward", "go forward", "pick up")


@dataclass(frozen=True)
class Lesson:
    """Episodes of one environment, and how many segments of them a step imitates (0.1: one every ten steps).

    ``first`` counts while the model learns to look things up in a picture, ``then`` while it learns to act as well.
    """

    episodes: int
    first: float
    then: float
    kwargs: Mapping[str, Any]


TALKS = "talks"
SHAPES = {"image_size": 56}
LESSONS = {
    "babyai/balrog-goto": Lesson(1_200, 0, 3, PIXELS),
    "babyai/balrog-pickup": Lesson(400, 0, 0.4, PIXELS),
    "babyai/balrog-open": Lesson(100, 0, 0.05, PIXELS),
    "babyai/balrog-putnext": Lesson(100, 0, 0.05, PIXELS),
    "babyai/balrog-pick_up_seq_go_to": Lesson(100, 0, 0.05, PIXELS),
    "babyai/GoToLocal": Lesson(400, 0, 0.6, PIXELS),
    "vqa/minigrid": Lesson(2_000, 0.5, 1, {}),
}
DESCRIBE = "What do you see?"
DESCRIPTIONS = {
    "babyai/GoToLocal": Lesson(1_000, 0.4, 0.4, PIXELS),
    "vqa/shapes": Lesson(1_000, 0.4, 0.2, SHAPES),
}
"""Pictures that are put into words, the simulator's own."""
ALL = {**LESSONS, **{f"describe {env}": lesson for env, lesson in DESCRIPTIONS.items()},
       TALKS: Lesson(6_000, 8, 2, SHAPES)}  # fmt: skip


@dataclass(frozen=True)
class Goal:
    """Where a part of the training is over: at this success on this environment, or after so many steps."""

    env: str
    kwargs: Mapping[str, Any]
    success: float
    first_check: int
    most_steps: int


GOALS = (
    Goal("vqa/shapes", {**SHAPES, "kinds": ["existence", "colour", "shape"]}, 0.5, 250, 700),
    Goal("babyai/balrog-goto", PIXELS, 0.35, 150, 500),
)
"""More than half of what there is to learn is left to rewards.  The shapes' goal was not met in its steps."""
COUNTING = {**SHAPES, "kinds": ["count"]}
"""Reported, and no goal: it takes far longer to learn."""
CHECK_SEED, CHECK_EPISODES, CHECK_EVERY = 3_000_000, 150, 25
"""The episodes that say when to stop, and the steps between checks; nothing else uses these seeds."""
IMAGE = "<image>"
SPREAD = 1.6
"""The standard deviation of what a layer makes of inputs of 1, as it is drawn."""
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def collect(env: str, lesson: Lesson, noise: float, limit: int) -> tuple[list[Trajectory], dict[str, list[bool]]]:
    """Episodes of the noisy expert on one environment."""
    expert = NoisyExpert(noise)
    specs = [EpisodeSpec(f"{env}-{i:05d}", env, FIRST_SEED + i, env, (98, i), lesson.kwargs)
             for i in range(lesson.episodes)]  # fmt: skip
    found = run_sync(Scheduler(EpisodeLimits(max_turns=limit), concurrency=64).run(specs, expert))
    return [t for t in found if t.error is None and t.turns], expert.own


def describe(env_id: str, lesson: Lesson) -> list[Trajectory]:
    """One picture an episode, a few random turns into it, and what the simulator says of it."""
    env, found = make(env_id, **lesson.kwargs), list[Trajectory]()
    for i in range(lesson.episodes):
        rng = np.random.default_rng(i)
        content, info = env.reset(seed=FIRST_SEED + 500_000 + i)
        words: str = info["sample"].meta.get("caption", "")
        for _ in range(i % 6 if not words else 0):
            content, _, *ended, info = env.step(str(rng.choice(TURNS)))
            if any(ended):
                break
        sample = Sample.ask((*images_of(content), Text(DESCRIBE)), words or info["description"], id=f"{env_id}-{i}")
        said = Turn(sample.messages[0].content, words or info["description"])
        found.append(Trajectory(sample.id, env_id, i, sample.id, sample, (said,), True, False))
    return [t for t in found if t.response]


def make_processor(trajectories: Sequence[Trajectory]) -> Any:
    """A tokenizer of the episodes' own words, and CLIP's image processor at 56x56."""
    from transformers import CLIPImageProcessor, LlavaProcessor

    tokenizer = make_tokenizer(trajectories)
    tokenizer.add_special_tokens({"additional_special_tokens": [*SPECIAL[2:], IMAGE]})
    tokenizer.chat_template = TEMPLATE
    side = {"height": 56, "width": 56}
    image = CLIPImageProcessor(size=side, crop_size=side, do_center_crop=False, image_mean=[0.5] * 3,
                               image_std=[0.5] * 3)  # fmt: skip
    return LlavaProcessor(image, tokenizer, patch_size=8, vision_feature_select_strategy="default",
                          num_additional_image_tokens=1, chat_template=TEMPLATE)  # fmt: skip


def make_model(tokenizer: Any) -> Any:
    """A LLaVA of about 3 M parameters, freshly drawn."""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=192, intermediate_size=640, num_hidden_layers=4, num_attention_heads=6,
        max_position_embeddings=8192, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    vision = CLIPVisionConfig(hidden_size=192, intermediate_size=512, num_hidden_layers=3, num_attention_heads=6,
                              image_size=56, patch_size=8, hidden_act="gelu")  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        vision_feature_layer=-1, vision_feature_select_strategy="default", image_seq_length=49,
        tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config)
    # So narrow a model, drawn by default (0.02), attends to everything alike for long.
    for layer in model.model.language_model.layers:
        for name, weight in layer.named_parameters():
            if weight.ndim == 2:
                depth = 2 * text.num_hidden_layers if name.endswith(("o_proj.weight", "down_proj.weight")) else 1
                torch.nn.init.normal_(weight, std=SPREAD / (weight.shape[1] * depth) ** 0.5)
    # As they are drawn by default, places hardly show beside pixels, and a picture hardly beside words.
    torch.nn.init.normal_(model.model.vision_tower.embeddings.position_embedding.weight, std=0.2)
    for layer in (model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2):
        torch.nn.init.xavier_uniform_(layer.weight)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


def segments_of_all(trajectories: Sequence[Trajectory], own: Mapping[str, list[bool]],
                    transcript: Transcript) -> list[Segment]:
    """Whole transcripts; of an episode in ``own`` only the turns that are marked there."""
    return [s for i, t in enumerate(trajectories)
            for s in imitation_segments(t, i, transcript, None, own.get(t.id, [True] * len(t.turns))[: len(t.turns)])]


def success(model: Any, processor: Any, env: str, kwargs: Mapping[str, Any]) -> float:
    """Success on one environment, sampled at temperature 1."""
    policy, seeds = HFPolicy(model, processor, max_new_tokens=8), range(CHECK_SEED, CHECK_SEED + CHECK_EPISODES)
    scheduler = Scheduler(EpisodeLimits(max_turns=20), concurrency=CHECK_EPISODES)
    result, _ = run_sync(evaluate(env, kwargs, policy, seeds, scheduler))
    print(f"    {result}", flush=True)
    return result.success


def lessons(segments: Mapping[str, Sequence[Segment]], step: int, part: int) -> list[Segment]:
    """The segments of one step of a part, numbered anew."""
    found: list[Segment] = []
    for name, lesson in ALL.items():
        share = (lesson.first, lesson.then)[part]
        begin, end = int((step - 1) * share), int(step * share)
        found += [s for n in range(begin, end) for s in pick(segments[name], n + 1, 1, part)]
    return [dataclasses.replace(s, trajectory=i) for i, s in enumerate(found)]


def train(learner: Learner, segments: Mapping[str, Sequence[Segment]], processor: Any) -> list[int]:
    """Both parts, each to its goal; the steps of each."""
    took, began = list[int](), time.monotonic()
    for part, goal in enumerate(GOALS):
        step = 0
        while step < goal.most_steps:
            step += 1
            metrics = learner.imitate(lessons(segments, step, part))
            if step % CHECK_EVERY == 0:
                print(f"part {part + 1}  step {step}  loss {metrics['loss']:.3f}  {time.monotonic() - began:.0f} s",
                      flush=True)  # fmt: skip
                if step < goal.first_check:
                    continue
                if success(learner.model, processor, goal.env, goal.kwargs) >= goal.success:
                    break
        took.append(step)
    return took


def card(size: int, steps: Sequence[int], episodes: int, noise: float, reached: Mapping[str, float]) -> str:
    """The model card."""
    figures = "\n".join(f"- {what}: {share:.1%}" for what, share in reached.items())
    return f"""---
license: apache-2.0
library_name: transformers
---

# mmrl/tiny-vlm

A LLaVA of {size:,} parameters: a CLIP tower (3 layers, 192 wide, 56x56 pixels in patches of 8x8, so that a patch is a
tile of MiniGrid's 7x7 view), a projector, and a Llama of the architecture of mmrl/tiny.  It was made to be trained
further: a start for reinforcement learning from pixels that fits into a repository and a laptop.

**How it was made.** `python scripts/build_tiny_vlm.py` collects {episodes:,} episodes, seeds from {FIRST_SEED:,} up:
MiniGrid's BabyAIBot on BALROG's five BabyAI tasks and on BabyAI-GoToLocal, seen as pictures alone, and questions of
vqa/minigrid with their right answers; also conversations about scenes of vqa/shapes, {QUESTIONS_EACH} questions each,
and pictures with the simulator's own words for them.  Its vision tower and projector first learn to put each patch of
scenes and views into the direction of the words for what is in it.  Then the model imitates (AdamW, seed 0, the tower
frozen) for {steps[0]} steps mostly conversations about scenes, and for {steps[1]} steps mostly episodes.  In the grid
worlds {noise:.0%} of the actions are random; they are shown, but not imitated.  Both parts are **deliberately stopped
early**.  Sampled at temperature 1 on {CHECK_EPISODES} episodes each, seeds {CHECK_SEED:,} and up, at most 20 turns:

{figures}

**What it is not for.** Anything else.  It knows these pictures and the words of these tasks, and no others.
"""


def main() -> None:
    """Collect, train until both goals are reached, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("assets/mmrl_assets/tiny-vlm"))
    parser.add_argument("--eye", type=int, default=300, help="steps of teaching the vision tower")
    parser.add_argument("--noise", type=float, default=0.25)
    options = parser.parse_args()
    import torch  # after mmrl_agents, which says how torch's threads wait

    torch.manual_seed(0)
    torch.set_num_threads(2)
    began = time.monotonic()
    found = {env: collect(env, lesson, options.noise, 40) for env, lesson in LESSONS.items()}
    told = {f"describe {env}": describe(env, lesson) for env, lesson in DESCRIPTIONS.items()}
    told[TALKS] = talks(ALL[TALKS].episodes, SHAPES["image_size"])
    episodes = [t for trajectories, _ in found.values() for t in trajectories]
    print(f"{len(episodes)} episodes in {time.monotonic() - began:.0f} s", flush=True)
    processor = make_processor([*episodes, *(t for trajectories in told.values() for t in trajectories)])
    model = make_model(processor.tokenizer)
    print(f"the eye: {teach(model, processor.tokenizer, options.eye)}  {time.monotonic() - began:.0f} s", flush=True)
    model.model.vision_tower.requires_grad_(False)
    transcript = Transcript(processor, [processor.tokenizer.eos_token_id])
    segments = {env: segments_of_all(trajectories, own, transcript) for env, (trajectories, own) in found.items()}
    segments |= {name: segments_of_all(trajectories, {}, transcript) for name, trajectories in told.items()}
    size = sum(p.numel() for p in model.parameters())
    print(f"{size:,} parameters, vocabulary {len(processor.tokenizer)}", flush=True)
    args = TrainingArgs(learning_rate=5e-4, warmup_steps=20, per_device_train_batch_size=64, weight_decay=0.01,
                        max_tokens_per_micro_batch=4096)  # fmt: skip
    vision = Vision(model, ImageTokens(processor))
    learner = Learner(model, args, 1.0, sum(goal.most_steps for goal in GOALS), vision=vision)
    steps = train(learner, segments, processor)
    checked = [*((goal.env, goal.kwargs) for goal in GOALS), ("vqa/shapes", COUNTING)]
    reached = {f"{env} {dict(kwargs)}": success(model, processor, env, kwargs) for env, kwargs in checked}
    model.save_pretrained(options.out)
    processor.save_pretrained(options.out)
    (options.out / "README.md").write_text(card(size, steps, len(episodes), options.noise, reached))
    print(f"{options.out} in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
