from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess

import pytest
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.page.table import EN_DASH, MINUS, Cell, Table, render

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
    with pytest.raises(ReportError, match=r"'latx'.*'latex'"):
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
