"""The sections of a report page: tables, confusion, weights to explore, diagnosis."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kit.documents import seal_digest
from ...kit.table import Cell, Table, rounded
from ..heads.weights import Mix
from ..judging.comparison import Members
from ..judging.diagnosis import Diagnosis
from ..judging.report import FORMAT, FORMAT_VERSION, Column, Report, report_table
from ..sweeps.figure import draw_sweep
from ..sweeps.result import Sweep, sweep_table
from .diagnosis import diagnosis_tables, draw_diagnosis
from .document import Explorer, Picture, Scatter, Section


def report_sections(report: Report) -> list[Section]:
    """Return the results and the confusion matrices."""
    return [
        Section(title="Results", tables=(report_table(report),)),
        Section(
            title="Confusion matrices",
            prose=(
                "Rows are true classes, columns predicted ones; in the cells the share of the true class, and rows.",
            ),
            matrices=tuple((column.name, column.scores) for column in report.columns),
        ),
    ]


def configuration_section(report: Report) -> Section:
    """Return what every column was: head, blocks, parameters, seconds."""
    rows = tuple(
        (
            Cell(column.name),
            Cell(column.head),
            Cell(", ".join(column.blocks)),
            Cell(rounded(column.fit_s), column.fit_s),
            Cell(f"{column.predict_s:.2f}", column.predict_s),
        )
        for column in report.columns
    )
    header = ("Column", "Head", "Blocks", "Training (s)", "Answering (s)")
    table = Table(title="What was compared", header=header, rows=rows, notes=())
    return Section(
        title="Configuration",
        tables=(table,),
        facts=tuple((column.name, _params(column)) for column in report.columns),
    )


def provenance_section(
    report: Report, *, digests: Mapping[str, str], environment: Mapping[str, Any] | None = None
) -> Section:
    """Return what the figures rest on.

    Parameters
    ----------
    report : Report
        The comparison.
    digests : dict of words to digest
        Of kept runs, for example.
    environment : dict, optional
        As `cer_fusion.fusion.keeping.runs` gives it.
    """
    facts = [("classes, in order", ", ".join(report.classes))]
    facts += [(f"feature {name}", fingerprint) for name, fingerprint in report.fingerprints.items()]
    facts += [*digests.items(), ("report", seal_digest(report.to_dict(), kind=FORMAT, version=FORMAT_VERSION))]
    facts.append(("bootstrap", f"{report.resamples} resamples, seed {report.seed}, level {report.level:g}"))
    facts += [(name.replace("_", " "), _words(value)) for name, value in (environment or {}).items()]
    return Section(
        title="Provenance",
        prose=(
            "A fingerprint fixes a feature's numbers: weights, preprocessing, precision. Digests are sha256; the "
            "report's is that of the comparison as JSON (--keep).",
        ),
        facts=tuple(facts),
    )


def _params(column: Column) -> str:
    shown = {name: value for name, value in column.params.items() if name != "blocks"}
    return ", ".join(f"{name}={_json(value)}" for name, value in shown.items()) or "none"


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {one}" for name, one in value.items()) or "none"
    return str(value)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def explorer_section(members: Members, *, mix: Mix = "geometric", sweep: Sweep | None = None) -> Section:
    """Return an explorer; with a sweep over the same members it begins with the weights that the sweep chose."""
    presets = {}
    if sweep is not None and sweep.blocks == members.names:
        where = "inner folds" if sweep.inner is not None else f"the {sweep.split} rows"
        presets[f"chosen on {where}"] = tuple(sweep.weights[sweep.chosen].tolist())
    return Section(
        title="Mix the members",
        prose=(
            f"{', '.join(members.names)}: what each says about the {members.y.size} {members.split} rows is in this "
            "page. Move a weight, and everything below is computed again. Only proportions matter.",
        ),
        explorer=Explorer(members=members, mix=mix, presets=presets),
    )


def errors_section(
    report: Report,
    places: NDArray[np.float64],
    shares: Sequence[float],
    *,
    thumbnails: Mapping[int, bytes],
    with_ids: bool = False,
) -> Section:
    """Return a map of a report's rows by principal components (n, 2), on which its errors stand out."""
    orders = zip(("first", "second"), shares, strict=True)
    axes = [f"{order} principal component ({100 * share:.1f} % of the variance)" for order, share in orders]
    answers = {
        column.name: (column.y_pred, column.proba[np.arange(len(column.y_pred)), column.y_pred])
        for column in report.columns
    }
    return Section(
        title="Where the errors lie",
        prose=(
            f"The {report.rows} by the first two principal components of all blocks, each scaled to the same variance. "
            "A cross is a row that the column chosen here got wrong, a dot one that it got right. Two components show "
            "little of so many: rows that lie together here need not be alike.",
        ),
        scatter=Scatter(
            places=places, axes=(axes[0], axes[1]), y_true=report.y_true, classes=report.classes, answers=answers,
            ids=report.ids if with_ids else None, thumbnails=thumbnails,
        ),
    )  # fmt: skip


def sweep_section(sweep: Sweep) -> Section:
    """Return a sweep: its figure and its table."""
    where = "inner folds of the training rows" if sweep.inner is not None else f"the {sweep.split} rows themselves"
    caption = (
        f"Macro F1 on {sweep.split} over {len(sweep.weights)} weight vectors; the chosen one was chosen on {where}."
    )
    return Section(
        title="Weights swept",
        pictures=(Picture.of(draw_sweep(sweep), caption),),
        tables=(sweep_table(sweep, limit=20),),
    )


def diagnosis_section(found: Diagnosis, *, with_ids: bool = False) -> Section:
    """Return what a diagnosis found: its picture and all its tables; pages are sent on, so ids only where asked for."""
    caption = (
        "What each block brings (Shapley values of macro F1), how alike the blocks are (CKA), and how far the head's "
        "probabilities can be believed (reliability)."
    )
    return Section(
        title="Why",
        prose=(f"{found.head} fitted on every subset of {', '.join(found.players)}.",),
        pictures=(Picture.of(draw_diagnosis(found), caption),),
        tables=diagnosis_tables(found, with_ids=with_ids),
    )
