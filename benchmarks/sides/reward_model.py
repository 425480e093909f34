"""A reward model as RLHF has it: the policy's own architecture and weights, with a score in the place of the words.

It reads a whole episode, what the environment showed last included, and says how likely it was a success.  It learns
from labelled rollouts, by the cross-entropy of their labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import mmrl
import mmrl_agents  # noqa: F401 - before torch: it says how waiting threads wait
from mmrl_agents.models import find_model, load_processing
from mmrl_agents.transcript import Transcript
from mmrl_agents.turns import end_ids

BATCH, RATE, EPOCHS, HELD_OUT = 32, 5e-4, 3, 8
"""Of the rollouts, one in ``HELD_OUT`` is not learned from."""


class Reader:
    """Episodes as the reward model reads them."""

    def __init__(self, model: str) -> None:
        processing = load_processing(find_model(model))
        self._transcript = Transcript(processing, end_ids(None, processing))

    def ids(self, episode: mmrl.Trajectory) -> list[int]:
        """The ids of everything that was said and shown."""
        return list(self._transcript.extend(episode.turns[-1], [mmrl.Message("user", episode.final_observation)]))


def logits(model: Any, rows: Sequence[Sequence[int]]) -> Any:
    """The score of each row, read at its last token.

    Padding is on the right, where nothing that is read looks at it: without a mask attention is several times faster.
    """
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[model.config.pad_token_id] * (width - len(row))] for row in rows])
    return model(input_ids=ids).logits[:, 0]


def batches(rows: Sequence[Sequence[int]], generator: Any) -> Iterator[list[int]]:
    """Places of the rows, shuffled, in batches of rows of like length."""
    import torch

    order = torch.randperm(len(rows), generator=generator).tolist()
    by_length = sorted(order, key=lambda i: len(rows[i]))
    cut = [by_length[i : i + BATCH] for i in range(0, len(rows), BATCH)]
    yield from (cut[i] for i in torch.randperm(len(cut), generator=generator).tolist())


def learn(policy: str, episodes: Sequence[mmrl.Trajectory], folder: Path, seed: int) -> float:
    """Train a reward model on episodes and their success, and write it to ``folder``.

    Returns:
        The share of the held-out episodes that it judges rightly.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    reader, generator = Reader(policy), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    rows = [reader.ids(t) for t in episodes]
    labels = torch.tensor([float(t.success) for t in episodes])
    model = AutoModelForSequenceClassification.from_pretrained(find_model(policy).base, num_labels=1)
    cut = len(rows) - len(rows) // HELD_OUT
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    for _ in range(EPOCHS):
        for places in batches(rows[:cut], generator):
            said = logits(model, [rows[i] for i in places])
            torch.nn.functional.binary_cross_entropy_with_logits(said, labels[places]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    model.save_pretrained(folder)
    with torch.no_grad():
        judged = torch.cat([logits(model, rows[i : i + BATCH]) for i in range(cut, len(rows), BATCH)]) > 0
    return float((judged == (labels[cut:] > 0)).float().mean())


class RewardModel(mmrl.RewardPlugin):
    """How likely an episode was a success, by a model from :func:`learn`.

    Args:
        policy: the id of the model that it was made of.
        folder: where it lies.
    """

    range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(self, policy: str, folder: str) -> None:
        self._policy, self._folder = policy, folder

    def load(self) -> None:
        """Load the model."""
        from transformers import AutoModelForSequenceClassification

        self._reader = Reader(self._policy)
        self._model = AutoModelForSequenceClassification.from_pretrained(self._folder)

    def score(self, trajectories: Sequence[mmrl.Trajectory]) -> list[mmrl.Score]:
        """The probability of each."""
        import torch

        with torch.no_grad():
            said = logits(self._model, [self._reader.ids(t) for t in trajectories]).sigmoid().tolist()
        return [mmrl.Score(value) for value in said]
