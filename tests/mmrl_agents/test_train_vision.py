"""Training runs of a tiny vision-language model: questions, several turns, adapters, imitation, resumption."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_tools import StopAfter, run_config
from safetensors.torch import load_file
from tiny_vlm import KINDS, save_tiny_vlm, tiny_vlm

from mmrl import BadInput
from mmrl.check_config import check_config
from mmrl.config_load import LoadedConfig
from mmrl.report import Quiet
from mmrl.store import read_trajectories
from mmrl_agents.models import find_model, load_model, load_processing, sees
from mmrl_agents.train import Grpo

SHAPES = [{"id": "vqa/shapes", "kwargs": {"image_size": 56}}]
PIXELS = [{"id": "babyai/balrog-goto", "kwargs": {"observation": "image"}}]


def config(folder: Path, name: str = "run", kind: str = "llava", environments: Any = SHAPES,
           **sections: Any) -> LoadedConfig:
    model = folder / kind
    if not model.exists():
        save_tiny_vlm(kind, model)
    return run_config(folder, name, environments, model_id=str(model), **sections)


def train(loaded: LoadedConfig, resume: bool = False, reporter: Any = None) -> Path:
    trainer, _ = check_config(loaded)
    return trainer.train(loaded, resume, reporter or Quiet())


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_questions_about_pictures(kind: str, tmp_path: Path) -> None:
    root = train(config(tmp_path, kind=kind, training_args={"max_steps": 2}))
    lines = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    assert [line["ratio_deviation"] for line in lines] == [0.0, 0.0]
    assert not any("update/skipped" in line for line in lines)
    assert max(line["mismatch_kl"] for line in lines) < 1e-6
    trajectories = read_trajectories(root)
    assert len(trajectories) == 16
    for t in trajectories:
        assert t.turns[0].images == t.sample.messages[0].images
        assert len(t.turns[0].images) == 1
    stored = {f"{i.sha256}.png" for t in trajectories for i in t.turns[0].images}
    assert {p.name for p in (root / "images").iterdir()} == stored
    assert len(stored) == 4  # two tasks a step, four tries each: once by hash
    assert sees(find_model(str(root / "final")))
    load_model(find_model(str(root / "final")))
    assert load_processing(find_model(str(root / "final"))).image_token


@pytest.mark.parametrize("lora", [None, {"r": 2}])
def test_pictures_are_sampled_ahead_by_a_twin_that_sees(lora: dict[str, int] | None, tmp_path: Path) -> None:
    root = train(config(tmp_path, training_args={"max_steps": 3, "lora": lora}, rollout={"async_steps": 1}))
    lines = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    assert [line["staleness/max"] for line in lines] == [0.0, 1.0, 1.0]
    assert max(line["mismatch/kl"] for line in lines) < 1e-6
    assert lines[0]["mismatch_kl"] < 1e-6 < lines[2]["mismatch_kl"]


@pytest.mark.parametrize("window", [None, 2])
def test_several_turns_in_pixels(window: int | None, tmp_path: Path) -> None:
    root = train(config(tmp_path, environments=PIXELS, training_args={"max_steps": 1},
                        rollout={"max_turns": 3, "window": window}))  # fmt: skip
    for t in read_trajectories(root):
        counts = [len(turn.images) for turn in t.turns]
        assert counts == [min(n + 1, window or 3) for n in range(len(t.turns))]
    (line,) = (root / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["mismatch_kl"] < 1e-6


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    sections: dict[str, Any] = {"training_args": {"max_steps": 4, "freeze_vision": False}}
    whole = train(config(tmp_path, "whole", **sections))
    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path, "cut", **sections), reporter=StopAfter(2))
    cut = train(config(tmp_path, "cut", **sections), resume=True)
    one, other = (load_file(root / "final" / "model.safetensors") for root in (whole, cut))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert read_trajectories(whole)[-1] == read_trajectories(cut)[-1]


COIN = '''
import numpy as np
from mmrl import Image, Sample, SingleTurnEnv, Text

class Coin(SingleTurnEnv):
    """Noise, of which about every second answer is right."""
    def draw(self):
        pixels = self.np_random.integers(0, 256, (56, 56, 3), dtype=np.uint8)
        return Sample.ask((Image(pixels), Text("say")), "x")
    def grade(self, sample, response):
        return float(sum(map(ord, response)) % 2)
'''


def test_replayed_pictures_come_back_from_the_runs_folder(tmp_path: Path) -> None:
    (tmp_path / "coin.py").write_text(COIN)
    sections: dict[str, Any] = {"environments": [{"id": f"{tmp_path}/coin.py:Coin"}], "replay": {"share": 0.4},
                                "reward_plugins": [{"name": "env_reward"}],
                                "training_args": {"max_steps": 3}}  # fmt: skip
    whole = train(config(tmp_path, "whole", **sections))
    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path, "cut", **sections), reporter=StopAfter(1))
    cut = train(config(tmp_path, "cut", **sections), resume=True)
    used = [json.loads(line)["replay/used"] for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert used[0] == 0.0
    assert min(used[1:]) > 0.0
    one, other = (load_file(root / "final" / "model.safetensors") for root in (whole, cut))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("frozen", "moved"), [(True, False), (False, True)])
def test_the_tower_is_frozen_unless_asked(frozen: bool, moved: bool, tmp_path: Path) -> None:
    root = train(config(tmp_path, training_args={"max_steps": 1, "freeze_vision": frozen}))
    before, after = (load_file(folder / "model.safetensors") for folder in (tmp_path / "llava", root / "final"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("language_model" in name for name in changed)
    assert any("vision_tower" in name or "projector" in name for name in changed) is moved


def test_an_adapter_with_a_reference(tmp_path: Path) -> None:
    root = train(config(tmp_path, training_args={"max_steps": 2, "kl_coef": 0.1, "lora": {"r": 2, "alpha": 4}}))
    lines = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["kl"] == 0.0
    assert lines[1]["kl"] > 0.0
    names = load_file(root / "final" / "adapter_model.safetensors").keys()
    assert names
    assert not any("vision" in name or "projector" in name for name in names)
    assert load_model(find_model(str(root / "final"))).peft_config


def test_imitation_of_stored_pictures(tmp_path: Path) -> None:
    first = train(config(tmp_path, training_args={"max_steps": 1}))
    loaded = config(tmp_path, "sft", train_type="SFT", reward_plugins=[], training_args={"max_steps": 2},
                    sft={"rollouts": [str(first)], "success_only": False})  # fmt: skip
    root = train(loaded)
    losses = [json.loads(line)["loss"] for line in (root / "metrics.jsonl").read_text().splitlines()]
    assert losses[1] < losses[0]


def test_a_warm_start_on_pictures_and_a_blind_baseline(tmp_path: Path) -> None:
    said: list[str] = []

    class Loud(Quiet):
        def say(self, text: str) -> None:
            said.append(text)

    loaded = config(tmp_path, warm_start={"episodes": 8, "steps": 2, "batch_size": 4}, training_args={"max_steps": 1},
                    eval={"episodes": 2, "final_episodes": 3, "blind": True})  # fmt: skip
    root = train(loaded, reporter=Loud())
    blind = json.loads((root / "eval" / "before-blind-vqa-shapes.json").read_text())
    assert (blind["blind"], blind["episodes"]) == (True, 3)
    assert sum("images replaced by grey: vqa/shapes: success" in line for line in said) == 3
    assert isinstance(check_config(loaded)[0], Grpo)


def test_an_adapter_on_the_tower_goes_on_being_trained(tmp_path: Path) -> None:
    args: dict[str, Any] = {"max_steps": 1, "lora": {"r": 2, "alpha": 4, "vision": True}}
    first = train(config(tmp_path, training_args=args))
    loaded = config(tmp_path, "again", training_args=args)
    again = run_config(tmp_path, "again", SHAPES, model_id=str(first / "final"), training_args=args)
    root = train(again)
    before, after = (load_file(folder / "final" / "adapter_model.safetensors") for folder in (first, root))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("vision_tower" in name for name in moved)
    assert any("language_model" in name for name in moved)
    assert loaded.config.training_args.freeze_vision


def test_a_model_that_sees_in_another_way_is_refused_before_it_imitates(tmp_path: Path) -> None:
    first = train(config(tmp_path, training_args={"max_steps": 1}))
    loaded = config(tmp_path, "sft", train_type="SFT", reward_plugins=[],
                    sft={"rollouts": [str(first)], "success_only": False})  # fmt: skip
    path = tmp_path / "llava" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vision_feature_select_strategy": "full"}))
    with pytest.raises(BadInput, match="model type 'llava' reads images in a way that mmrl does not follow"):
        train(loaded)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_lora_leaves_the_vision_tower_alone_unless_asked(kind: str) -> None:
    from mmrl.training_args import LoraArgs
    from mmrl_agents.models import ModelFiles
    from mmrl_agents.run import add_adapter

    def adapted(vision: bool) -> set[str]:
        model, _ = tiny_vlm(kind)
        made = add_adapter(model, LoraArgs(r=2, vision=vision), ModelFiles("m", "m"))
        return {n for n, p in made.named_parameters() if p.requires_grad}

    inside, everywhere = adapted(False), adapted(True)
    tower = ("vision_tower", "visual", "vision_model", "connector", "projector")
    assert inside
    assert not any(part in n for n in inside for part in tower)
    assert any(part in n for n in everywhere for part in tower)
    assert inside < everywhere
