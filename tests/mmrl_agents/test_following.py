from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from learner_tools import llama, lora
from safetensors.torch import load_file
from tiny_vlm import tiny_vlm

from mmrl_agents import following
from mmrl_agents.following import by_adapter, checkpoint_weights, folder_of, whole
from mmrl_agents.twin import twin
from mmrl_agents.vllm_engine import Engine

IDS = torch.tensor([[7, 8, 9, 10, 11]])


def test_what_is_sent_has_the_adapter_in_and_the_model_keeps_it_apart() -> None:
    model = lora(llama(), trained=True).eval()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    merged = whole(model)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    with torch.no_grad():
        assert torch.allclose(merged.eval()(IDS).logits, model(IDS).logits, atol=1e-10)
        with model.disable_adapter():
            assert (merged(IDS).logits - model(IDS).logits).abs().max() > 1e-2
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    bare = llama()
    assert whole(bare) is bare


@pytest.mark.parametrize("kind", ["llava", "qwen2_5_vl", "idefics3"])
def test_names_are_those_of_the_models_files(kind: str, tmp_path: Path) -> None:
    model = tiny_vlm(kind)[0]
    model.save_pretrained(tmp_path)
    saved, sent = load_file(tmp_path / "model.safetensors"), checkpoint_weights(model)
    assert sent.keys() == saved.keys()
    assert all(torch.equal(t, saved[n]) for n, t in sent.items())


def test_of_tied_weights_one_is_sent(tmp_path: Path) -> None:
    model = llama(tie_word_embeddings=True)
    assert "lm_head.weight" in model.state_dict()
    assert "lm_head.weight" not in checkpoint_weights(model)


def test_the_adapter_of_a_twin_is_as_large_as_the_learners(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Taking(Engine):
        def __init__(self) -> None: ...

        def take_adapter(self, folder: Path) -> None:
            saved = load_file(folder / "adapter_model.safetensors")
            assert sum(t.nbytes for t in saved.values()) == sizes[-1] > 0

    @contextmanager
    def folder(size: int) -> Generator[Path]:
        sizes.append(size)
        with folder_of(size) as made:
            yield made

    monkeypatch.setattr(following, "folder_of", folder)
    model = lora(llama(), trained=True)
    by_adapter(Taking(), model)
    by_adapter(Taking(), twin(model))
    assert sizes[0] == sizes[1]


def test_a_folder_lies_in_memory_only_where_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "SHARED_MEMORY", tmp_path)
    with folder_of(10) as folder:
        assert folder.parent == tmp_path
        (folder / "weights").write_text("x")
    assert not folder.exists()
    with folder_of(2**60) as folder:
        assert folder.parent != tmp_path
        assert folder.is_dir()
    monkeypatch.setattr(following, "SHARED_MEMORY", tmp_path / "none")
    with folder_of(10) as folder:
        assert folder.parent != tmp_path
