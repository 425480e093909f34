"""Tiny, untrained vision-language models with their processors, for tests: LLaVA, Qwen2(.5)-VL, Idefics3, SmolVLM."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tiny_model import SPECIAL

TEMPLATE = (
    "{{% for m in messages %}}<|{{{{ m['role'] }}}}|>"
    "{{% if m['content'] is string %}}{{{{ m['content'] }}}}{{% else %}}{{% for p in m['content'] %}}"
    "{{% if p['type'] == 'image' %}}{image}{{% else %}}{{{{ p['text'] }}}}{{% endif %}}{{% endfor %}}{{% endif %}}"
    "<|end|>{{% endfor %}}{{% if add_generation_prompt %}}<|assistant|>{{% endif %}}"
)


def _tokenizer(extra: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=SPECIAL[0], eos_token=SPECIAL[1])
    made.add_special_tokens({"additional_special_tokens": [*SPECIAL[2:], *extra]})
    return made


TEXT: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
                        "num_key_value_heads": 2, "max_position_embeddings": 2048, "bos_token_id": None,
                        "eos_token_id": 1, "pad_token_id": 0, "initializer_range": 0.2}  # fmt: skip


def _llava() -> tuple[Any, Any]:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    tokenizer = _tokenizer(["<image>"])
    image = CLIPImageProcessor(size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32})
    processor = LlavaProcessor(
        image, tokenizer, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1,
        chat_template=TEMPLATE.format(image="<image>"),
    )  # fmt: skip
    vision = CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                              image_size=32, patch_size=8, initializer_range=0.5)  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=LlamaConfig(vocab_size=len(tokenizer), **TEXT), vision_feature_layer=-1,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    return LlavaForConditionalGeneration(config), processor


def _qwen(version: str) -> tuple[Any, Any]:
    import transformers
    from transformers import Qwen2VLImageProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    names = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = _tokenizer(names)
    sizes: dict[str, Any] = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    processor = getattr(transformers, f"{version}Processor")(
        Qwen2VLImageProcessor(min_pixels=8 * 8, max_pixels=64 * 64, **sizes), tokenizer, Qwen2VLVideoProcessor(**sizes),
        chat_template=TEMPLATE.format(image="<|vision_start|><|image_pad|><|vision_end|>"),
    )  # fmt: skip
    start, end, picture, video = tokenizer.convert_tokens_to_ids(names)
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    towers: dict[str, dict[str, Any]] = {
        "Qwen2VL": {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2},
        "Qwen2_5_VL": {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32, "window_size": 16,
                       "fullatt_block_indexes": [1]},
    }  # fmt: skip
    config = getattr(transformers, f"{version}Config")(
        text_config={"vocab_size": len(tokenizer), **TEXT, "rope_parameters": rope},
        vision_config={"depth": 2, "num_heads": 4, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2,
                       "initializer_range": 0.3, **towers[version]},
        image_token_id=picture, video_token_id=video, vision_start_token_id=start, vision_end_token_id=end,
    )  # fmt: skip
    return getattr(transformers, f"{version}ForConditionalGeneration")(config), processor


def _idefics(name: str) -> tuple[Any, Any]:
    import transformers
    from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

    rows = [f"<row_{i + 1}_col_{j + 1}>" for i in range(6) for j in range(6)]
    tokenizer = _tokenizer(["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *rows])
    sizes: dict[str, Any] = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
    image = getattr(transformers, f"{name}ImageProcessor")(**sizes)
    sampling = {"fps": 1, "max_frames": 4, "video_size": {"longest_edge": 64}}
    video = [SmolVLMVideoProcessor(**sizes, video_sampling=sampling)] if name == "SmolVLM" else []
    processor = getattr(transformers, f"{name}Processor")(image, tokenizer, *video, image_seq_len=4,
                                                          chat_template=TEMPLATE.format(image="<image>"))  # fmt: skip
    config = getattr(transformers, f"{name}Config")(
        text_config={"model_type": "llama", "vocab_size": len(tokenizer), **TEXT},
        vision_config={"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
                       "image_size": 32, "patch_size": 8, "initializer_range": 0.3},
        scale_factor=2, image_token_id=tokenizer.convert_tokens_to_ids("<image>"), pad_token_id=0,
    )  # fmt: skip
    return getattr(transformers, f"{name}ForConditionalGeneration")(config), processor


KINDS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "llava": _llava,
    "qwen2_vl": partial(_qwen, "Qwen2VL"),
    "qwen2_5_vl": partial(_qwen, "Qwen2_5_VL"),
    "idefics3": partial(_idefics, "Idefics3"),
    "smolvlm": partial(_idefics, "SmolVLM"),
}


def tiny_vlm(kind: str, seed: int = 0) -> tuple[Any, Any]:
    """A model of ``kind`` in double precision, and its processor."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, processor = KINDS[kind]()
    model.generation_config.eos_token_id = 1
    return model.eval().double(), processor


def save_tiny_vlm(kind: str, folder: Path, seed: int = 0) -> Path:
    """Write a model of ``kind`` in single precision, and its processor, to ``folder``."""
    model, processor = tiny_vlm(kind, seed)
    model.float().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
