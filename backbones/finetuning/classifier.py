"""The classifier: a backbone with one linear head, or one a branch, that trains all of it.

Which numbers a head reads:

- ViT and other timm models: the joined blocks, so that training shapes the very rows that extraction gives.
- ResNet-50 tapped at its last 3x3 convolution: the 2048 numbers of the usual pool, as in ImageNet training. The public
  512-d tap was taken from a network trained so. A head on the tap itself would leave the last 1x1 convolution as it
  was, and `pool2048` of the resulting file would be half trained.
- MA-Net: each branch its own head, ``fc_1`` and ``fc_2``; logits and losses are mixed 0.6 local + 0.4 multi-scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from cer_fusion.backbones.errors import OptionError
from cer_fusion.backbones.finetuning.seeding import drawn_from
from cer_fusion.backbones.torch_backbone import TorchBackbone
from torch import Tensor, nn

HEAD = "head"


class Classifier(nn.Module):
    """Pictures (b, 3, h, w) float -> {branch: logits (b, k)}; `shares` says how branches are mixed."""

    shares: Mapping[str, float]
    """Branch -> its share in logits and loss; they sum to 1."""

    def __init__(self, backbone: TorchBackbone, shares: Mapping[str, float]) -> None:
        super().__init__()
        self.encoder: Any = backbone.module
        self.shares = dict(shares)

    def mixed(self, logits: Mapping[str, Tensor]) -> Tensor:
        """Mix the branches' logits: {branch: (b, k)} -> (b, k)."""
        return torch.stack([share * logits[branch] for branch, share in self.shares.items()]).sum(0)


class LinearClassifier(Classifier):
    """One linear head on the joined blocks."""

    def __init__(self, backbone: TorchBackbone, k: int, *, width: int | None = None) -> None:
        super().__init__(backbone, {HEAD: 1.0})
        self.blocks = tuple(backbone.blocks)
        self.head = nn.Linear(width or sum(backbone.blocks.values()), k)
        nn.init.trunc_normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(b, 3, h, w) -> {"head": (b, k)}."""
        return {HEAD: self.head(self.features(x))}

    def features(self, x: Tensor) -> Tensor:
        """Return what the head reads, (b, d)."""
        rows = self.encoder(x)
        return torch.cat([rows[block] for block in self.blocks], dim=1)


class PooledClassifier(LinearClassifier):
    """One linear head on the trunk's usual pool, whatever tap the backbone is read at."""

    def __init__(self, backbone: TorchBackbone, k: int) -> None:
        super().__init__(backbone, k, width=int(backbone.module.trunk.num_features))  # type: ignore[union-attr, arg-type]

    def features(self, x: Tensor) -> Tensor:
        """Return the pooled output, (b, 2048)."""
        pooled: Tensor = self.encoder.trunk(x)
        return pooled


class BranchClassifier(Classifier):
    """MA-Net with the heads it has."""

    def __init__(self, backbone: TorchBackbone, k: int) -> None:
        super().__init__(backbone, {"local": 0.6, "multi_scale": 0.4})
        heads = self.encoder.fc_1.out_features
        if heads != k:
            raise OptionError(
                f"{backbone.name} has {heads}-way heads, and there are {k} classes\n"
                f"  create it with num_classes={k} (and replace_heads=True for a file with heads of another width)"
            )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(b, 3, h, w) -> {"local": (b, k), "multi_scale": (b, k)}."""
        logits: dict[str, Tensor] = self.encoder.logits(self.encoder(x))
        return logits


def classifier_of(backbone: TorchBackbone, k: int, *, seed: int) -> Classifier:
    """Put a classifier for k classes on a backbone; new heads are drawn from the seed."""
    with drawn_from(seed):
        if backbone.architecture == "manet":
            made: Classifier = BranchClassifier(backbone, k)
        elif backbone.options.get("tap") == "bottleneck512":
            made = PooledClassifier(backbone, k)
        else:
            made = LinearClassifier(backbone, k)
    return made.to(backbone.device)


def state_for_loader(backbone: TorchBackbone, classifier: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a weights file: the trunk in its public names, and the head in the name that timm gives it.

    `classifier` may be an averaged copy of the one that was put on `backbone`. A timm model without a classifier has no
    name for a head; then there is none in the file.
    """
    at = {id(module): name for name, module in backbone.module.named_modules(remove_duplicate=False)}
    prefix = at[id(backbone.encoder.trunk)]
    trunk = classifier.encoder.get_submodule(prefix)  # type: ignore[union-attr]
    state: dict[str, Tensor] = dict(trunk.state_dict())
    if isinstance(classifier, LinearClassifier) and (named := backbone.encoder.foreign_heads):
        state |= {f"{named[0]}.{key}": tensor for key, tensor in classifier.head.state_dict().items()}
    return {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state.items()}
