"""`cer-fuse smooth`: predictions of videos, smoothed over time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import options as opt
from ..console import escape, out_data, out_json, progress_bar, say
from ..outputs import check_outputs, prediction_rows, show_table

if TYPE_CHECKING:
    from ...fusion.keeping.answers import Predictions


@opt.forms(
    windows=opt.Form("is for a method with a window, and none of these has one", ("window",)),
    chains=opt.Form("is for hmm and viterbi", ("stickiness", "validation")),
    filling=opt.Form("is for smoothed predictions, and several settings are only scored without --output", ("fill",)),
    table=opt.TABLE,
    noted=replace(opt.NOTED, within="table"),
    written=opt.WRITTEN,
)
def smooth(
    ctx: typer.Context,
    predictions: Annotated[Path, typer.Argument(help="A CSV of cer-fuse predict; ids are VIDEO/00001.jpg.")],
    method: Annotated[
        list[str] | None,
        opt.several(
            "--method", "-m", help="box, gaussian, median, exponential, hmm, viterbi, none.", show_default="box"
        ),
    ] = None,
    window: Annotated[
        list[str] | None,
        opt.several(
            "--window",
            "-w",
            help="Frames: 51, or 5,25,51, or start:stop:step. Of hmm and viterbi: how long a class stays on average.",
            show_default=False,
        ),
    ] = None,
    stickiness: Annotated[
        list[str] | None,
        opt.several(
            "--stickiness",
            help="Where hmm and viterbi have it from: window, labels, em (no labels).",
            show_default="window",
        ),
    ] = None,
    choose_on: Annotated[
        Path | None,
        typer.Option(help="Labelled predictions of other videos to choose and learn on.", show_default="PREDICTIONS"),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(
            help="Labelled predictions of the same head on rows like its training rows: hmm and viterbi divide by the "
            "class prior that it learned, calibrated on them.",
            show_default="every class is taken to be equally frequent",
        ),
    ] = None,
    fill: Annotated[bool, typer.Option(help="Answer for frames missing inside a video as well.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="CSV to write.", show_default=False)] = None,
    overwrite: opt.Overwrite = False,
    format: opt.TableFormat = "table",
    explain: opt.Explain = False,
    as_json: opt.Json = False,
    seed: opt.Seed = 0,
) -> None:
    """Smooth probabilities within videos; on labelled ones, score every setting and choose by leaving videos out.

    Example: cer-fuse smooth predictions.csv --method box --window 5:101:8 -o smoothed.csv
    """
    from ...challenge import (
        Timeline,
        Validation,
        calibrate,
        learned_transitions,
        parse_windows,
        settings_of,
        smoothed,
        sweep_smoothing,
    )
    from ...challenge.smoothing import CHAINS
    from ...challenge.smoothing_sweep import smoothing_table
    from ...fusion.keeping.answers import predictions_csv, read_predictions, write_predictions

    methods, sources = method or ["box"], stickiness or ["window"]
    chains = [one for one in methods if one in CHAINS]
    windowed = [one for one in methods if one not in (*CHAINS, "none")] or (chains and "window" in sources)
    meant = {"windows": windowed, "chains": chains, "table": not as_json, "written": output}
    meant["noted"] = format == "table"
    opt.only(ctx, **meant, filling=True)
    check_outputs({"--output": output}, overwrite=overwrite)
    settings = settings_of(methods, parse_windows(",".join(window)) if window else (), sources)
    given = read_predictions(predictions)
    source = given if choose_on is None else _same_classes(read_predictions(choose_on), given, choose_on, "--choose-on")
    prior = None
    if validation is not None:
        rows = Validation.of(_same_classes(read_predictions(validation), given, validation, "--validation"))
        prior, calibration = rows.prior, calibrate(rows.proba, rows.y)
        given, source = (replace(one, proba=calibration.apply(one.proba)) for one in (given, source))
        shares = ", ".join(f"{name} {share:.1%}" for name, share in zip(rows.classes, prior, strict=True))
        say(f"class prior of the head, from {len(rows.y):,} labelled rows: {escape(shares)}; all rows are calibrated")
    chosen, sweep = settings[0], None
    if (source.y_true >= 0).any():
        with progress_bar() as step:
            step("smoothing", 0, None, f"{len(settings):,} settings")
            sweep = sweep_smoothing(source, settings, prior=prior, seed=seed)
        chosen = sweep.chosen_setting if len(settings) > 1 else chosen
    elif choose_on is not None or len(settings) > 1:
        raise typer.BadParameter(
            f"{len(settings)} settings to choose from, but no label in {choose_on or predictions}: give labelled "
            "predictions of other videos, or one setting",
            param_hint="--choose-on",
        )
    asked = output is not None or sweep is None
    opt.only(ctx, **meant, filling=asked)
    report: dict[str, Any] = {
        "prior": None if prior is None else dict(zip(given.classes, prior.tolist(), strict=True)),
        "setting": chosen.text,
        "sweep": None if sweep is None else sweep.to_dict(),
        "output": output,
    }
    if sweep is not None and not as_json:
        show_table(smoothing_table(sweep), format, explain=explain)
    if asked:
        learns = choose_on is not None and chosen.stickiness == "labels"
        moves = learned_transitions(source, chosen.stickiness) if learns else None
        answers = smoothed(given, chosen, transitions=moves, fill=fill, prior=prior)
        say(f"smoothing: [bold]{escape(chosen.text)}[/]. {escape(Timeline.of(given.ids).gaps_text())}")
        if output is not None:
            write_predictions(output, answers, overwrite=overwrite)
            say(f"wrote [bold]{escape(output)}[/]: {len(answers.ids):,} frames")
        elif as_json:
            report["answers"] = prediction_rows(answers)
        else:
            out_data(predictions_csv(answers).rstrip("\n"))
    if as_json:
        out_json(report)


def _same_classes(source: Predictions, given: Predictions, path: Path, option: str) -> Any:
    if source.classes != given.classes:
        raise typer.BadParameter(
            f"{path} has the classes {', '.join(source.classes)}, the predictions {', '.join(given.classes)}: "
            "both must be of one head",
            param_hint=option,
        )
    return source
