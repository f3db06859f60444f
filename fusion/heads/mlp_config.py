"""The settings of the `mlp` head as one object, and the paper's; apart from the head, as that needs PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from cer_fusion.fusion.errors import HeadConfigError, nearest

if TYPE_CHECKING:
    from cer_fusion.fusion.heads.scaling import Standardize

Fusion: TypeAlias = Literal["pool", "concat"]
Normalization: TypeAlias = Literal["none", "layer"]


@dataclass(frozen=True, kw_only=True)
class MLPConfig:
    """How a multilayer perceptron learns from joined blocks.

    The defaults are what measured best on real faces (`benchmarks/RESULTS.md`); `paper()` is the paper's recipe.
    """

    fusion: Fusion = "pool"
    """`concat` trains networks on the joined blocks, as the paper does. `pool` trains networks on each block alone and
    adds up their log probabilities, each block with a factor learned on held-out training rows
    (`cer_fusion.fusion.heads.mlp.learned_factors`): a weak block then cannot drown a strong one. With a single block
    they are the same."""

    pool_share: float = 0.1
    """Share of the training rows that a member of a pool does not learn from, other rows for every member: from its
    answers about them the factors are learned, in the same training. 0 learns none: all blocks count alike."""

    hidden: tuple[int, ...] = (256,)
    """Widths of the hidden layers, each followed by ReLU and dropout."""

    norm: Normalization = "none"
    """`layer` normalises each hidden layer before its ReLU (Ba et al., 2016, "Layer normalization", §3)."""

    epochs: int = 15
    """Passes over the training rows."""

    batch_size: int = 128
    """Rows a step; the last batch of an epoch may hold fewer."""

    lr: float = 1e-3
    """Learning rate of Adam; the peak where a schedule moves it."""

    schedule: Literal["constant", "cosine"] = "cosine"
    """`cosine` warms up over a twentieth of the steps, then falls to zero along half a cosine."""

    weight_decay: float = 0.0
    """Decoupled decay of weight matrices (AdamW), as a factor on lr; 0 is plain Adam. Biases, scales and embeddings do
    not decay."""

    dropout: float = 0.5
    """Probability of leaving out a hidden unit while training, in [0, 1)."""

    standardize: Standardize = "power"
    """What happens to each block first; `cer_fusion.fusion.heads.scaling` explains the words."""

    label_smoothing: float = 0.1
    """Share of every target spread over the classes as often as they occur, in [0, 1). (Spread evenly, it would make
    the rarest classes likelier than they are.)"""

    class_weight: Literal["balanced"] | dict[Any, float] | None = None
    """Factor on each class's loss: None, `balanced` (inverse frequency) or one a label; their mean over rows is one."""

    logit_adjust: float = 0.5
    """Factor on the log class frequency that is added to the logits while training only (Menon et al., 2021, "Long-tail
    learning via logit adjustment", eq. 10); 1 aims at balanced accuracy, 0 at accuracy."""

    members: int = 4
    """Networks whose probabilities are averaged; they share batches and differ in first weights and dropout."""

    early_stop: float = 0.0
    """Share of each class's training rows kept aside to choose the epoch, in [0, 1); 0 trains on all to the end."""

    patience: int = 10
    """Epochs without improvement on the rows kept aside before training stops."""

    @classmethod
    def paper(cls) -> Self:
        """Return the recipe of the paper: 2304 -> 1152 -> ReLU -> dropout 0.1 -> 7 on raw features.

        Adam 5e-5, batches of 128, 100 epochs, cross-entropy ("Multi Model Ensemble for Compound Expression
        Recognition", 2024); the width of the hidden layer and the dropout, which the paper leaves open, are those of
        the public code of the same line of work.
        """
        return cls(
            fusion="concat", hidden=(1152,), epochs=100, batch_size=128, lr=5e-5, schedule="constant",
            weight_decay=0.0, dropout=0.1, standardize="none", label_smoothing=0.0,
            class_weight=None, logit_adjust=0.0, members=1, early_stop=0.0,
        )  # fmt: skip

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """Read back what `as_dict` wrote, refusing settings that do not exist.

        Raises
        ------
        HeadConfigError
            If a setting is not known.
        """
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                raise HeadConfigError(f"the mlp head has no setting {name!r}; {nearest(name, known)}")
        plain = dict(settings)
        if "hidden" in plain:
            plain["hidden"] = tuple(plain["hidden"])
        return cls(**plain)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings by name, as JSON takes them."""
        return {**asdict(self), "hidden": list(self.hidden)}
