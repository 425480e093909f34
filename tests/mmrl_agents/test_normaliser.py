import torch

from mmrl_agents.normaliser import NORMALISERS


def test_normalisers_by_hand() -> None:
    tokens = torch.tensor([4, 1, 0])
    assert NORMALISERS["grpo"](tokens, 10).tolist() == [1 / 12, 1 / 3, 1 / 3]
    assert NORMALISERS["dapo"](tokens, 10).tolist() == [1 / 5] * 3
    assert NORMALISERS["dr_grpo"](tokens, 10).tolist() == [1 / 30] * 3
    assert NORMALISERS["dapo"](torch.tensor([0]), 10).tolist() == [1.0]
