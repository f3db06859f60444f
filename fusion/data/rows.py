"""Rows to learn from: named blocks with labels and groups, samples that must stay on one side, and folds."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...kit.errors import nearest
from ...kit.table import facts_html, shortened
from ..errors import HeadDataError, ReportError
from ..judging.metrics import indices
from .blocks import concat, widths_of
from .joined import JoinedRows, Matrix, positions_of, taken
from .moments import in_time

IntArray = NDArray[np.int64]


class View(Protocol):
    """What a featstore view offers; the two packages do not import each other."""

    @property
    def blocks(self) -> Mapping[str, Any]:
        """Block name -> (n, d) float32, in order: arrays, or maps that `numpy.asarray` loads."""

    @property
    def y(self) -> IntArray:
        """(n,) positions in ``classes``."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in order."""

    @property
    def ids(self) -> Sequence[str]:
        """Sample ids."""

    @property
    def groups(self) -> Sequence[str]:
        """Video or subject of each row; empty text for none."""

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Feature name -> fingerprint."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Labelled rows of one split, checked once when they are made."""

    blocks: Mapping[str, Any]
    """Block name -> float32 (n, d), aligned by sample, in the order heads see them: arrays, or maps of them."""
    y: IntArray
    """(n,) positions in ``classes``."""
    classes: tuple[str, ...]
    """The declared classes in order."""
    ids: tuple[str, ...] | None = None
    """Sample ids; None numbers the rows."""
    groups: tuple[str, ...] | None = None
    """Video or subject of each row, empty text for none: rows of a group are not independent."""
    soft: NDArray[np.float64] | None = None
    """(n, k) share of each class in each row, of unit sum: what heads that can (`Head.learns_soft_labels`) learn from
    instead of ``y``, by which all are judged."""
    targets: Mapping[str, NDArray[np.float64]] | None = None
    """Task -> (n, t), NaN where a row has none: what heads of several tasks (`Head.learns_targets`) learn beside."""
    units: tuple[int, ...] | None = None
    """FACS numbers of the columns of ``targets["au"]``, where they are known."""
    time_s: NDArray[np.float64] | None = None
    """(n,) seconds of each row within its video, NaN where not known; None: frame numbers in the ids tell the order."""
    basic: Rows | None = None
    """Rows of the same blocks with basic expressions, for heads that learn from them (`NetworkHead.curriculum`)."""
    pairs: Mapping[int, tuple[int, int]] | None = None
    """Position of a class -> those of its two components in ``basic.classes``
    (`cer_fusion.fusion.judging.zero_shot.with_basic`)."""
    features: tuple[str, ...] | None = None
    """Feature (backbone) names; None takes what stands before the first dot of each block's name."""
    fingerprints: Mapping[str, str] | None = None
    """Feature -> fingerprint, kept in reports."""
    split: str = ""
    """The split that they are of, for what is said of them; empty where it is not known, or there are several."""

    def __post_init__(self) -> None:
        """Refuse rows that do not belong together."""
        concat({name: block[:0] for name, block in self.blocks.items()})  # raises BlockError on what is no block
        object.__setattr__(self, "y", indices(self.y, self.classes))
        sizes = {name: len(block) for name, block in self.blocks.items()} | {"y": len(self.y)}
        sizes |= {} if self.ids is None else {"ids": len(self.ids)}
        sizes |= {} if self.groups is None else {"groups": len(self.groups)}
        sizes |= {} if self.time_s is None else {"times": len(self.time_s)}
        sizes |= {} if self.soft is None else {"soft labels": len(self.soft)}
        sizes |= {f"targets {name}": len(one) for name, one in (self.targets or {}).items()}
        if len(set(sizes.values())) > 1:
            raise ReportError(
                "blocks, labels, ids and groups must have the same rows, however: "
                + ", ".join(f"{name} {size}" for name, size in sizes.items())
            )
        if not len(self.y):
            raise ReportError("there are no rows\n  check the split's name and that its samples have labels")
        if self.soft is not None and self.soft.shape != (len(self.y), len(self.classes)):
            raise ReportError(
                f"soft labels must have a column for each of {len(self.classes)} classes, however: {self.soft.shape}"
            )
        units = (self.targets or {}).get("au", np.empty((0, 0)))
        if self.units is not None and units.shape[1] != len(self.units):
            raise ReportError(f"units must name the columns of targets['au'], however: {len(self.units)} numbers")
        if self.ids is not None and len(set(self.ids)) < len(self.ids):
            raise ReportError("a sample id stands twice among the rows: they would count double")
        self.by_feature()
        if self.basic is not None and list(self.basic.widths.items()) != list(self.widths.items()):
            raise ReportError(
                f"rows of basic expressions must have the same blocks in the same order, however: {self.basic.widths} "
                f"and {self.widths}"
            )

    @classmethod
    def of(cls, view: View, *, load: bool = True, where: Any = None) -> Rows:
        """Take the rows of a featstore view, with the targets and times of its manifest where it has such columns.

        Parameters
        ----------
        view : View
            Loaded or mapped.
        load : bool
            Read mapped blocks into memory. False leaves them where they are: `x` is then a `JoinedRows`, from which the
            heads of `cer_fusion.fusion.heads.heads_in_pieces` learn, and about which every head can be asked.
        where : mask or positions, optional
            The rows to take, for example the labelled ones of a split; only those are read.
        """
        if not all(hasattr(view, name) for name in ("blocks", "y", "classes", "ids", "groups", "fingerprints")):
            raise ReportError(
                f"rows are taken of a view, however: {type(view).__name__}\n  open one: cer_fusion.Store('features')"
                ".view(['vit']); of arrays: cer_fusion.Rows(blocks={'vit': X}, y=y, classes=names)"
            )
        chosen = positions_of(slice(None) if where is None else where, len(view.y))
        if unlabelled := int((np.asarray(view.y)[chosen] < 0).sum()):
            raise ReportError(
                f"{unlabelled:,} of {len(chosen):,} rows of the view have no label to learn from\n"
                "  take the others: cer_fusion.Rows.of(view, where=view.y >= 0)"
            )
        blocks = dict(view.blocks) if where is None else taken(view.blocks, chosen)
        splits = getattr(view, "splits", ())
        there = {splits[i] for i in chosen} if len(splits) else set()
        targets, time_s = getattr(view, "targets", None), getattr(view, "time_s", None)
        return cls(
            blocks={name: np.asarray(block) for name, block in blocks.items()} if load else blocks,
            y=view.y[chosen],
            classes=tuple(view.classes),
            ids=tuple(view.ids[i] for i in chosen),
            groups=tuple(view.groups[i] for i in chosen),
            features=tuple(view.fingerprints),
            fingerprints=dict(view.fingerprints),
            split=there.pop() if len(there) == 1 else "",
            targets=None if targets is None else {task: known[chosen] for task, known in targets.items()},
            units=getattr(view, "units", None),
            time_s=None if time_s is None else time_s[chosen],
        )

    def _facts(self) -> dict[str, str]:
        groups = None if self.clusters is None else len(set(self.clusters))
        return {
            "blocks": shortened(f"{name} {width:,}" for name, width in self.widths.items()),
            "classes": shortened(f"{name} {n:,}" for name, n in zip(self.classes, self.supports, strict=True)),
            "groups": "none share one" if groups is None else f"{groups:,}",
            "split": self.split or "not known",
        }

    def __repr__(self) -> str:
        """Return one line; the numbers are left to whoever asks for them."""
        split = f"{self.split} " if self.split else ""
        return f"<Rows: {self.n:,} {split}rows, {self._facts()['blocks']}; {len(self.classes)} classes>"

    def _repr_html_(self) -> str:
        return facts_html(f"Rows: {self.n:,}", self._facts())

    def __len__(self) -> int:
        return self.n

    @property
    def n(self) -> int:
        """Number of rows."""
        return int(self.y.size)

    @property
    def widths(self) -> dict[str, int]:
        """Block name -> width, in order; what ``make_head(blocks=...)`` takes."""
        return widths_of(self.blocks)

    @property
    def supports(self) -> IntArray:
        """(k,) rows per class."""
        return np.bincount(self.y, minlength=len(self.classes)).astype(np.int64)

    @property
    def names(self) -> tuple[str, ...]:
        """Sample ids, or ``row 0``, ``row 1`` … when there are none."""
        return self.ids if self.ids is not None else tuple(f"row {i}" for i in range(self.n))

    @property
    def clusters(self) -> tuple[str, ...] | None:
        """The group of each row when any two rows share one, a name of its own for a row without; else None."""
        if self.groups is None:
            return None
        named = [group for group in self.groups if group]
        if len(set(named)) == len(named):
            return None
        return tuple(group or f"\0{i}" for i, group in enumerate(self.groups))

    def in_time(self) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Return the video of each row, empty for none, and its time there, NaN where not known.

        Rows with an id ``VIDEO/NNNNN.jpg`` and a group are frames (`cer_fusion.fusion.data.moments.frames_of`): at
        `time_s` where that is given, else at their number. With `time_s`, groups of other rows are videos.

        Raises
        ------
        HeadDataError
            If times of a video run backwards while frame numbers rise.
        """
        return in_time(self.names, self.groups, self.time_s)

    def x(self) -> Matrix:
        """Return the joined matrix, (n, sum of widths) float32: an array, or `JoinedRows` if a block is lazy."""
        if all(isinstance(block, np.ndarray) for block in self.blocks.values()):
            return concat(self.blocks)
        return JoinedRows(self.blocks)

    def by_feature(self) -> dict[str, tuple[str, ...]]:
        """Return the blocks of each feature, in order: ``{"manet": ("manet.local", "manet.multi_scale")}``."""
        found: dict[str, tuple[str, ...]] = {}
        for block in self.blocks:
            found[self._feature(block)] = (*found.get(self._feature(block), ()), block)
        return found

    def only(self, blocks: Sequence[str]) -> Rows:
        """Return the same rows with these blocks alone, in this order."""
        for name in blocks:
            if name not in self.blocks:
                raise ReportError(f"there is no block {name!r}; {nearest(name, self.blocks)}")
        basic = None if self.basic is None else self.basic.only(blocks)
        return replace(self, blocks={name: self.blocks[name] for name in blocks}, basic=basic)

    def take(self, where: Any) -> Rows:
        """Return the rows that a mask or positions choose; lazy blocks are not read."""
        where = positions_of(where, self.n)
        return replace(
            self,
            blocks=taken(self.blocks, where),
            y=self.y[where],
            ids=None if self.ids is None else tuple(self.ids[i] for i in where),
            groups=None if self.groups is None else tuple(self.groups[i] for i in where),
            soft=None if self.soft is None else self.soft[where],
            time_s=None if self.time_s is None else self.time_s[where],
            targets=None if self.targets is None else {name: one[where] for name, one in self.targets.items()},
        )

    def _feature(self, block: str) -> str:
        if self.features is None:
            return block.split(".", 1)[0]
        owners = [name for name in self.features if block == name or block.startswith(f"{name}.")]
        if not owners:
            raise ReportError(f"block {block!r} belongs to none of the features {', '.join(self.features)}")
        return max(owners, key=len)


def tied(rows: Rows, pairs: Iterable[tuple[str, str]]) -> Rows:
    """Return the rows with groups in which both samples of every pair stand together.

    Ties are transitive, through groups too: when a picture of video A stands in video B as well, A and B become one
    group. Rows without a tie keep their group.

    Parameters
    ----------
    rows : Rows
        Rows with sample ids.
    pairs : iterable of (id, id)
        Samples that are not independent: the same picture twice, two crops of one face.

    Raises
    ------
    ReportError
        If a pair names a sample that is not among the rows.
    """
    place = {name: i for i, name in enumerate(rows.names)}
    known = rows.groups or ("",) * rows.n
    leader = list(range(rows.n))

    def lead(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    first: dict[str, int] = {}
    for i, group in enumerate(known):
        leader[i] = lead(first.setdefault(group, i)) if group else i
    for one, other in pairs:
        unknown = [name for name in (one, other) if name not in place]
        if unknown:
            raise ReportError(f"{one!r} and {other!r} cannot be tied: there is no row {unknown[0]!r}")
        low, high = sorted((lead(place[one]), lead(place[other])))
        leader[high] = low
    sizes = [0] * rows.n
    for i in range(rows.n):
        sizes[lead(i)] += 1
    groups = tuple(
        (known[lead(i)] or f"as {rows.names[lead(i)]}") if sizes[lead(i)] > 1 else known[i] for i in range(rows.n)
    )
    return replace(rows, groups=groups)


def folds_of(rows: Rows, folds: int, seed: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield (learning rows, held-out rows) ``folds`` times; every row is held out exactly once.

    A class with fewer rows than folds is missing from some held-out parts, which is harmless; a class must however have
    two rows (in two groups) so that every learning part has one.

    Raises
    ------
    HeadDataError
        If there are fewer rows (or groups) than folds, or a class cannot be in every learning part.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    _check(rows, folds)
    groups = None if rows.clusters is None else np.asarray(rows.clusters)
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(n_splits=folds, shuffle=True, random_state=seed)
    present = np.flatnonzero(rows.supports)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # checked above, see the docstring
        parts = list(splitter.split(np.zeros((rows.n, 1)), rows.y, groups))
    for learn, held in parts:
        lost = np.setdiff1d(present, rows.y[learn])
        if lost.size:
            raise HeadDataError(
                f"class {rows.classes[lost[0]]!r} would be missing from a learning part: its rows share too few "
                f"groups for {folds} folds\n  use fewer folds (--folds, --cv), or choose on a validation split"
            )
        yield learn.astype(np.int64), held.astype(np.int64)


def _check(rows: Rows, folds: int) -> None:
    if folds < 2:
        raise HeadDataError(f"folds must be at least 2, however: {folds}")
    units, what = (rows.n, "rows") if rows.clusters is None else (len(set(rows.clusters)), "groups")
    supports = rows.supports
    if units == 1:
        raise HeadDataError(
            f"all {rows.n} rows are one {what.removesuffix('s')}, and a fold cuts none\n  judge on a split of its own"
        )
    if units < folds or supports.max() < folds:
        raise HeadDataError(
            f"{folds} folds need {folds} {what} and a class of at least {folds} rows, however: {units} {what}, "
            f"largest class {supports.max()} rows\n  use fewer folds (--folds, --cv)"
        )
    for name, support in zip(rows.classes, supports.tolist(), strict=True):
        if support == 1:
            raise HeadDataError(
                f"class {name!r} has one training row: it cannot be learnt and held out at once\n"
                "  leave the class out, or choose on a validation split instead of folds"
            )
