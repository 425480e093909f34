"""Teach a small vision tower to see, tile by tile: what lies in each patch of a scene or of a MiniGrid view.

Comes in: a LLaVA whose patches are the cells of scenes of shapes and the tiles of the agent's view, and the simulators,
which know what is in each.  Goes out: its tower and projector, taught to put each patch into the model's own words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX
from numpy.typing import NDArray
from torch.nn.functional import normalize

from mmrl.make import make
from mmrl.sample import images_of
from mmrl_envs.babyai import BabyAI
from mmrl_envs.shapes_scene import COLORS, GRID, SHAPES, SIZES, draw_scene, paint

SCENE_WORDS = (("", *SHAPES), ("", *COLORS), ("", *SIZES))
"""What a cell of a scene is called, by its answers; nothing where there is nothing."""
VIEW_WORDS = (
    tuple("" if word in ("unseen", "empty", "floor", "agent") else word for word in OBJECT_TO_IDX), tuple(COLOR_TO_IDX),
    ("open", "closed", "locked"),
)  # fmt: skip
"""What a tile of a view is called, by MiniGrid's encoding."""
SHARP = 20.0
"""How sharply a direction picks its words."""
NORM = 1.0
"""The length that features are drawn to: a few times that of a word, so that both count."""
TURNS = ("turn left", "turn right", "go forward", "go forward", "pick up", "toggle", "drop")


@dataclass(frozen=True)
class Seen:
    """Pictures, uint8 (n, 56, 56, 3), and an answer for each patch of each, (n, 49, 3)."""

    pictures: NDArray[np.uint8]
    answers: NDArray[np.int64]


def scenes(count: int, seed: int) -> Seen:
    """Scenes of one to six shapes."""
    rng = np.random.default_rng(seed)
    pictures = np.zeros((count, 56, 56, 3), np.uint8)
    answers = np.zeros((count, GRID, GRID, 3), np.int64)
    for n in range(count):
        scene = draw_scene(rng, most=6, shapes=SHAPES if n % 2 else SHAPES[:3], jitter=float(rng.random()) * (n % 2))
        pictures[n] = paint(scene, 56)
        for thing in scene.things:
            (column, row), kind = thing.cell, thing.kind
            known = (SHAPES.index(kind.shape), list(COLORS).index(kind.color), list(SIZES).index(kind.size))
            answers[n, row, column] = [1 + k for k in known]
    return Seen(pictures, answers.reshape(count, GRID * GRID, 3))


def views(count: int, seed: int) -> Seen:
    """The agent's views in random walks through BabyAI levels."""
    rng = np.random.default_rng(seed)
    names = ("GoToLocal", "balrog-goto", "balrog-open", "balrog-putnext", "PutNextLocal")
    envs = [make(f"babyai/{name}", observation="image") for name in names]
    pictures, answers = np.zeros((count, 56, 56, 3), np.uint8), np.zeros((count, GRID, GRID, 3), np.int64)
    env: Any = None
    for n in range(count):
        fresh = n % 12 == 0
        if fresh:
            env = envs[n // 12 % len(envs)]
            content = env.reset(seed=seed + n)[0]
        else:
            content, _, *ended, _ = env.step(str(rng.choice(TURNS)))
            if any(ended):
                content = env.reset(seed=seed + n)[0]
        assert isinstance(env, BabyAI)
        pictures[n] = images_of(content)[-1].pixels
        answers[n] = env.simulator.gen_obs()["image"].transpose(1, 0, 2)
    return Seen(pictures, answers.reshape(count, GRID * GRID, 3))


def batches(seen: Seen, size: int, steps: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Random batches, as the image processor of the model would give them: pixels in [-1, 1]."""
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        at = rng.integers(len(seen.pictures), size=size)
        pixels = torch.from_numpy(seen.pictures[at]).permute(0, 3, 1, 2).float() / 127.5 - 1
        yield pixels, torch.from_numpy(seen.answers[at])


def words_of(answers: torch.Tensor, names: Sequence[Sequence[str]], tokens: Mapping[str, list[int]],
             size: int) -> torch.Tensor:
    """The words of each patch, shape (n, patches, vocabulary): evenly over their tokens, 0 where there is nothing."""
    out = torch.zeros(*answers.shape[:2], size)
    for place, known in enumerate(names):
        table = torch.zeros(len(known), size)
        for n, name in enumerate(known):
            for token in tokens.get(name, []):
                table[n, token] = 1.0
        out += table[answers[..., place]]
    nothing = torch.tensor([not name for name in names[0]])[answers[..., 0]]
    plain = torch.tensor([name != "door" for name in names[0]])[answers[..., 0]]
    if names is VIEW_WORDS:  # only doors have a state
        state = torch.zeros(size)
        state[[t for name in names[2] for t in tokens[name]]] = 1.0
        out = torch.where(plain[..., None] & (state > 0), 0.0, out)
    out[nothing] = 0.0
    return out / out.sum(-1, keepdim=True).clamp(min=1.0)


def teach(model: Any, tokenizer: Any, steps: int, size: int = 32, rate: float = 2e-3) -> dict[str, float]:
    """Teach a LLaVA's tower and projector to give each patch the direction of the words for what is in it.

    The words are the language model's own embeddings, so that it finds in a picture what it would find in a text.

    Returns:
        The share of patches with something in them whose likeliest token was one of its words, over the last steps.
    """
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    embedding = model.get_input_embeddings().weight
    names = {word for group in (*SCENE_WORDS, *VIEW_WORDS) for word in group if word}
    tokens = {word: sorted({t for text in (word, f" {word}") for t in tokenizer(text)["input_ids"]}) for word in names}
    parameters = [*tower.parameters(), *projector.parameters(), embedding]
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    right: dict[str, list[float]] = {"scenes": [], "views": []}
    drawn, walked = scenes(12_000, 1), views(12_000, 9_000_000)
    for both in zip(batches(drawn, size, steps, 2), batches(walked, size, steps, 3), strict=True):
        features = projector(tower(torch.cat([p for p, _ in both]), output_hidden_states=True).hidden_states[-1][:, 1:])
        wanted = [words_of(answers, known, tokens, len(embedding))
                  for (_, answers), known in zip(both, (SCENE_WORDS, VIEW_WORDS), strict=True)]  # fmt: skip
        loss = 0.1 * (features.norm(dim=-1) - NORM).square().mean()
        towards = SHARP * normalize(features, dim=-1) @ normalize(embedding, dim=-1).T
        for half, target, name in zip(towards.split(size), wanted, right, strict=True):
            there = target.sum(-1) > 0
            loss = loss - (target * half.log_softmax(-1)).sum(-1)[there].mean()
            named = target.gather(-1, half.argmax(-1, keepdim=True))[..., 0] > 0
            right[name].append(float(named[there].float().mean()))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    return {name: sum(found[-20:]) / len(found[-20:]) for name, found in right.items()}
