"""What a command writes: files, tables, figures.

A file that is there already is refused before the work starts, but for `--overwrite`.
The writers refuse once more when they give a finished file its name, so that nothing is lost to somebody who was
quicker either.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import shlex
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from .console import escape, out, out_data, out_json, say
from .options import NO_PICTURE, NOTHING, Format
from .tables import out_table

if TYPE_CHECKING:
    from ..fusion import Report
    from ..fusion.keeping.answers import Predictions
    from ..kit.table import Table


EXPLAINED = "--explain says how these figures are made."
Written = TypeVar("Written")
Outputs = Mapping[str, Path | Iterable[Path | None] | None]
"""Option to the file or files that it makes a command write; None for what is not written."""


def check_outputs(
    outputs: Outputs,
    *,
    overwrite: bool,
    apart_from: Iterable[Path | None] = (),
    unasked: Mapping[str, Path] | None = None,
) -> None:
    """Refuse files that cannot be written as asked, all of them together and before any work is done.

    Parameters
    ----------
    outputs : dict of option to path or paths
    overwrite : bool
        Whether plain files may be replaced. Folders, devices and the like never are.
    apart_from : paths
        Inputs that must not be replaced by what is made of them.
    unasked : dict of option to path, optional
        Where something is written under a free name, as the option was not given: the folder must take files.

    Raises
    ------
    typer.BadParameter
        Naming the option, every file in the way, and what to do.
    """
    inputs = [path for path in apart_from if path is not None and path.exists()]
    for option, place in (unasked or {}).items():
        _check_place(option, next(free for free in numbered(place) if not os.path.lexists(free)), ())
    seen: dict[str, tuple[str, Path]] = {}
    taken: dict[str, list[Path]] = {}
    for option, paths in outputs.items():
        for path in [paths] if paths is None or isinstance(paths, Path) else paths:
            if path is None:
                continue
            _check_place(option, path, inputs)
            if (other := seen.get(_key(path))) is not None:
                raise typer.BadParameter(
                    f"{path} would be written twice, as {other[1]} of {other[0]} too: name different files",
                    param_hint=option,
                )
            seen[_key(path)] = (option, path)
            if os.path.lexists(path) and not overwrite:
                taken.setdefault(option, []).append(path)
    if taken:
        names = [str(path) for paths in taken.values() for path in paths]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
        raise typer.BadParameter(
            f"{shown} {'exists' if len(names) == 1 else 'exist'} already: name another, or replace it with --overwrite",
            param_hint=", ".join(taken),
        )


def put(write: Callable[[Path, bool], Written], asked: Path | None, default: Path, *, overwrite: bool) -> Written:
    """Write to the place asked for; where none was, to the first free one of `default`, `default-2`, `default-3`, …

    Gives back what `write` does.

    Parameters
    ----------
    write : callable (path, overwrite)
        Writes, and raises `FileExistsError` where a place is taken that is not to be overwritten.
    """
    if asked is not None or overwrite:
        return write(asked or default, overwrite)
    for place in numbered(default):
        if not os.path.lexists(place):
            try:
                return write(place, False)
            except FileExistsError:  # somebody else was quicker
                continue
    raise AssertionError("numbers do not end")


def numbered(first: Path) -> Iterable[Path]:
    """A place, and then the same with -2, -3, … at the end of its name."""
    yield first
    for number in itertools.count(2):
        yield first.with_name(f"{first.stem}-{number}{first.suffix}")


def print_table(result: Any, format: Format, *, class_intervals: bool = False, explain: bool | None = True) -> None:
    """Print a report or a sweep; the intervals of the classes, which make a table wide, always in markdown."""
    from ..fusion import Report
    from ..fusion.judging.report import report_table
    from ..fusion.sweeps.result import sweep_table

    if isinstance(result, Report):
        table = report_table(result, class_intervals=class_intervals or format == "markdown")
    else:
        table = sweep_table(result)
    show_table(table, format, explain=explain)


def show_table(table: Table, format: Format, *, explain: bool | None = True) -> None:
    """Print a table in the format asked for.

    One for people has its notes in full only where they are to explain; else in brief, and where the command has
    `--explain` (False, not None) with a word of that.
    """
    from ..kit.table import render

    if format != "table":
        out_data(render(table, format).rstrip("\n"))
        return
    out_table(
        table.header,
        [[cell.text for cell in row] for row in table.rows],
        title=table.title,
        notes=table.notes if explain else table.in_brief("" if explain is None else EXPLAINED),
        labels=table.labels,
        left=1,
        words=table.words,
        named=table.named,
        rules=table.rules,
        bold={(r, c) for r, row in enumerate(table.rows) for c, cell in enumerate(row) if cell.best},
    )


def print_tables(tables: Sequence[Table], format: Format, *, explain: bool | None = True) -> None:
    """Print several tables, one below the other; as JSON they are one object."""
    from ..kit.table import render

    if format == "json":
        out_json({"tables": [json.loads(render(table, "json")) for table in tables]})
        return
    for number, table in enumerate(tables):
        if number:
            out("") if format == "table" else out_data("")
        show_table(table, format, explain=explain)


def prediction_rows(found: Predictions) -> list[dict[str, Any]]:
    """What the CSV says, a sample an object: id, its own label, the class answered, and every class's probability."""
    labels = found.labels or (None,) * len(found.ids)
    return [
        {
            "sample_id": name,
            "label": label,
            "predicted": found.classes[y],
            "probabilities": dict(zip(found.classes, row, strict=True)),
        }
        for name, label, y, row in zip(found.ids, labels, found.y_pred.tolist(), found.proba.tolist(), strict=True)
    ]


CURVES = Path("tracked")
"""Where TensorBoard's files of fits are, a folder a run: `runs/*/` stay runs."""


def track_report(
    report: Report, trackers: Sequence[str], *, run: str, config: Mapping[str, Any], kept: Path | None
) -> list[str]:
    """Tell trackers a report: a run a column, its settings and figures, nothing about single samples.

    The fits are done by now: a tracker that fails is named, with how to tell it later, and the others are told.

    Parameters
    ----------
    kept : path, optional
        Where the report or the run is kept, from which it can be told again.

    Returns
    -------
    list of str
        Those that were told all of it.
    """
    from ..kit.tracking import tracked

    failed: dict[str, str] = {}
    for column in report.columns if trackers else ():
        name = run if len(report.columns) == 1 else f"{run}/{column.name}"
        own = {"head": column.head, "blocks": " ".join(column.blocks), "params": _without_blocks(column.params)}
        curves = CURVES.joinpath(*(re.sub(r"[^\w@+=-]", "_", part) for part in name.split("/")))
        left = [one for one in trackers if one not in failed]
        with tracked(left, run=name, config={**own, **config}, curves=curves, failed=failed) as track:
            track(report.figures(column.name))
    told = [name for name in trackers if name not in failed]
    if told:
        count = len(report.columns)
        say(f"tracked by {escape(', '.join(told))}: {f'{count:,} runs' if count > 1 else 'one run'}, {escape(run)}")
    if failed:
        say(f"[yellow]not tracked by {escape(', '.join(failed))}[/], and nothing else is lost")
        if kept is not None:
            place = escape(shlex.quote(str(kept)))
            say(f"  once it answers: cer-fuse compare {place} --track {escape(','.join(failed))}")
    return told


def _without_blocks(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name != "blocks"}


def figure_output(asked: Path | None) -> Path | None:
    """The file that `--figure` makes a command write, where it names one; a name that says no form is refused."""
    from ..fusion.page.figures import check_figure_name

    if asked is None or asked == NO_PICTURE:
        return None
    check_figure_name(asked)
    return asked


def save_picture(draw: Callable[[], Any], asked: Path | None, default: Path, *, overwrite: bool) -> None:
    """Draw a figure into the file asked for, or a free one like the default, and say where; `none` draws nothing."""
    from ..fusion.page.figures import save_figure

    if asked == NO_PICTURE:
        return
    figure = draw()
    path = put(lambda path, over: save_figure(figure, path, overwrite=over), asked, default, overwrite=overwrite)
    say(f"drew [bold]{escape(path)}[/]")


def keep_and_show(
    found: Any,
    show: Callable[[], None],
    draw: Callable[[], Any],
    *,
    output: Path | None,
    figure: Path | None,
    default: Path,
    overwrite: bool,
    keep: Path | None = None,
) -> Path | None:
    """Write a result and its figure where asked, and show it; with `keep`, the result there where no place is named.

    Files come first, as whoever reads the table may go away; and the table even where a file cannot be written.
    Returns where the result is kept.
    """
    path = None
    try:
        if output != NOTHING and (output or keep):
            path = put(
                lambda path, over: found.save(path, overwrite=over), output, keep or default, overwrite=overwrite
            )
            say(f"kept [bold]{escape(path)}[/]")
        beside = (
            default if path is None or output is not None else path.with_suffix(default.suffix)
        )  # both have one number
        save_picture(draw, figure, beside, overwrite=overwrite)
    finally:
        show()
    return path


def _check_place(option: str, path: Path, inputs: Iterable[Path]) -> None:
    if str(path) == "-":
        raise typer.BadParameter(
            "there is no file called '-', and no other word for standard output: name a file", param_hint=option
        )
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a folder, and a file is to be written: name one in it", param_hint=option)
    if path.exists() and not path.is_file():
        raise typer.BadParameter(f"{path} is no plain file, and is not replaced by one", param_hint=option)
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise typer.BadParameter(f"{path} cannot be written: {above} is no folder", param_hint=option)
    _check_takes_files(option, path, above)
    for one in inputs:
        if path.exists() and path.samefile(one):
            raise typer.BadParameter(f"{path} is what this reads ({one}): name another file", param_hint=option)


def check_folder(option: str, folder: Path) -> None:
    """Refuse a folder that cannot be made or filled, before any work is done; one that is there is not in the way.

    Raises
    ------
    typer.BadParameter
        If it, or what it would be made in, is no folder, or takes no files.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise typer.BadParameter(f"{folder} is a file, and a folder is to be written", param_hint=option)
    above = next(one for one in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(one))
    if not above.is_dir():
        raise typer.BadParameter(f"{folder} cannot be written: {above} is no folder", param_hint=option)
    _check_takes_files(option, folder, above)


def _check_takes_files(option: str, path: Path, above: Path) -> None:
    """Try it: permissions do not tell of read-only disks, file systems of the kernel's, or what a server allows."""
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        why = "is read-only for you" if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else error.strerror
        raise typer.BadParameter(
            f"{path} cannot be written: {above} {why or 'takes no files'}: name another place", param_hint=option
        ) from None


def _key(path: Path) -> str:
    """Equal for names that some file systems take for one: of other case, or of composed and decomposed accents."""
    return unicodedata.normalize("NFC", str(path.parent.resolve() / path.name)).casefold()
