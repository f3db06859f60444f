"""fusion's tables in the terminal, or in the format asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cer_fusion.commands.console import console, escape, out, out_data, out_json, plain, say
from cer_fusion.commands.forms import Form
from cer_fusion.commands.outputs import NO_PICTURE, put

if TYPE_CHECKING:
    from cer_fusion.fusion.page.table import Table

TableFormat = Annotated[str, typer.Option("--format", help="table, markdown, latex, csv or json.")]
FigurePath = Annotated[
    Path | None,
    typer.Option("--figure", help="Picture to draw: .png, .pdf or .svg; none for none.", show_default="in runs/"),
]
ResultPath = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Keep the whole result as JSON.", show_default=False),
]
TABLE = Form("is for a table, and --json prints none", ("format",))
"""`--format` of a command that has `--json` too."""
FORMATS = ("table", "markdown", "latex", "csv", "json")


def check_format(name: str) -> str:
    """Refuse an unknown format before any work is done."""
    if name not in FORMATS:
        raise typer.BadParameter(f"must be one of {', '.join(FORMATS)}, however: {name!r}", param_hint="--format")
    return name


def print_table(result: Any, format: str, *, class_intervals: bool = False) -> None:
    """Print a report or a sweep; the intervals of the classes, which make a table wide, always in markdown."""
    from cer_fusion.fusion import Report
    from cer_fusion.fusion.page.table import report_table
    from cer_fusion.fusion.sweeps.result import sweep_table

    if isinstance(result, Report):
        table = report_table(result, class_intervals=class_intervals or format == "markdown")
    else:
        table = sweep_table(result)
    show_table(table, format)


def show_table(table: Table, format: str) -> None:
    """Print a table in the format asked for."""
    from cer_fusion.fusion.page.table import render

    if format == "table":
        _draw(table)
    else:
        out_data(render(table, format).rstrip("\n"))  # type: ignore[arg-type]


def print_tables(tables: Sequence[Table], format: str) -> None:
    """Print several tables, one below the other; as JSON they are one list."""
    from cer_fusion.fusion.page.table import render

    if format == "json":
        out_json([json.loads(render(table, "json")) for table in tables])
        return
    for number, table in enumerate(tables):
        if number:
            out("") if format == "table" else out_data("")
        show_table(table, format)


def figure_output(asked: Path | None) -> Path | None:
    """The file that `--figure` makes a command write, where it names one; a name that says no form is refused."""
    from cer_fusion.fusion.page.figures import check_figure_name

    if asked is None or asked == NO_PICTURE:
        return None
    check_figure_name(asked)
    return asked


def save_picture(draw: Callable[[], Any], asked: Path | None, default: Path, *, overwrite: bool) -> None:
    """Draw a figure into the file asked for, or a free one like the default, and say where; `none` draws nothing."""
    from cer_fusion.fusion.page.figures import save_figure

    if asked == NO_PICTURE:
        return
    figure = draw()

    def write(path: Path, overwrite: bool) -> Path:
        return save_figure(figure, path, overwrite=overwrite)

    say(f"drew [bold]{escape(put(write, asked, default, overwrite=overwrite))}[/]")


def _draw(table: Table) -> None:
    from rich.table import Table as RichTable

    drawn = RichTable(title=plain(table.title), title_justify="left", title_style="bold")
    for number, title in enumerate(table.header):
        drawn.add_column(plain(title), justify="left" if number == 0 else "right", no_wrap=number == 0)
    for number, row in enumerate(table.rows):
        if number in table.rules:
            drawn.add_section()
        drawn.add_row(*(plain(cell.text, "bold" if cell.best else "") for cell in row))
    stdout = console()
    needed = stdout.measure(drawn, options=stdout.options.update(width=500))
    if not stdout.is_terminal or needed.minimum > stdout.width:  # cells may fold in a terminal, but not be cut
        stdout = console(width=max(80, needed.maximum), soft_wrap=True)
    stdout.print(drawn)
    for note in table.notes:
        stdout.print(plain(note), style="dim", soft_wrap=True, highlight=False)
