"""What to hand in to a challenge: `cer-fuse submit` makes, checks and compares files, `choose` picks predictions."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .. import options as opt
from ..console import FAILED, escape, out, out_json, progress_bar, say
from ..outputs import check_outputs, show_table

if TYPE_CHECKING:
    from ...challenge import Answers, PriorCorrection
    from ...fusion.keeping.answers import Predictions


@opt.forms(
    answering=opt.Form(
        "is for answering a template, and neither for --check nor for --diff",
        ("template", "output", "overwrite", "correct", "smooth", "fallback_class", "slack"),
    ),
    checking=opt.Form("is for --check", ("template",)),
    correcting=opt.Form(
        "says what --correct needs, which is not given", ("validation", "source_prior"), within="answering"
    ),
    videos=opt.Form("is for a table, and --json prints none", ("videos",), within="answering"),
    table=opt.Form("is for a table, and neither --check nor --json prints one", ("format",)),
)
def submit(
    ctx: typer.Context,
    predictions: Annotated[
        Path | None, typer.Argument(help="A CSV of cer-fuse predict or smooth; ids are VIDEO/00001.jpg.")
    ] = None,
    template: Annotated[
        Path | None, typer.Option("--template", "-t", help="The challenge's template.", show_default=False)
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to hand in.", show_default=False)] = None,
    overwrite: opt.Overwrite = False,
    correct: Annotated[
        Literal["em", "bbse", "known", "auto"] | None,
        typer.Option(
            help="Correct the class prior; known is the challenge's, auto is em only where it helps.",
            show_default="not at all",
        ),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(help="Labelled predictions of the same head: the prior it learned, and its confusions."),
    ] = None,
    source_prior: Annotated[
        Literal["uniform"] | None,
        typer.Option(help="uniform: the head learned all classes equally often.", show_default="of --validation"),
    ] = None,
    smooth: Annotated[
        str | None,
        typer.Option(help="Smooth over time (after correcting): box:51, hmm:em …", show_default="not at all"),
    ] = None,
    fallback_class: Annotated[
        str | None,
        typer.Option(
            help="Class for videos without any prediction; prior for the known prior's most frequent.",
            show_default="an error",
        ),
    ] = None,
    slack: Annotated[
        int, typer.Option(min=0, help="Frames that predictions may go beyond the template's last one.")
    ] = 1,
    videos: Annotated[bool, typer.Option("--videos", help="Print how each video was answered as well.")] = False,
    check: Annotated[
        Path | None, typer.Option(help="Find every fault of this file instead; exit status 1 if any.")
    ] = None,
    diff: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Set these two submissions side by side instead.")
    ] = None,
    format: opt.TableFormat = "table",
    as_json: opt.Json = False,
) -> None:
    """Answer every row of the ABAW compound-expression template from predictions; or --check a file, or --diff two.

    Example: cer-fuse submit smoothed.csv --template template.csv -o submission.csv
    """
    if sum(mode is not None for mode in (predictions, check, diff)) != 1:
        raise typer.BadParameter(
            "give either PREDICTIONS, or --check FILE, or --diff FILE FILE", param_hint="PREDICTIONS"
        )
    opt.only(
        ctx, answering=predictions is not None, checking=check is not None, correcting=correct is not None,
        videos=not as_json, table=check is None and not as_json,
    )  # fmt: skip
    if check is not None:
        _check(check, template, as_json)
    elif diff is not None:
        _diff(diff, format, as_json)
    elif template is None or output is None:
        raise typer.BadParameter(
            "a submission needs the challenge's template and a file to write",
            param_hint="--template" if template is None else "--output",
        )
    elif predictions is not None:
        from ...challenge import Smoothing, abaw_ce, answer, read_template
        from ...fusion.keeping.answers import read_predictions

        check_outputs({"--output": output}, overwrite=overwrite, apart_from=(predictions, template, validation))
        challenge = abaw_ce()
        asked = read_template(template, challenge)
        given = challenge.in_order(read_predictions(predictions))
        corrected = None if correct is None else _corrected(given, correct, validation, source_prior is not None)
        if corrected is not None:
            given = replace(given, proba=corrected.apply(given.proba))
        smoothing = None if smooth is None else Smoothing.parse(smooth)
        found = answer(
            asked, given, challenge, smoothing=smoothing, fallback=fallback_class, slack=slack,
            prior=None if corrected is None else corrected.present,
        )  # fmt: skip
        found.submission.write(output, challenge, overwrite=overwrite)
        for note in (*found.notes, *asked.notes):
            say(escape(note))
        _report(found, corrected, output, format, as_json, videos=videos)
        say(f"wrote [bold]{escape(output)}[/]: {len(found.submission.names):,} rows")


def _corrected(
    given: Predictions, kind: Literal["em", "bbse", "known", "auto"], validation: Path | None, uniform: bool
) -> PriorCorrection:
    """The correction asked for, worked out on these predictions; says what it assumes."""
    import numpy as np

    from ...challenge import Validation, abaw_ce, correct
    from ...fusion.keeping.answers import read_predictions

    challenge = abaw_ce()
    judged = None if validation is None else Validation.of(challenge.in_order(read_predictions(validation)))
    source = np.ones(len(challenge.classes)) if uniform else None
    with progress_bar() as step:
        step("correcting", 0, None, kind)
        found = correct(kind, given.proba, challenge.classes, validation=judged, source=source, known=challenge.prior)
    say(f"[yellow]Correcting the class prior ({kind}) assumes[/] that {escape(found.assumes)}")
    for note in found.notes:
        loud = note.startswith("WARNING")
        say(f"[bold red]{escape(note)}.[/]" if loud else f"{escape(note)}.")
    if not found.applied:
        say("The answers stay as they are.")
    elif found.judged is None or not found.judged.helps:
        say("Corrected all the same, as asked; [bold]--correct auto[/] would not.")
    return found


def _report(
    answers: Answers,
    correction: PriorCorrection | None,
    output: Path,
    format: opt.Format,
    as_json: bool,
    *,
    videos: bool,
) -> None:
    from ...challenge import abaw_ce
    from ...challenge.answering import classes_table, coverage_table

    challenge = abaw_ce()
    if as_json:
        out_json(
            answers.to_dict(challenge)
            | {"output": output, "correction": None if correction is None else correction.to_dict()}
        )
        return
    if videos:
        show_table(coverage_table(answers), format)
    notes = () if correction is None else (f"{correction.text}.", f"This assumes that {correction.assumes}.")
    show_table(classes_table(answers.submission.y, challenge, notes), format)


def _check(path: Path, template: Path | None, as_json: bool) -> None:
    from ...challenge import abaw_ce, check, read_template

    challenge = abaw_ce()
    faults = check(path.read_bytes(), challenge, None if template is None else read_template(template, challenge))
    if as_json:
        out_json({"file": path, "faults": [asdict(fault) for fault in faults]})
    else:
        for fault in faults:
            out(f"{path}: {fault.where}: {fault.text}")
    if faults:
        say(f"[bold red]{len(faults):,} faults[/] in {escape(path)}")
        raise typer.Exit(FAILED)
    say(f"{escape(path)}: no fault found")


def _diff(paths: tuple[Path, Path], format: opt.Format, as_json: bool) -> None:
    from ...challenge import abaw_ce, difference, read_submission
    from ...challenge.answering import difference_table

    challenge = abaw_ce()
    found = difference(read_submission(paths[0], challenge), read_submission(paths[1], challenge), challenge)
    if as_json:
        out_json(found.to_dict(challenge))
    else:
        show_table(difference_table(found, (str(paths[0]), str(paths[1])), challenge), format)


@opt.forms(table=opt.TABLE)
def choose(
    ctx: typer.Context,
    candidates: Annotated[list[Path], typer.Argument(help="Two or more CSVs of predictions of the same frames.")],
    template: Annotated[
        Path | None,
        typer.Option(help="Compare the answers to this template, filled in.", show_default="the predicted rows"),
    ] = None,
    format: opt.TableFormat = "table",
    as_json: opt.Json = False,
) -> None:
    """Rank predictions by how close their classes' frequencies come to the challenge's known prior.

    Example: cer-fuse choose mlp.csv late.csv linear.csv --template template.csv
    """
    from ...challenge import abaw_ce, answer, choose_by_prior, read_template
    from ...challenge.answering import ASSUMES, candidates_table
    from ...fusion.keeping.answers import read_predictions

    opt.only(ctx, table=not as_json)
    challenge = abaw_ce()
    asked = None if template is None else read_template(template, challenge)
    answers = {}
    for path in candidates:
        found = read_predictions(path)
        answers[str(path)] = (
            challenge.in_order(found).y_pred if asked is None else answer(asked, found, challenge).submission.y
        )
    ranked = choose_by_prior(answers, challenge)
    if as_json:
        out_json({"chosen": ranked[0].name, "candidates": [asdict(one) for one in ranked], "assumes": ASSUMES})
    else:
        show_table(candidates_table(ranked), format)
    say(f"[yellow]This choice assumes[/] that {escape(ASSUMES)}")
