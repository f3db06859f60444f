"""Settings of heads: kinds and ranges, weights of classes, numbers of threads; and those of `mlp` as one object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from inspect import signature
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any, Final, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...kit.errors import nearest
from ...kit.machine import thread_pools, whole_cores
from ..errors import HeadConfigError

_KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "float": (Real, "a number"),
    "int": (Integral, "a whole number"),
    "bool": ((bool, np.bool_), "true or false"),
    "str": (str, "a name"),
    "tuple": ((tuple, list, np.ndarray), "a list, [256]"),
    "Mapping": (Mapping, 'settings, {"name": value}'),
}


DU2014: Final = "du2014"
"""Stands for the prior table of action units of `cer_fusion.fusion.judging.zero_shot.unit_table`."""


def check_kinds(head: Any) -> None:
    """Refuse settings that are of another kind than the head declares: a word for a number, a number for yes or no.

    Settings of kinds that are the head's own, such as `batch_size: int | Literal["auto"]`, it checks itself.

    Raises
    ------
    HeadConfigError
        Naming the setting, the value and the kind.
    """
    for name, parameter in signature(type(head)).parameters.items():
        kinds = [kind.partition("[")[0] for kind in str(parameter.annotation).split(" | ")]
        if name == "blocks" or not set(kinds) <= {*_KINDS, "None"}:
            continue
        value = getattr(head, name)
        is_flag = isinstance(value, bool) and "bool" not in kinds
        fits = value is None if "None" in kinds else False
        fits = fits or any(isinstance(value, _KINDS[kind][0]) for kind in kinds if kind != "None")
        if not fits or is_flag:
            expected = " or ".join(_KINDS[kind][1] for kind in kinds if kind != "None")
            raise HeadConfigError(f"{name} must be {expected}, got {value!r}")


def whole(name: str, value: object, *, least: int = 1, most: int | None = None) -> None:
    """Refuse a setting that is no whole number from `least` to `most`.

    Raises
    ------
    HeadConfigError
        Naming the setting, the value and the range.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or not least <= int(value) <= (most or int(value)):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise HeadConfigError(f"{name} must be a whole number {limits}, got {value!r}")


def one_of(name: str, value: object, words: Sequence[str]) -> None:
    """Refuse a setting that is none of a few words."""
    if value not in words:
        *others, last = map(repr, words)
        raise HeadConfigError(f"{name} must be {', '.join(others)} or {last}, got {value!r}")


def positive(head: Any, *names: str) -> None:
    """Refuse settings that are not finite and positive; None where a setting may be left to the head."""
    for name in names:
        value = getattr(head, name)
        if value is not None and not 0 < value < float("inf"):
            raise HeadConfigError(f"{name} must be finite and positive, got {value!r}")


def check_folds(folds: object) -> None:
    """Refuse a number of folds that is none."""
    whole("folds", folds, least=2)


def share(name: str, value: float) -> None:
    """Refuse a setting outside [0, 1)."""
    if not 0 <= value < 1:
        raise HeadConfigError(f"{name} must lie in [0, 1), got {value!r}")


def not_negative(name: str, value: float) -> None:
    """Refuse a setting that is negative, infinite or NaN."""
    if not 0 <= value < float("inf"):
        raise HeadConfigError(f"{name} must be finite and not negative, got {value!r}")


def factors(
    class_weight: Any, classes: NDArray[Any], codes: NDArray[np.int64], soft: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return one factor a class (k,).

    Parameters
    ----------
    class_weight : None, "balanced" or dict of label to factor
        None weighs every row alike, `balanced` every class alike; a label without a factor has 1. Labels may be texts.
    classes : ndarray of shape (k,)
        The labels.
    codes : ndarray of shape (n,)
        Positions in `classes`, one a training row.
    soft : ndarray of shape (n, k), optional
        Share of each class in each row: `balanced` then counts shares.

    Raises
    ------
    HeadConfigError
        If a label is not known, or a factor is negative or not finite.
    """
    from sklearn.utils.class_weight import compute_class_weight

    if isinstance(class_weight, Mapping):  # what was kept as JSON has texts
        labels = {str(one): one for one in classes.tolist()}
        class_weight = {labels.get(str(label), label): factor for label, factor in class_weight.items()}
    try:
        if soft is None:
            found = compute_class_weight(class_weight, classes=classes, y=classes[codes])
        else:
            rows, shared = np.nonzero(soft)
            found = compute_class_weight(
                class_weight, classes=classes, y=classes[shared], sample_weight=soft[rows, shared]
            )
    except (ValueError, TypeError) as error:
        raise HeadConfigError(
            f"class_weight must be None, 'balanced' or a factor a label, got {class_weight!r}: {error}"
            f"\n  labels: {', '.join(map(str, classes))}"
        ) from error
    found = np.asarray(found, np.float64)
    if not (np.isfinite(found).all() and (found >= 0).all() and found.any()):
        raise HeadConfigError(f"class weights must be finite and not negative, got {class_weight!r}")
    return found


def by_code(class_weight: Any, classes: NDArray[Any], codes: NDArray[np.int64]) -> dict[int, float] | None:
    """Return the factors as scikit-learn takes them for class codes, or None when all rows weigh alike."""
    if class_weight is None:
        return None
    return dict(enumerate(map(float, factors(class_weight, classes, codes))))


MOST_THREADS: Final = 256

OWN_NUMBER: Final = ("torch", "xgboost", "lightgbm", "catboost")
"""Libraries that bring an OpenMP of their own and are told their number by a head, which records it by their name."""


def library_threads() -> dict[str, int]:
    """Return the threads of BLAS and OpenMP as NumPy, SciPy and scikit-learn use them: ``{"blas": 2, "openmp": 2}``.

    The largest number, where several copies of a library are loaded. What else a program has imported does not matter.
    """
    found: dict[str, int] = {}
    for library in thread_pools().info():
        home = {part.split(".")[0] for part in PurePath(library["filepath"]).parts[-3:-1]}  # torch/lib, xgboost.libs
        if not home & set(OWN_NUMBER):
            kind = str(library["user_api"])
            found[kind] = max(found.get(kind, 1), int(library["num_threads"]))
    return dict(sorted(found.items()))


def check_threads(threads: object) -> None:
    """Refuse a number of threads that is none; None leaves the number to the head."""
    if threads is not None:
        whole("threads", threads, most=MOST_THREADS)


def threads_of(threads: int | None, found: int) -> int:
    """Return how many to compute with: what is asked for, else as many as the library has, with a core each."""
    return min(found, whole_cores()) if threads is None else int(threads)


@contextmanager
def libraries_limited(threads: int | None) -> Iterator[None]:
    """Let BLAS and OpenMP compute with so many threads inside the block, and with as many as before after it.

    None leaves them as they are, but for those that have more threads than this process may use cores: threads without
    a core hold up the ones that wait for them. Libraries do see which cores are a process's own, but not what share of
    their time a control group allows.
    """
    pools = thread_pools()
    if threads is None:
        many = [library["filepath"] for library in pools.info() if library["num_threads"] > whole_cores()]
        if not many:
            yield
            return
        pools = pools.select(filepath=many)
    with pools.limit(limits=threads_of(threads, whole_cores())):
        yield


def tree_threads(threads: int | None) -> int:
    """Return how many threads grow trees: one unless told otherwise, whatever the machine.

    Sums over rows, and so the trees, depend on the number. Trees of the size that heads grow gain little from more, and
    beside other work threads that wait for each other after every histogram lose a lot.
    """
    return 1 if threads is None else int(threads)


Standardize: TypeAlias = Literal["none", "standard", "l2", "power"]
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
