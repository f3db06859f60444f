"""What can be read off blocks and answers: agreement, likeness of blocks, mistakes, near-duplicates, calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..data.rows import Rows
from ..errors import ReportError
from .metrics import Scores, cohen_kappa, confusion_matrix

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]

PIECE = 2048
"""Rows read at once."""
Matrix: TypeAlias = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Pairwise figures of several heads on the same rows; matrices are symmetric, in the order of the names."""

    names: tuple[str, ...]
    """The heads, here single backbones."""
    kappa: Matrix
    """Cohen's kappa of the answers (Cohen 1960): 1 the same, 0 as by chance; None where both give one answer only."""
    disagreement: Matrix
    """Share of rows that exactly one of the two gets right (Kuncheva and Whitaker 2003, §2.1.3)."""
    double_fault: Matrix
    """Share of rows that both get wrong (Giacinto and Roli 2001): what no choice between the two repairs."""
    accuracy: tuple[float, ...]
    """Accuracy of each."""
    oracle: float
    """Share of rows that at least one head gets right: no choice among them can be more accurate."""
    all_right: float
    """Share of rows that every head gets right."""


def agreement(y: IntArray, answers: Mapping[str, IntArray], k: int) -> Agreement:
    """Compare the answers, class positions of shape (n,), of several heads with each other and with the truth."""
    called = np.stack(list(answers.values()))  # (h, n)
    right = called == y
    apart = (right[:, None] != right[None]).mean(axis=2)
    wrong = (~right[:, None] & ~right[None]).mean(axis=2)
    return Agreement(
        names=tuple(answers),
        kappa=tuple(tuple(cohen_kappa(confusion_matrix(a, b, k)) for b in called) for a in called),
        disagreement=_plain(apart),
        double_fault=_plain(wrong),
        accuracy=tuple(right.mean(axis=1).tolist()),
        oracle=float(right.any(axis=0).mean()),
        all_right=float(right.all(axis=0).mean()),
    )


def _plain(matrix: NDArray[Any]) -> Matrix:
    return tuple(tuple(row) for row in matrix.tolist())


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Linear CKA of all pairs of blocks."""

    names: tuple[str, ...]
    """The blocks."""
    cka: Matrix
    """Symmetric; 1 on the diagonal, about 0 for blocks with nothing in common."""
    n: int
    """Rows it was measured on."""


def similarity(blocks: Mapping[str, Any]) -> Similarity:
    """Measure the debiased linear CKA of all pairs of blocks of shape (n, d_i), lazy ones too."""
    names = tuple(blocks)
    found = np.eye(len(names))
    for i, one in enumerate(names):
        for j in range(i):
            found[i, j] = found[j, i] = linear_cka(blocks[one], blocks[names[j]], debiased=True)
    return Similarity(names=names, cka=tuple(tuple(row) for row in found.tolist()), n=len(next(iter(blocks.values()))))


def linear_cka(x: Any, y: Any, *, debiased: bool = False) -> float:
    """Return the linear centred kernel alignment of two blocks of the same rows.

    Kornblith, Norouzi, Lee, Hinton 2019, *Similarity of Neural Network Representations Revisited*, §3: with centred
    columns ``|Y^T X|^2 / (|X^T X| |Y^T Y|)`` in the Frobenius norm, unchanged by rotations, shifts and one factor for
    all columns of a block. With fewer rows than columns that is high for any two blocks; the debiased form replaces
    each norm by the unbiased estimator of HSIC (Song et al. 2012, *Feature Selection via Dependence Maximization*,
    equation 5), written for features so that no kernel is needed. It can be a little below 0.

    Blocks are read piece by piece. Where columns are few the products of columns (d, e) are held; where they are many
    the products of rows are summed piece by piece, which gives the same.

    Parameters
    ----------
    x, y : arrays of shape (n, d), (n, e)
        Rows aligned by sample; at least 4 rows.

    Raises
    ------
    ReportError
        If the rows differ in number or are too few, or a block is constant.
    """
    a, b = Centred.of(x), Centred.of(y)
    if a.shape[0] != b.shape[0] or a.shape[0] < 4:
        raise ReportError(f"CKA needs two blocks of the same 4 rows or more, however: {a.shape[0]} and {b.shape[0]}")
    own, other = _dependence(a, a, debiased), _dependence(b, b, debiased)
    if own <= 0 or other <= 0:
        raise ReportError("CKA is undefined for a block whose rows are all the same, or that is mere noise on few rows")
    return _dependence(a, b, debiased) / float(np.sqrt(own * other))


def _dependence(a: Centred, b: Centred, debiased: bool) -> float:
    """Return the squared norm of A^T B, or n (n - 3) times the unbiased HSIC, of centred blocks."""
    n = a.shape[0]
    total = _by_columns(a, b) if a.shape[1] * b.shape[1] <= n * n else _by_rows(a, b)
    if not debiased:
        return total
    one, other = _diagonal(a), _diagonal(b)
    return total - n / (n - 2) * float(one @ other) + float(one.sum() * other.sum()) / ((n - 1) * (n - 2))


def _by_columns(a: Centred, b: Centred) -> float:
    product = np.zeros((a.shape[1], b.shape[1]))
    for where in places(a.shape[0]):
        product += a.piece(where).T @ b.piece(where)  # (m, d), (m, e) -> (d, e)
    return float((product**2).sum())


def _by_rows(a: Centred, b: Centred) -> float:
    """The same as the product of the kernels A A^T and B B^T, entry by entry."""
    total = 0.0
    for i in places(a.shape[0]):
        for j in places(a.shape[0]):
            total += float(((a.piece(i) @ a.piece(j).T) * (b.piece(i) @ b.piece(j).T)).sum())
    return total


def _diagonal(a: Centred) -> FloatArray:
    """Squared lengths of the rows, the diagonal of the kernel: (n,)."""
    return np.concatenate([(a.piece(where) ** 2).sum(axis=1) for where in places(a.shape[0])])


@dataclass(frozen=True, kw_only=True)
class ConfusedPair:
    """Rows of one class that were taken for another."""

    truth: str
    """The class they are of."""
    answer: str
    """The class they were taken for."""
    count: int
    """Rows."""
    share: float
    """Share of the true class's rows, 0-1."""


@dataclass(frozen=True, kw_only=True)
class HardSample:
    """A row whose true class the head held least likely."""

    sample_id: str
    """Which row."""
    truth: str
    """Its label; a hard sample may as well be a wrong label."""
    answer: str
    """What the head said."""
    of_truth: float
    """The probability it gave to the label, 0-1."""
    of_answer: float
    """The probability it gave to its answer, 0-1."""
    right: int
    """Single backbones that were right."""


def confused_pairs(found: Scores, most: int) -> tuple[ConfusedPair, ...]:
    """Return the most frequent mistakes, by count, then by share of the true class."""
    counts = found.confusion * ~np.eye(len(found.classes), dtype=np.bool_)
    pairs = [
        ConfusedPair(
            truth=found.classes[i],
            answer=found.classes[j],
            count=int(counts[i, j]),
            share=int(counts[i, j]) / int(found.supports[i]),
        )
        for i, j in np.argwhere(counts).tolist()
    ]
    return tuple(sorted(pairs, key=lambda pair: (-pair.count, -pair.share))[:most])


def hardest(
    ids: Sequence[str],
    classes: Sequence[str],
    y: IntArray,
    proba: FloatArray,
    singles: Sequence[IntArray],
    most: int,
) -> tuple[HardSample, ...]:
    """Return the rows of the largest loss of a head's probabilities (n, k), hardest first.

    `singles` are the answers (n,) of heads on single backbones.
    """
    right = np.zeros(len(y), np.int64)
    for answers in singles:
        right += answers == y
    answer = proba.argmax(axis=1)
    order = np.argsort(-losses(y, proba), kind="stable")[:most].tolist()
    return tuple(
        HardSample(
            sample_id=ids[i],
            truth=classes[y[i]],
            answer=classes[answer[i]],
            of_truth=float(proba[i, y[i]]),
            of_answer=float(proba[i, answer[i]]),
            right=int(right[i]),
        )
        for i in order
    )


THRESHOLD = 0.85
"""On FER+'s compound faces with three backbones: above it the same photograph in another crop, below other moments.
Few or narrow blocks are alike by chance more often: look at the pairs before believing a number."""
MOST_PAIRS = 10_000


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two rows that look alike."""

    sample_id: str
    """The row that is judged on."""
    other_id: str
    """The row that is learned from (or, within one split, another row)."""
    cosine: float
    """How alike, at most 1."""


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Pairs of rows across two splits (or within one) whose features nearly agree."""

    threshold: float
    """Smallest cosine that counts."""
    found: int
    """Pairs at or above it."""
    samples: int
    """Rows judged on that are in a pair."""
    pairs: tuple[Pair, ...]
    """The pairs, most alike first; at most `MOST_PAIRS`."""


def near_duplicates(
    test: Rows, train: Rows | None = None, *, threshold: float = THRESHOLD
) -> tuple[NearDuplicates, NDArray[np.bool_]]:
    """Find rows of a test set that nearly stand in the training set, and say which rows they are, a mask (n,).

    The cosine is the mean over the blocks of each block's cosine, after the training rows' mean is taken off: features
    after a ReLU all point one way, so raw cosines are high for any two faces. Rows are multiplied piece by piece, so
    memory is bounded however many there are.

    Parameters
    ----------
    test, train : Rows
        Rows with the same blocks, lazy ones too. Without training rows pairs are sought within the test rows.
    threshold : float
        Smallest cosine that counts, -1 to 1.
    """
    if not -1 <= threshold <= 1:
        raise ReportError(f"a cosine lies between -1 and 1, however: threshold {threshold}")
    base = test if train is None else train
    means = {name: mean_row(block) for name, block in base.blocks.items()}
    hit = np.zeros(test.n, np.bool_)
    found, rows, others, cosines = 0, [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for start, piece in _pieces(test, means):
        for begin, against in _pieces(base, means):
            if train is None and begin > start:
                break  # each pair once
            cosine = piece @ against.T
            i, j = np.nonzero(cosine >= threshold)
            values, i, j = cosine[i, j], i + start, j + begin
            if train is None:
                once = j < i
                values, i, j = values[once], i[once], j[once]
                hit[j] = True
            hit[i] = True
            found += i.size
            rows, others, cosines = _kept([*rows, i], [*others, j], [*cosines, values])
    pairs = tuple(
        Pair(sample_id=test.names[i], other_id=base.names[j], cosine=float(value))
        for i, j, value in zip(rows[0].tolist(), others[0].tolist(), cosines[0].tolist(), strict=True)
    )
    return NearDuplicates(threshold=threshold, found=found, samples=int(hit.sum()), pairs=pairs), hit


def _kept(
    rows: list[NDArray[np.int64]], others: list[NDArray[np.int64]], cosines: list[Float32Array]
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]], list[Float32Array]]:
    """Keep the `MOST_PAIRS` most alike, most alike first."""
    i, j, value = np.concatenate(rows), np.concatenate(others), np.concatenate(cosines)
    order = np.lexsort((j, i, -value))[:MOST_PAIRS]
    return [i[order]], [j[order]], [value[order]]


def _pieces(rows: Rows, means: Mapping[str, NDArray[np.float64]]) -> Iterator[tuple[int, Float32Array]]:
    """Yield rows as vectors whose products are mean cosines, piece by piece: (m, D)."""
    share = np.float32(1 / np.sqrt(len(means)))
    for where in places(rows.n):
        parts = []
        for name, mean in means.items():
            part = Centred(rows.blocks[name], mean).piece(where).astype(np.float32)
            length = np.sqrt((part**2).sum(axis=1, keepdims=True))
            parts.append(share * np.divide(part, length, out=np.zeros_like(part), where=length > 0))
        yield where.start, np.concatenate(parts, axis=1)


BINS = 15
"""As in Guo et al. 2017."""
_SMALLEST = float(np.finfo(np.float64).eps)  # a truth that was given probability 0 costs 36 nats, not infinity


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Rows of like confidence."""

    low: float
    """Smallest confidence in the bin, 0-1."""
    high: float
    """Largest."""
    n: int
    """Rows."""
    confidence: float
    """Mean confidence, 0-1."""
    accuracy: float
    """Share of them that were right, 0-1."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How far probabilities can be believed; confidence is the probability of the answer that was given."""

    ece: float
    """Expected calibration error over bins of equal width (Guo et al. 2017, equation 3), 0-1."""
    ece_equal_mass: float
    """The same over bins of equally many rows (Nguyen and O'Connor 2015), which no empty bin disturbs."""
    brier: float
    """Mean squared distance of probabilities from the truth, summed over the classes (Brier 1950), 0-2."""
    nll: float
    """Mean negative log-probability of the truth, nats."""
    confidence: float
    """Mean confidence: above the accuracy the head is overconfident."""
    accuracy: float
    """Share of rows that were right."""
    bins: tuple[Bin, ...]
    """The reliability table: bins of equally many rows."""


def calibration(y: IntArray, proba: FloatArray, *, bins: int = BINS) -> Calibration:
    """Judge probabilities (n, k) of rows whose class positions are y (n,)."""
    if bins < 1:
        raise ReportError(f"calibration needs at least one bin, however: {bins}")
    confidence, right = proba.max(axis=1), proba.argmax(axis=1) == y
    width = [part for part in _of_equal_width(confidence, bins) if part.size]
    mass = [part for part in np.array_split(np.argsort(confidence, kind="stable"), bins) if part.size]
    return Calibration(
        ece=_error(confidence, right, width),
        ece_equal_mass=_error(confidence, right, mass),
        brier=float(((proba - np.eye(proba.shape[1])[y]) ** 2).sum(axis=1).mean()),
        nll=float(losses(y, proba).mean()),
        confidence=float(confidence.mean()),
        accuracy=float(right.mean()),
        bins=tuple(_bin(confidence[part], right[part]) for part in mass),
    )


def losses(y: IntArray, proba: FloatArray) -> FloatArray:
    """Return the negative log-probability of the truth: (n,), (…, n, k) -> (…, n), nats; at most 36."""
    of_truth = np.take_along_axis(proba, np.broadcast_to(y[:, None], (*proba.shape[:-1], 1)), axis=-1)[..., 0]
    return np.asarray(-np.log(np.clip(of_truth, _SMALLEST, 1.0)))


def _of_equal_width(confidence: FloatArray, bins: int) -> list[IntArray]:
    """Bins (0, 1/b], (1/b, 2/b], …"""
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return [np.flatnonzero(place == i) for i in range(bins)]


def _error(confidence: FloatArray, right: NDArray[np.bool_], parts: list[IntArray]) -> float:
    gaps = [part.size * abs(right[part].mean() - confidence[part].mean()) for part in parts]
    return float(sum(gaps) / confidence.size)


def _bin(confidence: FloatArray, right: NDArray[np.bool_]) -> Bin:
    return Bin(
        low=float(confidence.min()),
        high=float(confidence.max()),
        n=confidence.size,
        confidence=float(confidence.mean()),
        accuracy=float(right.mean()),
    )


def places(n: int) -> Iterator[slice]:
    """Yield where the pieces of so many rows lie."""
    for start in range(0, n, PIECE):
        yield slice(start, min(start + PIECE, n))


@dataclass(frozen=True, eq=False)
class Centred:
    """A block (n, d), an array or a map of one, whose pieces come with a row taken off."""

    block: Any
    """The block."""
    mean: FloatArray
    """(d,) what is taken off each row."""

    @classmethod
    def of(cls, block: Any) -> Centred:
        """Take the block's own mean off."""
        return cls(block, mean_row(block))

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        n, d = self.block.shape
        return int(n), int(d)

    def piece(self, where: slice) -> FloatArray:
        """Read some rows: (m, d) float64."""
        return np.asarray(np.asarray(self.block[where], np.float64) - self.mean)


def mean_row(block: Any) -> FloatArray:
    """Return the mean row of a block, (d,)."""
    total = np.zeros(block.shape[1])
    for where in places(block.shape[0]):
        total += np.asarray(block[where], np.float64).sum(axis=0)
    return np.asarray(total / block.shape[0])
