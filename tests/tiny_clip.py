"""Tiny CLIP models of four architectures with random weights, as open_clip reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

_TEXT: dict[str, Any] = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}


def _vit(folder: Path) -> dict[str, Any]:
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    return {"embed_dim": 24, "vision_cfg": vision, "text_cfg": _TEXT}


def _resnet(folder: Path) -> dict[str, Any]:
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32, "patch_size": None}
    return {"embed_dim": 16, "vision_cfg": vision, "text_cfg": _TEXT, "quick_gelu": True}


def _coca(folder: Path) -> dict[str, Any]:
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "attentional_pool": True,
              "attn_pooler_queries": 8, "attn_pooler_heads": 2, "output_tokens": True}
    text = {**_TEXT, "embed_cls": True, "output_tokens": True}
    more = {**_TEXT, "dim_head": 16, "mlp_ratio": 2, "attn_pooler_heads": 2}
    return {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text, "multimodal_cfg": more, "custom_text": True}


def _timm_and_bert(folder: Path) -> dict[str, Any]:
    """A SigLIP-like pair: a tower of timm, a text encoder and tokenizer of Hugging Face, and a bias of the logits."""
    from transformers import BertConfig, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "ball", "photo", "of", "##s"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    BertConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
               max_position_embeddings=32).save_pretrained(folder)
    vision = {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear"}
    text = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder), "hf_proj_type": "mlp", "context_length": 16}
    return {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text, "custom_text": True, "init_logit_bias": -10}


CONFIGS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "vit": _vit, "resnet": _resnet, "coca": _coca, "timm_and_bert": _timm_and_bert,
}  # fmt: skip


def save_clip(folder: Path, architecture: str = "vit") -> Path:
    """Write a freshly drawn model to ``folder``, as ``local-dir:`` reads it.

    Args:
        folder: made if it does not exist.
        architecture: a key of ``CONFIGS``.
    """
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": CONFIGS[architecture](folder), "preprocess_cfg": {"resize_mode": "squash"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False)
        for parameter in model.parameters():  # what starts at 0 or 1 would hide a mistake
            if parameter.ndim == 1:
                torch.nn.init.normal_(parameter, 1.0, 0.1)
        torch.nn.init.constant_(model.get_parameter("logit_scale"), 3.0)
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder
