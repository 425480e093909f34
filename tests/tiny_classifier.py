"""A tiny, untrained RoBERTa classifier with a byte-level tokenizer, for tests that need a pipeline but no skill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def save_tiny_classifier(folder: Path, labels: Sequence[str], seed: int = 0, max_tokens: int = 32,
                         **config: Any) -> Path:
    """Write a freshly drawn classifier and its tokenizer to ``folder``, in Hugging Face's format.

    Args:
        folder: made if it does not exist.
        labels: the names of its labels.
        seed: of the weights, which are drawn wide, so that texts differ.
        max_tokens: the length of its inputs, special tokens included.
        **config: further keys of the configuration, such as ``problem_type``.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification

    words = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocab = {w: i for i, w in enumerate(words)}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", pad_token="<pad>", eos_token="</s>",
                                        unk_token="<unk>", model_max_length=max_tokens)
    named: Mapping[str, Any] = {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
    made = RobertaConfig(vocab_size=len(vocab), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                         num_attention_heads=2, max_position_embeddings=max_tokens + 2, bos_token_id=0,
                         pad_token_id=1, eos_token_id=2, initializer_range=0.5, **named, **config)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = RobertaForSequenceClassification(made)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
