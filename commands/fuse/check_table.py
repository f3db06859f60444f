"""`cer-fuse check-table`: can these published figures be?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .. import options as opt
from ..console import out_json, progress_bar, say
from ..outputs import show_table


@opt.forms(
    search=opt.Form("is for finding the supports, which are given", ("total", "limit")),
    table=opt.TABLE,
    noted=replace(opt.NOTED, within="table"),
)
def check_table(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="CSV: class,<system>,…; a row a class, percent, and a row accuracy.")],
    supports: Annotated[
        list[str] | None,
        opt.several("--supports", help="Rows of each class, in the table's order: 38,35,116.", show_default="found"),
    ] = None,
    total: Annotated[
        int | None, typer.Option(min=2, help="Rows in all, for finding the supports.", show_default="any")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Largest support that is tried.")] = 300,
    format: opt.TableFormat = "table",
    explain: opt.Explain = False,
    as_json: opt.Json = False,
) -> None:
    """Turn a table of per-class accuracies back into whole numbers of rows, and show the cells that cannot be.

    The supports are --supports, else a column 'support' of the table, else the smallest ones that explain it. A row
    'macro F1' is compared with what the other figures allow. Ends with 1 when something contradicts.

    Example: cer-fuse check-table paper.csv --supports 38,35,116,135,33,22,18
    """
    from ...challenge import check_report, read_table
    from ...challenge import check_table as check
    from ...challenge.published_check import find_supports

    table = read_table(file)
    known = table.supports if supports is None else _numbers(supports)
    opt.only(ctx, search=known is None, table=not as_json, noted=format == "table")
    with progress_bar() as step:
        step("searching", 0, None, "supports that explain the table" if known is None else "")
        found = None if known is not None else find_supports(table, limit=limit, n=total)
        checked = check(table, found.supports if found is not None else known or (), found)
    if as_json:
        out_json(checked.to_dict())
    else:
        show_table(check_report(checked), format, explain=explain)
    if not checked.consistent:
        say("[bold red]contradictions found[/]")
        raise typer.Exit(1)


def _numbers(parts: list[str]) -> tuple[int, ...]:
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise typer.BadParameter(
            f"expected whole numbers such as 38,35,116, however: {','.join(parts)!r}", param_hint="--supports"
        )
    return tuple(int(part) for part in parts)
