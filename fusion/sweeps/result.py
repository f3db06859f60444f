"""The result of a sweep: every point's score, which one was chosen, what choosing cost; kept, and laid out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...kit.documents import read_sealed, write_sealed
from ...kit.errors import needed
from ...kit.plain import from_plain, to_plain
from ...kit.table import EN_DASH, Cell, Table, points, shortened, to_html
from ..errors import ReportError
from ..judging.metrics import Scores
from ..judging.report import Versus, p_text
from ..judging.resampling import Interval

if TYPE_CHECKING:
    import pandas

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

FORMAT, FORMAT_VERSION = "cer-sweep", 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """One figure over all weight vectors; shares, 0-1, arrays of shape (w,)."""

    value: FloatArray
    """The figure."""
    low: FloatArray
    """Lower ends of its bootstrap intervals."""
    high: FloatArray
    """Upper ends."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Scores of all weight vectors on one set of rows."""

    accuracy: Band
    """Accuracy."""
    macro_f1: Band
    """Macro F1 over all declared classes."""
    best: int
    """The vector of the highest macro F1; then of the highest accuracy; then the most even."""
    alike: BoolArray
    """(w,) the model confidence set: vectors whose macro F1 cannot be told from the best one's."""
    n: int
    """Rows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sweep:
    """A sweep over block or decision weights, or over settings of a head: a vector is then a point of these."""

    head: str
    """What was swept, in words: ``late head, arithmetic mix``."""
    kind: Literal["decision", "block", "setting"]
    """Mixed members' probabilities, re-weighted blocks under a head, or the head set otherwise."""
    blocks: tuple[str, ...]
    """Block names, in the order of the columns of ``weights``; none where settings were swept."""
    classes: tuple[str, ...]
    """The declared classes in order."""
    weights: FloatArray
    """(w, m) weight vectors as the grid gave them."""
    C: tuple[float, ...]
    """Inverse strengths of the penalty that were crossed with the weights; empty where the head kept its own."""
    penalty: FloatArray | None
    """(w,) the C that each vector's scores are for, the best one on the deciding rows; None without a list."""
    penalty_macro_f1: FloatArray | None
    """(c, w) macro F1 on the deciding rows under each C; None without a list."""
    select: Literal["inner", "test"]
    """Where the vector was chosen: out of fold on the training rows, or (biased) on the test rows themselves."""
    folds: int
    """Inner folds, as many as rows where each row was left out by itself; 0 when ``select`` is "test"."""
    inner: Curve | None
    """Out-of-fold scores on the training rows; None when ``select`` is "test"."""
    test: Curve
    """Scores on the test rows."""
    chosen: int
    """The vector that ``select`` chose."""
    chosen_confusion: NDArray[np.int64]
    """(k, k) counts of the chosen vector on the test rows, row = truth."""
    chosen_accuracy: Interval
    """Interval of its accuracy on the test rows."""
    chosen_macro_f1: Interval
    """Interval of its macro F1 on the test rows."""
    chosen_by_seed: tuple[float, ...]
    """Its macro F1 on the test rows under each seed; one figure where no seed can change its decisions."""
    marked: int | None
    """The vector of the stated reference (the paper's 0.6 / 0.4), if the grid holds exactly one such; of settings the
    point where the head stood, else the first, which the others are tested against."""
    mark: Mapping[str, float]
    """That reference, by block name."""
    level: float
    """Nominal coverage of the intervals, 0-1."""
    resamples: int
    """Bootstrap resamples behind the bands; the chosen vector's intervals use four times as many."""
    seeds: tuple[int, ...]
    """Seeds of folds and heads; the first one is the bootstrap's too. Confusion counts are summed over them."""
    elapsed_s: float
    """Wall clock of the whole sweep, seconds."""
    notes: tuple[str, ...]
    """What a reader must know, one sentence each."""
    split: str = "test"
    """The split that was judged, or what its rows are called where it is not known."""
    per_class: FloatArray | None = None
    """(p, m, k) what the last p vectors are a class; ``weights`` has the classes' mean. None: all classes share all."""
    settings: tuple[dict[str, Any], ...] | None = None
    """What each point sets, in order; None where weights were swept."""
    versus: tuple[Versus | None, ...] | None = None
    """Each point against the reference on the test rows, Holm-corrected over the points; None where weights were."""
    params: dict[str, Any] = field(default_factory=dict)
    """How the head was set otherwise, where settings were swept."""

    @property
    def shared(self) -> int:
        """Number of the vectors that weigh all classes alike; they come first."""
        return len(self.weights) - (0 if self.per_class is None else len(self.per_class))

    @property
    def optimism(self) -> float:
        """How much higher the best test macro F1 of the grid is than the chosen vector's: what peeking would claim."""
        return float(self.test.macro_f1.value[self.test.best] - self.test.macro_f1.value[self.chosen])

    @property
    def chosen_scores(self) -> Scores:
        """All figures of the chosen vector on the test rows."""
        return Scores(classes=self.classes, confusion=self.chosen_confusion)

    def vector(self, i: int) -> dict[str, Any]:
        """Return one weight vector by block name, as the head takes it; with weights a class, by block and class.

        Where settings were swept: those of one point.
        """
        if self.settings is not None:
            return dict(self.settings[i])
        if self.per_class is None or i < self.shared:
            return dict(zip(self.blocks, self.weights[i].tolist(), strict=True))
        lines = (dict(zip(self.classes, line, strict=True)) for line in self.per_class[i - self.shared].tolist())
        return dict(zip(self.blocks, lines, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        plain: dict[str, Any] = to_plain(self)
        name = "chosen_weights" if self.settings is None else "chosen_settings"
        return plain | {"optimism": self.optimism, name: self.vector(self.chosen)}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Sweep:
        """Rebuild a sweep; unknown keys and values of the wrong kind are refused."""
        told = ("optimism", "chosen_weights", "chosen_settings")  # which follow from the others
        later: dict[str, Any] = {"split": "test", "per_class": None, "settings": None, "versus": None, "params": {}}
        own = later | {key: one for key, one in plain.items() if key not in told}
        return from_plain(cls, own, "the sweep", error=ReportError)

    def save(self, path: Path | str, *, overwrite: bool = True) -> Path:
        """Write the sweep as JSON that carries its own digest, whole or not at all; see `write_whole`."""
        return write_sealed(path, self.to_dict(), kind=FORMAT, version=FORMAT_VERSION, overwrite=overwrite)

    @classmethod
    def load(cls, path: Path | str) -> Sweep:
        """Read a sweep written by `save`."""
        return cls.from_dict(read_sealed(path, kind=FORMAT, version=FORMAT_VERSION, error=ReportError))

    def to_frame(self) -> pandas.DataFrame:
        """Return the curves as a pandas DataFrame: a row a weight vector in the grid's order, unrounded.

        Its columns are the blocks' weights, ``C`` where a list was crossed with them, ``accuracy`` and ``macro_f1`` of
        the test rows (0-1) with ``_low`` and ``_high``, ``inner_accuracy`` and ``inner_macro_f1`` where the choice was
        made on inner folds, and ``chosen``.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        frames = needed("pandas", "a DataFrame of a sweep", extra="frames")
        columns: dict[str, Any] = {name: self.weights[:, i] for i, name in enumerate(self.blocks)}
        columns |= {} if self.penalty is None else {"C": self.penalty}
        for metric, band in (("accuracy", self.test.accuracy), ("macro_f1", self.test.macro_f1)):
            columns |= {metric: band.value, f"{metric}_low": band.low, f"{metric}_high": band.high}
        if self.inner is not None:
            columns |= {
                "inner_accuracy": self.inner.accuracy.value,
                "inner_macro_f1": self.inner.macro_f1.value,
            }
        made: pandas.DataFrame = frames.DataFrame(columns | {"chosen": np.arange(len(self.weights)) == self.chosen})
        return made

    def __repr__(self) -> str:
        """Return what was swept and what was chosen; the figures are left to whoever asks for them."""
        means = dict(zip(self.blocks, self.weights[self.chosen].tolist(), strict=True))  # of weights a class
        chosen = mark_text(means if self.settings is None else self.settings[self.chosen])
        band = self.test.macro_f1
        what = f"vectors of {shortened(self.blocks)}"
        what = what if self.settings is None else f"points of {shortened(self.settings[0])}"
        return (
            f"<Sweep: {self.head}, {len(self.weights):,} {what} over {self.test.n:,} "
            f"{self.split} rows; chosen {chosen}: macro F1 {100 * band.value[self.chosen]:.2f} %>"
        )

    def _repr_html_(self) -> str:
        return to_html(sweep_table(self))


def sweep_table(sweep: Sweep, *, limit: int = 40) -> Table:
    """Lay a sweep out, in grid order; a grid of more than ``limit`` vectors shows the best ones and the special ones.

    Bold is the best of a column. Of the training rows only the figure that the choice was made by is shown.
    """
    decisive = deciding(sweep)
    shown = _shown(sweep, decisive, limit)
    axes = () if sweep.settings is None else tuple(sweep.settings[0])
    header = [*axes, *(f"{name} (weight)" for name in sweep.blocks)]
    header += ["C"] if sweep.penalty is not None else []
    header += ["inner macro F1 (%)"] if sweep.inner is not None else []
    header += [f"{sweep.split} accuracy (%)", f"{sweep.split} macro F1 (%)"]
    header += [] if sweep.versus is None else ["\u0394 macro F1 (points)", "p (Holm)"]
    header += ["note"]
    rows = []
    for i in shown:
        cells = [_setting(sweep.vector(i)[name]) for name in axes]
        cells += [Cell(f"{weight:.3g}", float(weight)) for weight in sweep.weights[i]]
        if sweep.penalty is not None:
            cells.append(Cell(f"{sweep.penalty[i]:g}", float(sweep.penalty[i])))
        if sweep.inner is not None:
            cells.append(_percent(sweep.inner.macro_f1, i, best=i == sweep.inner.best, interval=False))
        cells.append(_percent(sweep.test.accuracy, i, best=i == int(sweep.test.accuracy.value.argmax())))
        cells.append(_percent(sweep.test.macro_f1, i, best=i == sweep.test.best))
        cells += [] if sweep.versus is None else _against(sweep.versus[i])
        rows.append((*cells, Cell(_marks(sweep, decisive, i))))
    return Table(
        title=f"{'Settings' if axes else 'Weights'} swept: {sweep.head}, {len(sweep.weights)} {_many(sweep)} over "
        f"{sweep.test.n} {sweep.split} rows",
        header=tuple(header),
        rows=tuple(rows),
        notes=_notes(sweep, len(shown)),
        labels=len(axes) + len(sweep.blocks) + (sweep.penalty is not None),
        words=(len(header) - 1,),
    )


def deciding(sweep: Sweep) -> Curve:
    """Return the curve that the choice was made by."""
    return sweep.test if sweep.inner is None else sweep.inner


def best_of_kinds(sweep: Sweep) -> tuple[int, int]:
    """Return the best vector that all classes share, and the best of the weights a class, by the deciding rows."""
    values = deciding(sweep).macro_f1.value
    return int(values[: sweep.shared].argmax()), sweep.shared + int(values[sweep.shared :].argmax())


def reference_text(sweep: Sweep) -> str:
    """Return the reference in words, blocks or settings named: ``manet.local 0.6 / manet.multi_scale 0.4``."""
    at_point = sweep.settings is not None and sweep.marked is not None
    return mark_text(sweep.vector(sweep.marked or 0) if at_point else sweep.mark)


def mark_text(vector: Mapping[str, Any]) -> str:
    """Return weights or settings in words."""
    return " / ".join(
        f"{name} {one:.3g}" if isinstance(one, float) else f"{name} {value_text(one)}" for name, one in vector.items()
    )


def value_text(value: Any) -> str:
    """Return a value as it is written after ``--set``: texts bare, other values as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def _setting(value: Any) -> Cell:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(value_text(value), float(value) if number else None)


def _against(versus: Versus | None) -> list[Cell]:
    if versus is None:
        return [Cell(EN_DASH), Cell(EN_DASH)]
    ends, p = versus.macro_f1_interval, versus.p_macro_f1_holm
    return [points(versus.macro_f1, ends.low, ends.high), Cell(p_text(p, bound=versus.p_is_bound), p)]


def _many(sweep: Sweep) -> str:
    return "vectors" if sweep.settings is None else "points"


def _one(sweep: Sweep) -> str:
    return "vector" if sweep.settings is None else "point"


def _shown(sweep: Sweep, decisive: Curve, limit: int) -> list[int]:
    if len(sweep.weights) <= limit:
        return list(range(len(sweep.weights)))
    order = np.argsort(-decisive.macro_f1.value, kind="stable")[:limit].tolist()
    special = {sweep.chosen, sweep.test.best} | ({sweep.marked} if sweep.marked is not None else set())
    special |= set() if sweep.per_class is None else set(best_of_kinds(sweep))
    return sorted(set(order) | special)


def _percent(band: Band, i: int, *, best: bool, interval: bool = True) -> Cell:
    value, low, high = (100 * float(part[i]) for part in (band.value, band.low, band.high))
    text = f"{value:.2f} [{low:.1f}, {high:.1f}]" if interval else f"{value:.2f}"
    return Cell(text, value, low if interval else None, high if interval else None, best=best)


def _marks(sweep: Sweep, decisive: Curve, i: int) -> str:
    words = [
        *(["chosen"] if i == sweep.chosen else []),
        *(["reference"] if i == sweep.marked else []),
        *(["per class"] if i >= sweep.shared else []),
        *([f"best on {sweep.split}"] if i == sweep.test.best else []),
        *(["alike"] if decisive.alike[i] and i != decisive.best else []),
    ]
    return ", ".join(words) or EN_DASH


def _notes(sweep: Sweep, shown: int) -> tuple[str, ...]:
    percent = f"{100 * sweep.level:g} %"
    notes = []
    if shown < len(sweep.weights):
        notes.append(
            f"{shown} of {len(sweep.weights)} {_many(sweep)} are shown: the best by the deciding figure and the "
            "special ones."
        )
    if sweep.inner is not None:
        way = f"{sweep.folds} inner folds of" if sweep.folds < sweep.inner.n else "leaving out each of"
        notes.append(
            f"Chosen by the macro F1 of {way} the {sweep.inner.n} training rows; the {sweep.split} rows had no say."
        )
        notes.append(
            f"Choosing on the {sweep.test.n} {sweep.split} rows instead would have claimed "
            f"{100 * sweep.optimism:.2f} points more macro F1: that is the optimism."
        )
    notes.append(
        f"Chosen {_one(sweep)} on the {sweep.split} rows: accuracy {_interval(sweep, 'accuracy')}, "
        f"macro F1 {_interval(sweep, 'macro_f1')} ({percent} intervals, seed {sweep.seeds[0]})."
    )
    if sweep.penalty is not None:
        tried = ", ".join(f"{C:g}" for C in sweep.C)
        notes.append(f"C: of {tried}, the one that the deciding rows like best for this vector.")
    if len(sweep.seeds) > 1:
        spread = [100 * value for value in sweep.chosen_by_seed]
        own = (
            f": the chosen {_one(sweep)}'s macro F1 on {sweep.split} was {min(spread):.2f} to {max(spread):.2f} %"
            if spread[1:]
            else ""
        )
        notes.append(f"Seeds {sweep.seeds[0]} to {sweep.seeds[-1]} pooled, each row once a seed{own}.")
    notes.append(f"In brackets: {percent} intervals ({sweep.resamples} resamples; jackknife where rows share groups).")
    if sweep.marked is not None:
        notes.append(f"Reference: {reference_text(sweep)}.")
    if sweep.versus is not None:
        how = "paired bootstrap" if any(one is not None and one.p is not None for one in sweep.versus) else (
            "answers to whole groups exchanged"
        )  # fmt: skip
        notes.append(
            f"\u0394: macro F1 against the reference on the {sweep.split} rows, paired, with {percent} intervals; p: "
            f"{how}, Holm-corrected over the points. None of it had a say in the choice."
        )
    if sweep.settings is not None and all(map(_alike_everywhere, (sweep.test.accuracy, sweep.test.macro_f1))):
        notes.append(
            f"All points have the same figures on the {sweep.split} rows: these settings did not matter there."
        )
    if sweep.per_class is not None:
        notes.append(_per_class_note(sweep))
    notes.append(
        "Alike: its macro F1 cannot be told from the best one's on the deciding rows (model confidence set of all "
        f"{_many(sweep)}, {percent})."
    )
    return (*notes, f"Classes: {', '.join(sweep.classes)}.", *sweep.notes)


def _alike_everywhere(band: Band) -> bool:
    return bool(np.ptp(band.value) == 0)


def _per_class_note(sweep: Sweep) -> str:
    """Say what weights a class seem to bring where they were chosen, and what they bring on the judged rows."""
    shared, drawn = best_of_kinds(sweep)
    seems, brings = (
        100 * (curve.macro_f1.value[drawn] - curve.macro_f1.value[shared]) for curve in (deciding(sweep), sweep.test)
    )
    peeking = 100 * (sweep.test.macro_f1.value[sweep.shared :].max() - sweep.test.macro_f1.value[drawn])
    return (
        f"Per class: a weight a block and class, {len(sweep.weights) - sweep.shared:,} drawn (Dirichlet, seed "
        f"{sweep.seeds[0]}), shown as the classes' mean. The best of them has {seems:+.2f} points macro F1 against the "
        f"best vector that all classes share where both were chosen, and {brings:+.2f} on the {sweep.split} rows; the "
        f"best draw there would have claimed {peeking:.2f} more."
    )


def _interval(sweep: Sweep, metric: str) -> str:
    scores = sweep.chosen_scores
    value = scores.accuracy if metric == "accuracy" else scores.macro_f1
    ends = sweep.chosen_accuracy if metric == "accuracy" else sweep.chosen_macro_f1
    return f"{100 * value:.2f} % [{100 * ends.low:.1f}, {100 * ends.high:.1f}]"
