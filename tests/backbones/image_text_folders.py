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
    small_model(kind, seed).save_pretrained(folder)
    save_words(folder)
    prepared: dict[str, Any] = {"do_resize": True, "do_normalize": True, "resample": 3, "rescale_factor": 1 / 255}
    prepared |= {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
    if kind == "clip":
        prepared |= {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
        prepared["do_center_crop"] = True
    else:
        prepared["size"] = {"height": SIDE, "width": SIDE}
    (folder / "preprocessor_config.json").write_text(json.dumps(prepared))
    return folder


def save_words(folder: Path) -> None:
    """Write a tokenizer of a few words as transformers keeps one."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<end>", bos_token="<start>", unk_token="<unk>"
    ).save_pretrained(folder)


PREPARED = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "interpolation": "bicubic", "resize_mode": "shortest"}
_TEXT = {"width": 16, "heads": 2, "layers": 1}
_VISION = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 16, "image_size": SIDE}
OPEN_CLIP: dict[str, dict[str, Any]] = {
    "plain": {"embed_dim": 16, "vision_cfg": _VISION, "text_cfg": _TEXT},
    "quick": {"embed_dim": 16, "quick_gelu": True, "vision_cfg": _VISION, "text_cfg": _TEXT},
    "resnet": {
        "embed_dim": 16, "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "image_size": SIDE},
        "text_cfg": _TEXT,
    },
    "siglip": {  # as SigLIP's: timm's tower with its own pool and no projection, texts without a mask, an offset
        "embed_dim": 96, "init_logit_bias": -10, "custom_text": True,
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit3", "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": {
            **_TEXT, "context_length": 64, "no_causal_mask": True, "proj_bias": True, "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6}, "tokenizer_kwargs": {"clean": "canonicalize"},
        },
    },
    "timm": {
        "embed_dim": 16, "custom_text": True, "text_cfg": _TEXT,
        "vision_cfg": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear"},
    },
    "coca": {
        "embed_dim": 16, "custom_text": True,
        "vision_cfg": {
            **_VISION, "attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 4,
            "output_tokens": True,
        },
        "text_cfg": {**_TEXT, "context_length": 76, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {"width": 16, "context_length": 76, "heads": 2, "layers": 1},
    },
}  # fmt: skip
"""Configurations of open_clip, tiny ones of each kind."""


def small_open_clip(kind: str, seed: int = 0) -> Any:
    """A network of open_clip with random weights, as its library builds it."""
    import copy

    import open_clip
    import torch

    config = copy.deepcopy(OPEN_CLIP[kind])
    custom = config.pop("custom_text", False)
    torch.manual_seed(seed)
    made = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP if custom else open_clip.CLIP
    model = made(**config)
    with torch.no_grad():
        for one in model.parameters():  # some begin at nothing
            one.add_(0.02 * torch.randn_like(one))
    return model.eval()


def save_open_clip(folder: Path, kind: str = "plain", seed: int = 0, *, half: bool = False) -> Path:
    """Write what a published folder of such an encoder holds."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = {name: one.contiguous().clone() for name, one in small_open_clip(kind, seed).state_dict().items()}
    save_file(
        {name: one.half() if half else one for name, one in state.items()}, folder / "open_clip_model.safetensors"
    )
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": OPEN_CLIP[kind], "preprocess_cfg": PREPARED})
    )
    return folder
