"""Tiny image-text encoders as their libraries save them: random weights, a tokenizer of a few words, no download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = ("<pad>", "<start>", "<end>", "<unk>", "a", "photo", "of", "the", "face", "is", "fearfully", "sadly", "happily",
         "surprised", "angry", "fear", "and")  # fmt: skip
SIDE = 32
LONGEST = 20
"""Tokens that a tiny encoder reads."""


def small_model(kind: str, seed: int = 0) -> Any:
    """A CLIP or SigLIP of one layer."""
    import torch
    import transformers

    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**size, "vocab_size": len(WORDS), "max_position_embeddings": LONGEST, "bos_token_id": 1, "eos_token_id": 2}
    text["pad_token_id"] = 0
    vision = {**size, "image_size": SIDE, "patch_size": 16}
    torch.manual_seed(seed)
    if kind == "clip":
        config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
        return transformers.CLIPModel(config).eval()
    return transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision)).eval()


def save_encoder(folder: Path, kind: str = "clip", seed: int = 0) -> Path:
    """Write what a published folder of such an encoder holds."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    small_model(kind, seed).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<end>", bos_token="<start>", unk_token="<unk>"
    ).save_pretrained(folder)
    prepared: dict[str, Any] = {"do_resize": True, "do_normalize": True, "resample": 3, "rescale_factor": 1 / 255}
    prepared |= {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
    if kind == "clip":
        prepared |= {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
        prepared["do_center_crop"] = True
    else:
        prepared["size"] = {"height": SIDE, "width": SIDE}
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    return folder
