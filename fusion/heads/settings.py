"""Settings of heads: their kinds and ranges, weights of classes, and numbers of threads, checked alike for all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any, Final

import numpy as np
from cer_fusion.fusion.cores import whole_cores
from cer_fusion.fusion.errors import HeadConfigError
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from threadpoolctl import ThreadpoolController, threadpool_info

_KINDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "float": (Real, "a number"),
    "int": (Integral, "a whole number"),
    "bool": ((bool, np.bool_), "true or false"),
    "str": (str, "a name"),
    "Mapping": (Mapping, 'settings, {"name": value}'),
}


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


def factors(class_weight: Any, classes: NDArray[Any], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return one factor a class (k,).

    Parameters
    ----------
    class_weight : None, "balanced" or dict of label to factor
        None weighs every row alike, `balanced` every class alike; a label without a factor has 1.
    classes : ndarray of shape (k,)
        The labels.
    codes : ndarray of shape (n,)
        Positions in `classes`, one a training row.

    Raises
    ------
    HeadConfigError
        If a label is not known, or a factor is negative or not finite.
    """
    try:
        found = compute_class_weight(class_weight, classes=classes, y=classes[codes])
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
    for library in threadpool_info():
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
    pools = ThreadpoolController()
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
