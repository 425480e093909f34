from pathlib import Path

import pytest
import torch
from learner_tools import install, llama, ragged

from mmrl.errors import BadInput
from mmrl.training_args import TrainingArgs
from mmrl_agents.learner import Learner
from mmrl_agents.loss_type import LOSSES, REGISTRY, Loss, find_loss
from mmrl_agents.normaliser import NORMALISERS, constant, per_token, per_trajectory
from mmrl_agents.surrogate import cispo, clip, gspo, reinforce, row_ratio, sapo, token_ratio

OWN = """
import torch
def plain(logp, old, advantage, mask, terms):
    return -torch.exp(logp - old) * advantage
def copied(logp, old, advantage, mask, terms):
    from mmrl_agents.surrogate import clip
    return clip(logp, old, advantage, mask, terms)
def four(logp, old, advantage, mask): return logp
def total(logp, old, advantage, mask, terms): return logp.sum()
def no_gradient(logp, old, advantage, mask, terms): return logp.detach() * advantage
def number(logp, old, advantage, mask, terms): return 3.0
def breaks(logp, old, advantage, mask, terms): return logp * terms.lo
TEXT = "clip"
"""


def test_losses_by_name() -> None:
    by_hand = {
        "grpo": Loss(clip, per_trajectory, token_ratio),
        "dapo": Loss(clip, per_token, token_ratio),
        "dr_grpo": Loss(clip, constant, token_ratio),
        "gspo": Loss(gspo, per_trajectory, row_ratio),
        "cispo": Loss(cispo, per_token, token_ratio, ("epsilon_high",)),
        "sapo": Loss(sapo, per_trajectory, token_ratio, ()),
        "reinforce": Loss(reinforce, constant, token_ratio, ()),
    }
    assert by_hand == LOSSES
    assert find_loss("cispo") is LOSSES["cispo"]


@pytest.mark.parametrize("name", NORMALISERS)
def test_another_normaliser(name: str) -> None:
    assert find_loss("gspo", name) == Loss(gspo, NORMALISERS[name], row_ratio)


def test_a_surrogate_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    found = find_loss(f"{tmp_path}/own.py:plain")
    assert (found.normaliser, found.ratio) == (per_trajectory, token_ratio)
    assert find_loss(f"{tmp_path}/own.py:plain", "dapo").normaliser is per_token


def test_a_surrogate_of_ones_own_trains(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    after = []
    for name in ("grpo", f"{tmp_path}/own.py:copied", f"{tmp_path}/own.py:plain"):
        made = Learner(llama(), TrainingArgs(loss_type=name, learning_rate=1e-3, num_iterations=3), 1.0, 10)
        made.update(ragged(4), [1.0, -1.0, 0.5, -0.5])
        after.append([p.detach().clone() for p in made.parameters])
    assert all(torch.equal(a, b) for a, b in zip(after[0], after[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(after[0], after[2], strict=True))


def test_an_installed_loss_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from mmrl_agents.loss_type import *\nfrom mmrl_agents.surrogate import sapo\nLOSS = Loss(sapo)\n"
    install(tmp_path, monkeypatch, REGISTRY, code, "mine = theirs:LOSS")
    assert find_loss("mine", "dr_grpo") == Loss(sapo, constant)


def test_an_installed_function_is_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, REGISTRY, OWN, "mine = theirs:plain")
    assert (find_loss("mine").normaliser, find_loss("mine").surrogate.__name__) == (per_trajectory, "plain")
    with pytest.raises(BadInput, match=r"run\.yaml:8: unknown loss_type 'mind'; did you mean 'mine'\?"):
        find_loss("mind", where="run.yaml:8")


@pytest.mark.parametrize(("name", "said"), [
    ("four", "cannot be called with 5 arguments; write a function (logp, old, advantage, mask, terms) that returns"),
    ("TEXT", "cannot be called with 5 arguments"),
    ("total", "returns a tensor of shape () for shape (2, 3)"),
    ("number", "returns float for shape (2, 3)"),
    ("no_gradient", "returns no gradient of logp"),
    ("breaks", "fails on a small example: AttributeError: 'Clip' object has no attribute 'lo'"),
    ("plane", "unknown name in"),
])  # fmt: skip
def test_what_is_no_surrogate_is_bad_input(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(BadInput) as error:
        find_loss(f"{tmp_path}/own.py:{name}", where="run.yaml:8")
    assert str(error.value).startswith("run.yaml:8: ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_bad_input() -> None:
    with pytest.raises(BadInput, match=r"run\.yaml:8: loss_type 'nowhere\.py:f': no file nowhere\.py"):
        find_loss("nowhere.py:f", where="run.yaml:8")
    with pytest.raises(BadInput, match=r"run\.yaml:8: unknown loss_type 'gsop'; did you mean 'gspo'\?"):
        find_loss("gsop", where="run.yaml:8")
