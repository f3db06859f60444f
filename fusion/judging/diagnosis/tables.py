"""A diagnosis as tables, one a question."""

from __future__ import annotations

from itertools import combinations

from cer_fusion.fusion.judging.diagnosis.agreement import Agreement
from cer_fusion.fusion.judging.diagnosis.result import Contribution, Diagnosis
from cer_fusion.fusion.judging.statistics.intervals import Interval
from cer_fusion.fusion.page.table import EN_DASH, Cell, Table, points

_ROWS = 16  # subsets and pairs shown; the file has all


def diagnosis_tables(found: Diagnosis) -> tuple[Table, ...]:
    """Lay a diagnosis out as tables: what carries it, what is alike, how far to believe it, where it fails."""
    tables = [_contributions(found), _subsets(found)]
    if found.agreement is not None:
        tables.append(_agreement(found, found.agreement))
    if len(found.similarity.names) > 1:
        tables.append(_similarity(found))
    return (*tables, _calibration(found), _confused(found), _hardest(found), _near(found))


def _contributions(found: Diagnosis) -> Table:
    def row(one: Contribution) -> tuple[Cell, ...]:
        return (
            Cell(one.name),
            _difference(one.shapley_macro_f1, one.shapley_interval),
            _number(one.shapley_log_loss, 3),
            _difference(one.left_out_macro_f1, one.left_out_interval),
            _number(one.left_out_log_loss, 3),
        )

    whole, none = found.whole, found.subsets[0]
    where = f"{found.n:,} rows, {found.folds} folds" if found.folds else f"{found.n:,} test rows"
    return Table(
        title=f"What each block brings to {found.head} ({where})",
        header=(
            "Block",
            "Shapley, macro F1 (points)",
            "Shapley, log-loss (nats)",
            "Loss without it (points)",
            "(nats)",
        ),
        rows=tuple(row(one) for one in found.contributions),
        notes=(
            f"All blocks: accuracy {_percent(whole.accuracy)}, macro F1 {_percent(whole.macro_f1)}, log-loss "
            f"{whole.log_loss:.3f}; no block (the classes' shares): {_percent(none.accuracy)}, "
            f"{_percent(none.macro_f1)}, {none.log_loss:.3f}. Shapley values sum to the difference; positive helps.",
            f"In brackets: {100 * found.level:g} % intervals (percentiles of {found.resamples} resamples, seed "
            f"{found.seed}); they do not cover the variation from training.",
            *found.notes,
        ),
    )


def _subsets(found: Diagnosis) -> Table:
    order = sorted(found.subsets, key=lambda one: -one.macro_f1)
    return Table(
        title="Subsets of the blocks, best first",
        header=("Blocks", "Macro F1 (%)", "Accuracy (%)", "Log-loss (nats)"),
        rows=tuple(
            (
                Cell(" + ".join(one.members) or "none"),
                _share(one.macro_f1),
                _share(one.accuracy),
                _number(one.log_loss, 3),
            )
            for one in order[:_ROWS]
        ),
        notes=(
            *([f"{_ROWS} of {len(order)} subsets; the result's file has all."] if len(order) > _ROWS else []),
            "The best of many subsets flatters: choose on folds of the training rows, judge once on others.",
        ),
    )


def _agreement(found: Diagnosis, pairs: Agreement) -> Table:
    order = list(combinations(range(len(pairs.names)), 2))
    alone = ", ".join(
        f"{name} {_percent(accuracy)}" for name, accuracy in zip(pairs.names, pairs.accuracy, strict=True)
    )
    return Table(
        title="Single backbones, two by two",
        header=("Pair", "Kappa", "One right, one wrong (%)", "Both wrong (%)"),
        rows=tuple(
            (
                Cell(f"{pairs.names[i]} / {pairs.names[j]}"),
                _number(pairs.kappa[i][j], 3),
                _share(pairs.disagreement[i][j]),
                _share(pairs.double_fault[i][j]),
            )
            for i, j in order
        ),
        notes=(
            f"Accuracy alone: {alone}; together {_percent(found.whole.accuracy)}. At least one is right on "
            f"{_percent(pairs.oracle)} of the rows, which no choice among them exceeds; all are on "
            f"{_percent(pairs.all_right)}.",
        ),
    )


def _similarity(found: Diagnosis) -> Table:
    similar = found.similarity
    return Table(
        title="How alike the blocks arrange the rows (linear CKA)",
        header=("Block", *similar.names),
        rows=tuple(
            (Cell(name), *(_number(value, 2) for value in line))
            for name, line in zip(similar.names, similar.cka, strict=True)
        ),
        notes=(f"Debiased, on {similar.n:,} training rows; 1: the same up to rotation and scale.",),
    )


def _calibration(found: Diagnosis) -> Table:
    c = found.calibration
    gap = c.confidence - c.accuracy
    return Table(
        title="Calibration: rows by confidence",
        header=("Confidence (%)", "Rows", "Mean confidence (%)", "Accuracy (%)"),
        rows=tuple(
            (
                Cell(f"{100 * one.low:.1f} {EN_DASH} {100 * one.high:.1f}"),
                Cell(f"{one.n:,}", one.n),
                _share(one.confidence),
                _share(one.accuracy),
            )
            for one in c.bins
        ),
        notes=(
            f"ECE {_percent(c.ece)} (bins of equal width), {_percent(c.ece_equal_mass)} (of equally many rows); Brier "
            f"{c.brier:.3f}, log-loss {c.nll:.3f}. On average {100 * abs(gap):.1f} points "
            f"{'over' if gap > 0 else 'under'}confident.",
        ),
    )


def _confused(found: Diagnosis) -> Table:
    return Table(
        title="Most confused",
        header=("True class", "taken for", "Rows", "of the class (%)"),
        rows=tuple(
            (Cell(_words(one.truth)), Cell(_words(one.answer)), Cell(str(one.count), one.count), _share(one.share))
            for one in found.confused
        ),
        notes=(),
    )


def _hardest(found: Diagnosis) -> Table:
    backbones = f" of {len(found.agreement.names)}" if found.agreement else ""
    return Table(
        title="Hardest samples",
        header=("Sample", "Label", "Answer", "p(label) (%)", "p(answer) (%)", f"Backbones right{backbones}"),
        rows=tuple(
            (
                Cell(one.sample_id),
                Cell(_words(one.truth)),
                Cell(_words(one.answer)),
                _share(one.of_truth),
                _share(one.of_answer),
                Cell(str(one.right), one.right),
            )
            for one in found.hardest
        ),
        notes=("Hard for the head, or labelled wrong: look at the pictures.",),
    )


def _near(found: Diagnosis) -> Table:
    near = found.near
    other = "Other row" if found.folds else "Training row"
    shown = near.pairs[:_ROWS]
    effect = (
        "no row is left without them"
        if found.clean_accuracy is None or found.clean_macro_f1 is None
        else f"without these rows accuracy is {_percent(found.clean_accuracy)} instead of "
        f"{_percent(found.whole.accuracy)}, macro F1 {_percent(found.clean_macro_f1)} instead of "
        f"{_percent(found.whole.macro_f1)}"
    )
    notes = [f"{near.found:,} pairs of cosine {near.threshold:g} or more, {near.samples:,} of {found.n:,} rows"]
    if near.found:
        notes[0] += f"; {effect}. Tie them or drop them: scores on faces that were learned flatter."
    if near.found > len(shown):
        notes.append(f"The {len(shown)} most alike are shown, the result's file lists {len(near.pairs):,}.")
    return Table(
        title="Near-duplicates " + ("among the rows" if found.folds else "in the training split"),
        header=("Sample", other, "Cosine"),
        rows=tuple((Cell(one.sample_id), Cell(one.other_id), _number(one.cosine, 3)) for one in shown),
        notes=tuple(notes),
    )


def _difference(share: float, interval: Interval) -> Cell:
    return points(share, interval.low, interval.high)


def _share(share: float | None) -> Cell:
    return Cell(EN_DASH) if share is None else Cell(f"{100 * share:.2f}", 100 * share)


def _number(value: float | None, digits: int) -> Cell:
    return Cell(EN_DASH) if value is None else Cell(f"{value:.{digits}f}", value)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _words(name: str) -> str:
    return name.replace("_", " ")
