"""Tables laid out, a report's among them."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from cer_fusion.fusion.judging.metrics import scores
from cer_fusion.fusion.judging.report import Column, Report, Versus, _best, p_text, report_table
from cer_fusion.fusion.judging.resampling import Interval, bootstrap, wilson
from cer_fusion.kit.errors import CerError
from cer_fusion.kit.table import EN_DASH, MINUS, Cell, Table, render

TABLE = Table(
    title="A_B & 5 %",
    header=("Class", "vit_b", "mlp|x"),
    rows=(
        (Cell("Sadly (%)"), Cell("50.00", 50.0), Cell("60.00", 60.0, best=True)),
        (Cell("Accuracy (%)"), Cell("55.00 [50.0, 60.0]", 55.0, 50.0, 60.0), Cell(EN_DASH)),
        (Cell("Δ {x}"), Cell(f"{MINUS}1.00", -1.0), Cell("<0.001", 0.0005)),
    ),
    notes=("n = 10 rows.", "100 % of them."),
    rules=(1,),
)


def test_markdown_is_a_pipe_table_with_escapes_and_notes():
    assert render(TABLE, "markdown") == (
        "**A_B & 5 %**\n"
        "\n"
        "| Class | vit_b | mlp\\|x |\n"
        "| --- | ---: | ---: |\n"
        "| Sadly (%) | 50.00 | **60.00** |\n"
        f"| Accuracy (%) | 55.00 [50.0, 60.0] | {EN_DASH} |\n"
        f"| Δ {{x}} | {MINUS}1.00 | \\<0.001 |\n"
        "\n"
        "- n = 10 rows.\n"
        "- 100 % of them.\n"
    )


def test_latex_is_a_booktabs_table_with_escapes():
    assert render(TABLE, "latex") == "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            r"\caption{A\_B \& 5 \%}",
            r"\begin{tabular}{lrr}",
            r"\toprule",
            r"Class & vit\_b & mlp|x \\",
            r"\midrule",
            r"Sadly (\%) & 50.00 & \textbf{60.00} \\",
            r"\midrule",
            r"Accuracy (\%) & 55.00 [50.0, 60.0] & -- \\",
            r"$\Delta$ \{x\} & $-$1.00 & $<$0.001 \\",
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip\footnotesize n = 10 rows. 100 \% of them.",
            r"\end{table}",
            "",
        ]
    )


def test_csv_holds_unrounded_figures_and_both_ends_of_intervals():
    assert list(csv.reader(io.StringIO(render(TABLE, "csv")))) == [
        ["Class", "vit_b", "mlp|x"],
        ["Sadly (%)", "50.0", "60.0"],
        ["Accuracy (%)", "55.0", EN_DASH],
        ["Accuracy (%), low", "50.0", ""],
        ["Accuracy (%), high", "60.0", ""],
        ["Δ {x}", "-1.0", "0.0005"],
    ]


def test_json_holds_text_and_figures():
    found = json.loads(render(TABLE, "json"))
    assert found["header"] == ["Class", "vit_b", "mlp|x"]
    assert found["rows"][1][1] == {
        "text": "55.00 [50.0, 60.0]",
        "value": 55.0,
        "low": 50.0,
        "high": 60.0,
        "best": False,
    }
    assert found["notes"] == list(TABLE.notes)


@pytest.mark.parametrize("text", ["a\\b", "~^#$", "a\nb", "`*_x_*`"])
def test_no_text_breaks_out_of_its_cell(text):
    table = Table("t", ("a", "b"), ((Cell(text), Cell("|&")),), ())
    assert len(render(table, "markdown").splitlines()) == 5
    row = next(line for line in render(table, "latex").splitlines() if line.endswith(r"\& \\"))
    assert row.count(" & ") == 1


def test_an_unknown_format_lists_the_known_ones():
    with pytest.raises(CerError, match=r"'latx'.*'latex'"):
        render(TABLE, "latx")  # type: ignore[arg-type]


def test_a_latex_row_that_begins_with_a_bracket_or_a_star_is_no_option_of_the_row_before_it():
    rows = tuple((Cell(text), Cell("1 → 2 … ✗")) for text in ("[x]", "*y", "z"))
    text = render(Table(title="T", header=("a", "b"), rows=rows, notes=()), "latex")
    assert "\n{}[x] & 1 $\\rightarrow$ 2 \\dots{} $\\times$ \\\\\n{}*y &" in text
    assert "\nz &" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on the PATH")
def test_latex_takes_the_table_with_every_letter_that_means_something_to_it(tmp_path):
    odd = "[a] & 50 % _x_ #1 $y$ {z} ~ ^ \\ Δ ≥ × – − < > → … ✗"
    table = Table(title=odd, header=(odd, "b"), rows=((Cell(odd), Cell("1", best=True)),) * 2, notes=(odd,), rules=(1,))
    document = (
        rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{render(table, 'latex')}\end{{document}}"
    )
    (tmp_path / "t.tex").write_text(document)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


CLASSES = (
    "Angrily_Surprised",
    "Disgustedly_Surprised",
    "Fearfully_Surprised",
    "Happily_Surprised",
    "Sadly_Angry",
    "Sadly_Fearful",
    "Sadly_Surprised",
)
SUPPORTS = [38, 35, 116, 135, 33, 22, 18]
CORRECT = {"ensemble": [23, 22, 98, 123, 27, 17, 11], "vit": [23, 18, 93, 125, 28, 16, 7]}


def column(name: str, versus: Versus | None = None) -> Column:
    y = np.repeat(np.arange(7), SUPPORTS)
    right = np.concatenate([np.arange(n) < hit for n, hit in zip(SUPPORTS, CORRECT[name], strict=True)])
    y_pred = np.where(right, y, (y + 1) % 7)
    found = scores(y, y_pred, CLASSES)
    return Column(
        name=name,
        kind="head" if name == "ensemble" else "single",
        head="LinearHead",
        blocks=("vit",),
        params={},
        fit_s=1.234,
        predict_s=0.1,
        y_pred=y_pred,
        proba=np.eye(7)[y_pred],
        scores=found,
        accuracy=wilson(int(found.correct.sum()), 397),
        macro_f1=bootstrap(y, y_pred[None], 7, resamples=200).interval("macro_f1", 0),
        versus=versus,
    )


def report(**changes: object) -> Report:
    versus = Versus(
        accuracy=-11 / 397,
        accuracy_interval=Interval(-0.05, 0.004),
        macro_f1=0.0,
        macro_f1_interval=Interval(-0.01, 0.02),
        only_head=3,
        only_baseline=14,
        p=0.0001,
        p_holm=0.0002,
        p_macro_f1=2 / 1001,
        p_macro_f1_holm=2 / 1001,
        p_is_bound=True,
    )
    given = {
        "classes": CLASSES,
        "ids": tuple(f"test_{i:04d}" for i in range(397)),
        "y_true": np.repeat(np.arange(7), SUPPORTS),
        "columns": (column("ensemble"), column("vit", versus)),
        "baseline": "ensemble",
        "train_supports": (200, 201, 202, 203, 204, 205, 347),
        "clustered": False,
        "level": 0.95,
        "resamples": 200,
        "seed": 0,
        "fingerprints": {"vit": "abc"},
        "notes": ("Something else.",),
    }
    return Report(**given | changes)


def test_the_table_is_the_papers_with_intervals():
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in report_table(report()).rows}
    assert rows["Angrily Surprised (%)"] == ["60.53", "60.53"]
    assert rows["Fearfully Surprised (%)"] == ["84.48", "80.17"]
    assert rows["Happily Surprised (%)"] == ["91.11", "92.59"]
    assert rows["Accuracy (%)"] == ["80.86 [76.7, 84.4]", "78.09 [73.8, 81.9]"]
    assert rows["Macro F1 (%)"][0].startswith(f"{100 * column('ensemble').scores.macro_f1:.2f} [")
    assert rows["Training (s)"] == ["1.23", "1.23"]


def test_the_baseline_is_compared_in_points_with_a_corrected_p():
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in report_table(report()).rows}
    assert rows["Δ accuracy (points)"] == [EN_DASH, f"{MINUS}2.77 [{MINUS}5.0, +0.4]"]
    assert rows["Δ macro F1 (points)"] == [EN_DASH, f"0.00 [{MINUS}1.0, +2.0]"]
    assert rows["p (McNemar, Holm)"] == [EN_DASH, "<0.001"]
    assert rows["p (macro F1, Holm)"] == [EN_DASH, "≤0.002"]


def test_without_a_baseline_nothing_is_tested():
    plain = report(baseline=None, columns=(column("ensemble"), column("vit")))
    labels = [row[0].text for row in report_table(plain).rows]
    assert labels[7:] == ["Accuracy (%)", "Macro F1 (%)", "Training (s)"]


def test_ties_for_the_best_are_all_marked_and_a_row_of_equals_has_none():
    assert [cell.best for cell in _best([Cell("1", 1.0), Cell("2", 2.0), Cell("2", 2.0)])] == [False, True, True]
    assert [cell.best for cell in _best([Cell("0", 0.0), Cell("0", 0.0)])] == [False, False]


def test_the_best_of_a_row_is_marked():
    rows = {row[0].text: [cell.best for cell in row[1:]] for row in report_table(report()).rows}
    assert rows["Angrily Surprised (%)"] == [False, False]
    assert rows["Happily Surprised (%)"] == [False, True]
    assert rows["Accuracy (%)"] == [True, False]
    assert rows["Training (s)"] == [False, False]


def test_the_notes_state_rows_classes_in_order_and_methods():
    notes = " ".join(report_table(report()).notes)
    assert "Angrily Surprised 200/38, Disgustedly Surprised 201/35" in notes
    assert "n = 1562 train, 397 test" in notes
    assert "Wilson for accuracy" in notes
    assert "exact McNemar on accuracy, Holm-corrected" in notes
    assert notes.endswith("Something else.")


def test_class_rows_hold_wilson_intervals_and_write_them_on_request():
    first = report_table(report()).rows[0][1]
    expected = wilson(23, 38)
    assert (first.text, first.low, first.high) == ("60.53", 100 * expected.low, 100 * expected.high)
    written = report_table(report(), class_intervals=True)
    assert written.rows[0][1].text == f"60.53 [{100 * expected.low:.1f}, {100 * expected.high:.1f}]"
    assert "with Wilson's intervals" in " ".join(written.notes)
    shared = report_table(report(clustered=True), class_intervals=True)
    assert (shared.rows[0][1].text, shared.rows[0][1].low) == ("60.53", None)
    assert "Wilson" not in " ".join(shared.notes)


def test_columns_that_share_a_letter_stand_in_a_row_of_their_own():
    lettered = tuple(replace(one, letters=letters) for one, letters in zip(report().columns, ("a", "ab"), strict=True))
    table = report_table(report(columns=lettered))
    assert [cell.text for cell in table.rows[-2]] == ["Letters (macro F1)", "a", "ab"]
    assert any(note.startswith("Letters: columns that share one") for note in table.notes)


def test_rows_that_share_groups_are_said_to():
    notes = " ".join(report_table(report(clustered=True)).notes)
    assert "jackknife over whole groups" in notes
    assert "200 exchanges of the answers to whole groups" in notes
    assert "no McNemar test, because rows share groups" in notes


def test_a_class_without_rows_has_no_figure():
    y = np.array([0, 1, 2, 3, 4, 5])
    found = scores(y, y, CLASSES)
    empty = column("vit")
    object.__setattr__(empty, "scores", found)
    table = report_table(report(columns=(empty,), baseline=None))
    assert table.rows[6][1].text == EN_DASH
    assert table.rows[6][1].value is None
    told = next(note for note in table.notes if note.startswith("No row of "))
    assert f"No row of {CLASSES[6]} to judge on: each counts as 0 in macro F1" in told
    assert f"Over the {len(CLASSES) - 1} classes with rows it is vit 100.00 (%)" in told


@pytest.mark.parametrize(("p", "text"), [(0.5, "0.500"), (0.00099, "<0.001"), (0.001, "0.001"), (1.0, "1.000")])
def test_small_p_values_are_bounded_not_rounded_to_zero(p, text):
    assert p_text(p) == text


@pytest.mark.parametrize(("p", "text"), [(0.002, "≤0.002"), (0.0021, "≤0.003"), (0.0002, "<0.001"), (1.0, "≤1.000")])
def test_a_p_value_at_what_the_draws_can_give_is_a_bound(p, text):
    assert p_text(p, bound=True) == text


@pytest.mark.parametrize("format", ["markdown", "latex", "csv", "json"])
def test_every_format_names_every_class_and_head(format):
    text = render(report_table(report()), format)
    for word in [*(name.replace("_", " ") for name in CLASSES), "ensemble", "vit"]:
        assert word in text
