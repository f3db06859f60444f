"""Sections of a comparison: its table, its matrices, what was configured, where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cer_fusion.fusion.files.sealed import seal_digest
from cer_fusion.fusion.judging.report import FORMAT, FORMAT_VERSION, Column, Report
from cer_fusion.fusion.page.report_table import report_table
from cer_fusion.fusion.page.section import Section
from cer_fusion.fusion.page.table import Cell, Table


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
            Cell(f"{column.fit_s:.2f}", column.fit_s),
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
        As `cer_fusion.fusion.keeping.runs.environment.environment` gives it.
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
