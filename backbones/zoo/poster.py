"""POSTER++: a face recogniser's maps, asked by a landmark network's at three scales, under a small transformer.

Mao et al., "POSTER++: A simpler and stronger facial expression recognition network", Pattern Recognition 2024 (arXiv
2301.12149), section 3. Names and shapes are those of Talented-Q/POSTER_V2, commit
aec8d8eeeecb8206eaa22b1ce1fa4d44e6c27c3f, ``models/PosterV2_7cls.py`` and its neighbours, preprocessing that of
``main.py``; the code was written anew. Layers that the public code has and never runs are kept, since its files have
them: `UNUSED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import OptionError
from ..picture import Transform
from ..recipes import Branches, Encoder, Recipe, Usage
from .ir50 import output_layer, stage, stem
from .mobilefacenet import last_layers, trunk_layers

SCALES = ((64, 28, 2), (128, 14, 4), (256, 7, 8))
"""Channels, side of the maps, attention heads."""

D = 768
"""Width of the transformer."""

TOKENS = 1 + 3 * 49

HEAD = "VIT.head.linear"

UNUSED = (
    "ir_back.output_layer", "face_landback.output_layer", "VIT.patch_embed", "VIT.eca_block", "VIT.CON1",
    "VIT.IRLinear1", "VIT.IRLinear2", "VIT.blocks.0.conv", "VIT.blocks.1.conv",
)  # fmt: skip
"""Layers that no output depends on."""


def build(*, tag: str | None, pretrained: bool, num_classes: int = 7, replace_heads: bool = False) -> Encoder:
    """Build the network.

    Parameters
    ----------
    tag, pretrained
        Always None and False: there are no weights to download.
    num_classes : int
        Width of the classifier; the block does not depend on it.
    replace_heads : bool
        Load all else of a file whose classifier has another width, and start a new one.
    """
    if num_classes < 1:
        raise OptionError(f"num_classes must be at least 1, however: {num_classes=}")
    module = Poster(num_classes)
    return Encoder(
        architecture="poster++",
        module=module,
        trunk=module,
        blocks={"fused": D},
        transform=Transform(size_px=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        options={},
        heads=(HEAD,),
        branches=Branches(
            k=num_classes, shares={"poster": 1.0}, logits=lambda m, x: {"poster": m.VIT.head.linear(m(x)["fused"])}
        ),
        replace_heads=replace_heads,
        cpu_piece=4,
    )


def usage(heads: Mapping[str, int], card: Mapping[str, Any] | None, path: Path) -> Usage:
    """Say how `create` takes a file: with as many classes as its classifier has."""
    width = heads.get(HEAD, 7)
    return Usage(options={} if width == 7 else {"num_classes": width})


def again(_: Mapping[str, Any]) -> dict[str, Any]:
    """Take any classifier, as no row depends on it."""
    return {"replace_heads": True}


RECIPE = Recipe(
    name="poster",
    title="POSTER++",
    note="POSTER++ (POSTER V2); an IR-50 asked by landmarks. Public checkpoints (RAF-DB, AffectNet) load.",
    build=build,
    blocks={"fused": 768},
    size_px=224,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    parameters=58_316_594,
    usage=usage,
    again=again,
)


class Poster(nn.Module):
    """Picture -> what the classifier reads, 768 numbers."""

    def __init__(self, num_classes: int = 7) -> None:
        super().__init__()
        self.face_landback = Landmarks()
        self.VIT = Transformer(num_classes)
        self.ir_back = Recogniser()
        for number, (c, side, heads) in enumerate(SCALES, start=1):
            self.add_module(f"attn{number}", Asked(c, side, heads))
            self.add_module(f"window{number}", Normed(c))
            self.add_module(f"conv{number}", nn.Conv2d(c, c, 3, 2, 1))
            self.add_module(f"ffn{number}", Mixed(c))
        self.last_face_conv = nn.Conv2d(512, 256, 3, padding=1)
        self.embed_q = nn.Sequential(nn.Conv2d(64, D, 3, 2, 1), nn.Conv2d(D, D, 3, 2, 1))
        self.embed_k = nn.Sequential(nn.Conv2d(128, D, 3, 2, 1))
        self.embed_v: Any = _patches()
        for name, parameter in self.named_parameters():  # the landmarks stay as they are, as in the public code
            if name.startswith("face_landback.") or any(name.startswith(f"{layer}.") for layer in UNUSED):
                parameter.requires_grad_(False)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(b, 3, 224, 224) -> {"fused": (b, 768)}."""
        small = F.interpolate(x, size=112)  # nearest: every other pixel
        *fine, coarse = self.face_landback(small)
        asking = (*fine, self.last_face_conv(coarse))
        mixed = []
        for number, (maps, queries) in enumerate(zip(self.ir_back(small), asking, strict=True), start=1):
            layer = {name: getattr(self, f"{name}{number}") for name in ("conv", "window", "attn", "ffn")}
            tokens = layer["window"].norm(_tokens(layer["conv"](maps)))  # (b, c, h, w) -> (b, h w, c)
            found = layer["ffn"](tokens, layer["attn"](tokens, _tokens(queries)))
            mixed.append(found.transpose(1, 2).reshape(queries.shape))
        parts = (self.embed_q(mixed[0]), self.embed_k(mixed[1]), self.embed_v.proj(mixed[2]))  # each (b, 768, 7, 7)
        return {"fused": self.VIT(torch.cat([_tokens(part) for part in parts], dim=1))}


def _tokens(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)  # (b, c, h, w) -> (b, h w, c)


def _patches() -> nn.Module:
    held = nn.Module()
    held.proj = nn.Conv2d(256, D, 1)
    return held


class Landmarks(nn.Module):
    """MobileFaceNet, trained to find 68 landmarks, read at three depths."""

    def __init__(self) -> None:
        super().__init__()
        for name, layer in trunk_layers():
            self.add_module(name, layer)
        self.output_layer = nn.Module()
        for name, layer in last_layers(136):
            self.output_layer.add_module(name, layer)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(b, 3, 112, 112) -> (b, 64, 28, 28), (b, 128, 14, 14), (b, 512, 7, 7)."""
        found = []
        for name, layer in self.named_children():
            if name != "output_layer":
                x = layer(x)
                if name in ("conv_3", "conv_4", "conv_6_sep"):
                    found.append(x)
        return found


class Recogniser(nn.Module):
    """IR-50 of ArcFace's style without its last stage, read after each of the three."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layer = stem()
        self.output_layer = output_layer(affine=True)
        for number, (c, d, count) in enumerate(((64, 64, 3), (64, 128, 4), (128, 256, 14)), start=1):
            self.add_module(f"body{number}", nn.Sequential(*stage(c, d, count, style="arcface")))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(b, 3, 112, 112) -> (b, 64, 56, 56), (b, 128, 28, 28), (b, 256, 14, 14)."""
        x, found = self.input_layer(x), []
        for number in range(1, 4):
            x = getattr(self, f"body{number}")(x)
            found.append(x)
        return found


class Normed(nn.Module):
    """Holds a layer norm under the public name."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(c)


class Asked(nn.Module):
    """Attention within one window as large as the maps: the landmarks' tokens ask, the face's answer."""

    relative_position_index: Tensor

    def __init__(self, c: int, side: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, heads))
        apart = torch.arange(side)[:, None] - torch.arange(side)[None, :] + side - 1  # by how much, from 0
        index = apart[:, None, :, None] * (2 * side - 1) + apart[None, :, None, :]  # (y, x, y', x')
        self.register_buffer("relative_position_index", index.reshape(side * side, side * side))
        self.qkv = nn.Linear(c, 2 * c)  # keys and values, whatever it is called
        self.proj = nn.Linear(c, c)

    def forward(self, tokens: Tensor, asking: Tensor) -> Tensor:
        """(b, n, c), (b, n, c) -> (b, n, c)."""
        key, value = (_by_head(each, self.heads) for each in self.qkv(tokens).chunk(2, dim=-1))
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)  # (heads, n, n)
        found = F.scaled_dot_product_attention(_by_head(asking, self.heads), key, value, attn_mask=bias.to(key.dtype))
        return self.proj(found.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def _by_head(x: Tensor, heads: int) -> Tensor:
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)  # (b, n, c) -> (b, heads, n, c / heads)


class Mixed(nn.Module):
    """What attention found added to its input, then a perceptron, both scaled by channel."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.gamma1 = nn.Parameter(torch.full((c,), 1e-5))
        self.gamma2 = nn.Parameter(torch.full((c,), 1e-5))
        self.mlp = Perceptron(c)
        self.norm = nn.LayerNorm(c)

    def forward(self, tokens: Tensor, found: Tensor) -> Tensor:
        """(b, n, c), (b, n, c) -> (b, n, c)."""
        x = tokens + self.gamma1 * found
        return x + self.gamma2 * self.mlp(self.norm(x))  # type: ignore[no-any-return]


class Perceptron(nn.Module):
    """Four times as wide within."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(c, 4 * c)
        self.fc2 = nn.Linear(4 * c, c)

    def forward(self, x: Tensor) -> Tensor:
        """(…, c) -> (…, c)."""
        return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Two blocks over a class token and the tokens of three scales; the class token, gated by itself, comes out."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, D))
        self.pos_embed = nn.Parameter(torch.zeros(1, TOKENS, D))
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.se_block = nn.ModuleDict({"linear1": nn.Linear(D, D), "linear2": nn.Linear(D, D)})
        self.patch_embed = _patches()
        self.head = nn.ModuleDict({"linear": nn.Linear(D, num_classes)})
        self.eca_block = nn.ModuleDict({"conv": nn.Conv1d(1, 1, 5, padding=2, bias=False)})
        self.CON1 = nn.Conv2d(256, D, 1, bias=False)
        self.IRLinear1 = nn.Linear(1024, D)
        self.IRLinear2 = nn.Linear(D, 512)
        self.blocks = nn.Sequential(Block(), Block())
        self.norm = nn.LayerNorm(D, eps=1e-6)

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, 147, 768) -> (b, 768)."""
        x = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1) + self.pos_embed
        x = self.norm(self.blocks(x)[:, 0])
        return x * self.se_block["linear2"](self.se_block["linear1"](x).relu()).sigmoid()  # type: ignore[no-any-return]


class Block(nn.Module):
    """A block of a ViT (Dosovitskiy et al., ICLR 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(D, eps=1e-6)
        self.conv = nn.Conv1d(TOKENS, TOKENS, 1)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(D, 3 * D), "proj": nn.Linear(D, D)})
        self.norm2 = nn.LayerNorm(D, eps=1e-6)
        self.mlp = Perceptron(D)

    def forward(self, x: Tensor) -> Tensor:
        """(b, t, 768) -> (b, t, 768)."""
        query, key, value = (_by_head(each, 8) for each in self.attn["qkv"](self.norm1(x)).chunk(3, dim=-1))
        found = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + self.attn["proj"](found)
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]
