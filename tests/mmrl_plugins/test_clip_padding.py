import importlib
from pathlib import Path
from typing import Any

import pytest
from tiny_clip import save_clip

from mmrl_plugins._clip_padding import text_encoder
from mmrl_plugins.clip_similarity import ClipSimilarity

TEXTS = ["", "red", "a red ball", "a photo of a small blue ball on the floor of a room and much more than that"]


def made(model: str, precision: str = "fp32") -> tuple[Any, Any]:
    open_clip: Any = importlib.import_module("open_clip")
    clip = open_clip.create_model_from_pretrained(model, precision=precision, return_transform=False).eval()
    return clip, open_clip.get_tokenizer(model)


def lengths_seen(clip: Any, encode: Any, ids: Any) -> list[int]:
    """The numbers of tokens that pass the text transformer."""
    seen: list[int] = []
    hook = clip.transformer.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[1]))
    encode(ids)
    hook.remove()
    return seen


@pytest.mark.parametrize("architecture", ["vit", "resnet", "embedded"])
def test_vectors_are_the_same_without_the_padding(architecture: str, tmp_path: Path) -> None:
    import torch

    own = ClipSimilarity().source.model
    clip, tokenize = made(own if architecture == "embedded" else f"local-dir:{save_clip(tmp_path, architecture)}")
    encode = text_encoder(clip, tokenize, "cpu", "float32")
    with torch.inference_mode():
        for chosen in (TEXTS[:1], TEXTS[1:2], TEXTS[:3], TEXTS):
            ids = tokenize(chosen)
            expected = torch.nn.functional.normalize(clip.encode_text(ids), dim=-1)
            assert (torch.nn.functional.normalize(encode(ids), dim=-1) - expected).abs().max() <= 1e-6
        assert lengths_seen(clip, encode, tokenize(["a"]))[0] <= 4 < tokenize(["a"]).shape[1]


@pytest.mark.parametrize("precision", [("bf16", "bfloat16"), ("fp16", "float16")])
def test_half_precision_is_spared_the_padding_too(precision: tuple[str, str], tmp_path: Path) -> None:
    import torch

    clip, tokenize = made(f"local-dir:{save_clip(tmp_path)}", precision[0])
    encode = text_encoder(clip, tokenize, "cpu", precision[1])
    with torch.inference_mode():
        assert lengths_seen(clip, encode, tokenize(["a"])) == [4]


@pytest.mark.parametrize("architecture", ["coca", "timm_and_bert"])
def test_other_architectures_are_left_as_they_are(architecture: str, tmp_path: Path) -> None:
    clip, tokenize = made(f"local-dir:{save_clip(tmp_path, architecture)}")
    encode: Any = text_encoder(clip, tokenize, "cpu", "float32")
    assert encode.func == clip.encode_text


def test_a_model_that_looks_ahead_keeps_its_padding(tmp_path: Path) -> None:
    import torch

    clip, tokenize = made(f"local-dir:{save_clip(tmp_path)}")
    clip.attn_mask.zero_()  # every token sees every other, the padding too
    encode = text_encoder(clip, tokenize, "cpu", "float32")
    with torch.inference_mode():
        assert lengths_seen(clip, encode, tokenize(["a"])) == [16]
