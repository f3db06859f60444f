"""Comparing heads: same training rows, same test rows, intervals and paired tests beside every figure."""

from __future__ import annotations

from collections.abc import Mapping

from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.entries import Answer, Entry, answered, entries_of
from cer_fusion.fusion.judging.report import Report
from cer_fusion.fusion.judging.statistics.intervals import LEVEL, RESAMPLES
from cer_fusion.fusion.judging.verdicts import Judgeable, judged, singles_note
from cer_fusion.fusion.judging.zero_shot.columns import ZeroShotColumns, check_columns
from cer_fusion.fusion.keeping.answers import Classifier

__all__ = ["Report", "Rows", "check_same_task", "compare"]


def compare(
    heads: Mapping[str, Classifier],
    train: Rows,
    test: Rows,
    *,
    singles: bool = True,
    single_head: str = "linear",
    baseline: str | None = None,
    seeds: int = 1,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    zero_shot: ZeroShotColumns | None = None,
) -> Report:
    """Fit each head on all blocks, and one head on each single backbone; score all of them on the test rows.

    Parameters
    ----------
    heads : dict of column title to unfitted classifier
        Heads of `make_head` or any other scikit-learn classifier, a Pipeline too. They are cloned. A head whose
        ``blocks`` is None is told the blocks' widths, one whose ``random_state`` is None (or that of one of its parts)
        gets ``seed``; nothing else about them changes.
    train, test : Rows
        Rows with the same blocks and classes and no sample or group in common. Lazy ones (`Rows.of(view, load=False)`)
        are read in pieces, by heads that learn so.
    singles : bool
        Add a column for each backbone alone (``manet.local`` and ``manet.multi_scale`` together are the backbone
        ``manet``), when there are several.
    single_head : str
        The head that learns from a single backbone, a name `make_head` knows.
    baseline : str, optional
        Column the others are tested against: exact McNemar with Holm's correction, and paired bootstrap differences.
    seeds : int
        Fits a head, each with the next seed. Scores, intervals and differences are then about the mean over the fits,
        and the report tells how far the fits lie apart.
    resamples, level, seed
        Of the bootstrap.
    zero_shot : ZeroShotColumns, optional
        Columns that learned basic expressions only, from rows of their own.

    Raises
    ------
    ReportError
        If the rows do not belong together, share samples, or a head's answer is no probability table.
    """
    check_same_task(train, test)
    entries = entries_of(heads, train, singles=singles, single_head=single_head, seed=seed)
    check_columns(entries, zero_shot, test, baseline)
    if seeds < 1:
        raise ReportError(f"a head needs at least one seed, however: {seeds}")
    answers: dict[Judgeable, list[Answer]] = {entry: _runs(entry, seeds, train, test) for entry in entries}
    if zero_shot is not None:
        answers |= zero_shot.answers(test, runs=seeds, seed=seed)
    return judged(
        answers,
        test,
        train_supports=tuple(train.supports.tolist()),
        fingerprints=dict(test.fingerprints or {}),
        baseline=baseline,
        resamples=resamples,
        level=level,
        seed=seed,
        notes=(
            *singles_note(entries, single_head),
            *(() if zero_shot is None else (zero_shot.note,)),
            *_seeds_note(entries, seeds),
        ),
    )


def check_same_task(train: Rows, test: Rows) -> None:
    """Refuse training and test rows of different blocks or classes, or with samples or groups in common."""
    for what, a, b in (("classes", train.classes, test.classes), ("blocks", train.widths, test.widths)):
        if a != b or list(a) != list(b):
            raise ReportError(f"train and test must have the same {what} in the same order, however: {a} and {b}")
    prints = (train.fingerprints, test.fingerprints)
    if prints[0] is not None and prints[1] is not None and dict(prints[0]) != dict(prints[1]):
        raise ReportError(f"train and test rows come from different features: {dict(prints[0])} and {dict(prints[1])}")
    shared = set(train.ids or ()) & set(test.ids or ())
    if shared:
        raise ReportError(f"{len(shared)} samples are in train and in test (first: {min(shared)}): scores would lie")
    crossing = (set(train.groups or ()) & set(test.groups or ())) - {""}
    if crossing:
        raise ReportError(
            f"{len(crossing)} groups have rows in train and in test (first: {min(crossing)}): scores would lie\n"
            "  keep all rows of a video or subject in one split"
        )


def _runs(entry: Entry, seeds: int, train: Rows, test: Rows) -> list[Answer]:
    """Fit an entry once a seed; once at all where no seed could change its answers."""
    if not entry.seeded:
        return [answered(entry, 0, train, test)] * seeds
    return [answered(entry, run, train, test) for run in range(seeds)]


def _seeds_note(entries: list[Entry], seeds: int) -> tuple[str, ...]:
    if seeds == 1:
        return ()
    fixed = ", ".join(entry.title for entry in entries if not entry.seeded)
    return (
        f"Figures are means of {seeds} fits with different seeds; ±: their standard deviation, which is what training "
        "alone does. Counts, probabilities and McNemar's test are those of the first fit."
        + (f" No seed changes {fixed}: fitted once." if fixed else ""),
    )
