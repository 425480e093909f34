"""Where a reward falls among the sampled tokens of a trajectory."""

from __future__ import annotations

from collections.abc import Sequence


def on_tokens(rewards: Sequence[float], tokens: Sequence[int], charges: Sequence[float] = ()) -> list[float]:
    """The reward of each sampled token: a turn's falls on its last one, less what each token is charged.

    What the environment says between two turns is no step, so that it neither discounts a return nor ends it.

    Args:
        rewards: of each turn.
        tokens: how many were sampled in each turn, at least one.
        charges: of each sampled token, turn after turn; empty: none.
    """
    spread = [r for reward, n in zip(rewards, tokens, strict=True) for r in [*[0.0] * (n - 1), reward]]
    return [r - c for r, c in zip(spread, charges, strict=True)] if charges else spread


def by_turn(row: Sequence[float], tokens: Sequence[int]) -> list[list[float]]:
    """Values of the sampled tokens of a trajectory, cut into turns of so many tokens.

    Raises:
        ValueError: if the turns have another number of tokens in all.
    """
    if sum(tokens) != len(row):
        raise ValueError(f"{len(row)} values for turns of {list(tokens)} tokens")
    values = iter(row)
    return [[next(values) for _ in range(n)] for n in tokens]
