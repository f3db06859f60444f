"""The classifier: a backbone with one linear head, or with heads of its own, that trains all of it; and its loss.

What a head reads and how branches are mixed, the backbone's recipe says (see `Encoder`); by default it is the joined
blocks, so that training shapes the very rows that extraction gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data.mixup import Mixup
from torch import Tensor, nn
from torch.nn import functional as F

from ...kit.locality import drawn, near_votes, same_class
from ..errors import OptionError
from ..torch_backbone import TorchBackbone
from .examples import Examples
from .process import drawn_from, numpy_drawn_from
from .recipe import Recipe
from .trainable import merged_state

HEAD = "head"
UNITS = "units"
"""What the head reads, beside the branches' logits, where a training asks for it."""


class Classifier(nn.Module):
    """Pictures (b, 3, h, w) float -> {branch: logits (b, k)}.

    Attributes
    ----------
    shares : dict of float
        Branch -> its share in logits and loss; they sum to 1. One linear head is the one branch "head".
    shows_units : bool
        Whether `forward` gives what the head reads too, (b, d), as `UNITS`.
    """

    shows_units = False

    def __init__(self, backbone: TorchBackbone, k: int) -> None:
        super().__init__()
        self.encoder: Any = backbone.module
        self.blocks = tuple(backbone.blocks)
        self._own, self._reads = backbone.encoder.branches, backbone.encoder.head_reads
        self.shares: Mapping[str, float] = {HEAD: 1.0}
        self.head: nn.Linear | None = None
        if self._own is None:
            self.head = nn.Linear(self._reads[0] if self._reads else sum(backbone.blocks.values()), k)
            nn.init.trunc_normal_(self.head.weight, std=0.01)
            nn.init.zeros_(self.head.bias)
            return
        self.shares = dict(self._own.shares)
        if self._own.k != k:
            raise OptionError(
                f"{backbone.name} has {self._own.k}-way heads, and there are {k} classes\n"
                f"  create it with num_classes={k} (and replace_heads=True for a file with heads of another width)"
            )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(b, 3, h, w) -> {branch: (b, k)}."""
        if self._own is not None:
            return self._own.logits(self.encoder, x)
        assert self.head is not None
        if self._reads is not None:
            units = self._reads[1](self.encoder, x)
        else:
            rows = self.encoder(x)
            units = torch.cat([rows[block] for block in self.blocks], dim=1)
        return {HEAD: self.head(units)} | ({UNITS: units} if self.shows_units else {})

    def show_units(self) -> None:
        """Give what the head reads too, from now on.

        Raises
        ------
        OptionError
            If it has heads of its own, which read no one vector.
        """
        if self.head is None:
            raise OptionError(
                "locality draws what one linear head reads, and this network has heads of its own "
                f"({', '.join(self.shares)})\n  leave it out: locality=0"
            )
        self.shows_units = True

    def mixed(self, logits: Mapping[str, Tensor]) -> Tensor:
        """Mix the branches' logits: {branch: (b, k)} -> (b, k)."""
        return torch.stack([share * logits[branch] for branch, share in self.shares.items()]).sum(0)


def classifier_of(backbone: TorchBackbone, k: int, *, seed: int) -> Classifier:
    """Put a classifier for k classes on a backbone; new heads are drawn from the seed."""
    with drawn_from(seed):
        return Classifier(backbone, k).to(backbone.device)


def state_for_loader(backbone: TorchBackbone, classifier: Classifier) -> dict[str, Tensor]:
    """Return the tensors of a weights file: the trunk in its public names, and the head in the name that timm gives it.

    `classifier` may be an averaged copy of the one that was put on `backbone`. A timm model without a classifier has no
    name for a head; then there is none in the file.
    """
    at = {id(module): name for name, module in backbone.module.named_modules(remove_duplicate=False)}
    trunk = classifier.encoder.get_submodule(at[id(backbone.encoder.trunk)])
    state: dict[str, Tensor] = merged_state(trunk)
    if classifier.head is not None and (named := backbone.encoder.foreign_heads):
        state |= {f"{named[0]}.{key}": tensor for key, tensor in classifier.head.state_dict().items()}
    return {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state.items()}


def targets_of(examples: Examples, k: int, recipe: Recipe) -> NDArray[np.float32]:
    """Return each example's label distribution, (n, k): the soft one where given, else the smoothed hard one."""
    if examples.soft is not None:
        return examples.soft
    hard = np.eye(k, dtype=np.float32)[examples.y]
    return hard * np.float32(1 - recipe.label_smoothing) + np.float32(recipe.label_smoothing / k)


def log_prior(y: NDArray[np.int64], k: int, recipe: Recipe) -> NDArray[np.float32]:
    """Return what is added to training logits, (k,): ``logit_adjustment`` times log share of each class."""
    share = np.bincount(y, minlength=k) / len(y)
    return (recipe.logit_adjustment * np.log(share)).astype(np.float32)


def loss_sum(
    logits: Mapping[str, Tensor], shares: Mapping[str, float], targets: Tensor, prior: Tensor, focal: float = 0.0
) -> Tensor:
    """Sum the cross-entropies over a batch, branches mixed by their shares.

    Parameters
    ----------
    logits : dict of Tensor of shape (b, k)
    targets : Tensor of shape (b, k)
        Distributions.
    prior : Tensor of shape (k,)
        Added to the logits; see `log_prior`.
    focal : float
        Power of (1 - p) that a class's term counts by (Lin et al., ICCV 2017, eq. 4; here for distributions).
    """
    each = []
    for branch, share in shares.items():
        adjusted = logits[branch].float() + prior
        if focal:
            log_p = F.log_softmax(adjusted, dim=1)
            loss = -(targets * (1 - log_p.exp()).clamp(min=1e-7) ** focal * log_p).sum()
        else:
            loss = F.cross_entropy(adjusted, targets, reduction="sum")
        each.append(share * loss)
    return torch.stack(each).sum()


def locality_sum(units: Tensor, codes: Tensor, soft: Tensor | None, recipe: Recipe) -> Tensor:
    """Sum the recipe's locality loss over a batch.

    Parameters
    ----------
    units : Tensor of shape (b, d)
        What the classifier reads.
    codes : int Tensor of shape (b,)
        Classes.
    soft : Tensor of shape (b, k) or None
        Label distributions, where examples have any: then neighbours are alike in these.
    """
    alike = same_class(codes) if soft is None else near_votes(soft, recipe.neighbours)
    return drawn(units.float()[None], alike, recipe.neighbours).sum() * (recipe.locality / 2)


def mix(x: Tensor, targets: Tensor, recipe: Recipe, *, seed: int) -> tuple[Tensor, Tensor]:
    """Mix pictures of a batch and their targets with timm's Mixup, if the recipe wants it.

    timm mixes labels that are class numbers. Given each picture's place in the batch as its class, it answers with the
    matrix that mixed them, and that mixes distributions. It needs an even number: an odd last picture stays as it is.
    """
    if not (recipe.mixup or recipe.cutmix) or len(x) < 2:
        return x, targets
    even = len(x) // 2 * 2
    mixup = Mixup(mixup_alpha=recipe.mixup, cutmix_alpha=recipe.cutmix, label_smoothing=0.0, num_classes=even)  # type: ignore[no-untyped-call]
    with numpy_drawn_from(seed):
        mixed, matrix = mixup(x[:even].clone(), torch.arange(even, device=x.device))
    return torch.cat([mixed, x[even:]]), torch.cat([matrix.to(targets.dtype) @ targets[:even], targets[even:]])
