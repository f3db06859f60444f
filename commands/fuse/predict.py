"""`cer-fuse predict`: probabilities of stored samples, or of pictures and videos shown to the whole line."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cer_fusion.commands import face_options as face
from cer_fusion.commands.console import FAILED, escape, out_data, out_json, say, show_logs
from cer_fusion.commands.feat.frames import tell_frames_from_zero
from cer_fusion.commands.forms import Form, forms, only
from cer_fusion.commands.fuse.evaluate import Run, stored_predictions
from cer_fusion.commands.options import DEFAULT_STORE, Device, Json, Missing, StoredData, StorePath
from cer_fusion.commands.outputs import WRITTEN, Overwrite, check_outputs

if TYPE_CHECKING:
    from cer_fusion.commands.predict_sources import Shown
    from cer_fusion.fusion.keeping.answers import Predictions

_SHOWN = "Of a picture, folder or video"
_STORED = "Of stored samples"


@forms(
    always=("head", "store", "output", "as_json"),
    stored=Form("is for samples of the store, and a path is no dataset of the store", ("data", "split", "missing")),
    shown=Form("is for a picture, folder or video", ("weights", "no_faces", "smooth", "annotate", "device")),
    filmed=Form("is for videos", ("every", "frames"), within="shown"),
    faces=Form(
        "says how faces are found and cut out, and --no-faces leaves that out",
        ("size", "margin", "min_face", "min_score"),
        within="shown",
    ),
    drawn=Form("is for --annotate", ("top",), within="shown"),
    written=WRITTEN,
)
def predict(
    ctx: typer.Context,
    head: Run,
    pictures: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PICTURE|FOLDER|VIDEO]", help="What to answer for.", show_default="samples of the store"
        ),
    ] = None,
    data: StoredData = None,
    split: Annotated[
        str | None, typer.Option(help="Only this split.", show_default="all samples", rich_help_panel=_STORED)
    ] = None,
    store: StorePath = DEFAULT_STORE,
    missing: Missing = "error",
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            "-w",
            help="FEATURE=FILE, where weights that came from a file are now; others are refused.",
            show_default=False,
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    no_faces: Annotated[
        bool,
        typer.Option("--no-faces", help="Pictures are crops of faces already.", rich_help_panel=_SHOWN),
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="Every Nth frame of a video.", rich_help_panel=_SHOWN)] = 1,
    size: face.SizePx = face.DEFAULT_SIZE,
    margin: face.Margin = face.DEFAULT_MARGIN,
    min_face: face.MinFace = face.DEFAULT_MIN_FACE,
    min_score: face.MinScore = face.DEFAULT_MIN_SCORE,
    frames: Annotated[
        Path | None,
        typer.Option(help="Keep a video's frames here, and go on with them.", rich_help_panel=_SHOWN),
    ] = None,
    smooth: Annotated[
        str | None,
        typer.Option(
            help="Smooth a video over time: box:51, hmm:em …", show_default="not at all", rich_help_panel=_SHOWN
        ),
    ] = None,
    annotate: Annotated[
        Path | None,
        typer.Option(help="Write the picture or video with boxes and bars.", rich_help_panel=_SHOWN),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes shown by --annotate.", rich_help_panel=_SHOWN)] = 3,
    device: Device = "auto",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="CSV to write.", show_default="stdout")] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Give every sample its probabilities: sample_id, label, predicted, one column a class.

    Without a path: samples of the store. With one: faces are found and cut out, the run's backbones are made again with
    its weights and preprocessing, and its head answers.

    Example: cer-fuse predict --head runs/rafdb-mlp --split test -o predictions.csv

    Example: cer-fuse predict talk.mp4 --head runs/rafdb-mlp --smooth box:25 --annotate talk-annotated.mp4
    """
    meant = {"stored": pictures is None, "shown": pictures is not None, "faces": not no_faces, "drawn": annotate}
    meant["written"] = output or annotate or frames
    only(ctx, **meant, filmed=True)
    check_outputs({"--output": output}, overwrite=overwrite)
    if pictures is None:
        stored = stored_predictions(head, store, data, split, missing)
        tell_frames_from_zero(stored.ids)
        _answer(stored, output, as_json, overwrite)
        return
    from cer_fusion.challenge import Smoothing, Timeline
    from cer_fusion.commands.predict_sources import PictureSource, Shown, marks_of, source_of, tell_left_out
    from cer_fusion.commands.recreated import answering
    from cer_fusion.frames import FrameSettings

    show_logs()
    setting = None if smooth is None else Smoothing.parse(smooth)
    settings = FrameSettings(
        every=every, faces="none" if no_faces else "track", alignment=face.alignment_of(size, margin)
    )
    with ExitStack() as keep:
        source = source_of(pictures, frames, keep)
        if isinstance(source, PictureSource):
            if setting is not None:
                Timeline.of(source.names)  # refuses here, before the work, what cannot be smoothed after it
            tell_frames_from_zero(source.names)
        only(ctx, **meant, filmed=source.filmed)
        drawn = [] if annotate is None else source.drawn_to(annotate)
        check_outputs(
            {"--output": output, "--annotate": drawn}, overwrite=overwrite, apart_from=(head, *source.files())
        )
        detector = None if no_faces else face.detector_of(min_face, min_score)
        shown = Shown(settings=settings, detector=detector, overwrite=overwrite)
        line = answering(head, store, weights or [], device)
        found = _collected(line.answers(source.crops(shown), shown.unusable), line.classes)
        tell_left_out(shown)
        if not found.ids:
            say(f"[bold red]error:[/] nothing at {escape(pictures)} could be answered")
            raise typer.Exit(FAILED)
        if setting is not None:
            found = _smoothed(found, setting)
        if annotate is not None:
            count = source.annotate(annotate, marks_of(found, shown, top), shown)
            say(f"drew [bold]{escape(annotate)}[/]: {count:,} pictures")
    _answer(found, output, as_json, overwrite, shown)


def _collected(answers: Any, classes: tuple[str, ...]) -> Predictions:
    import numpy as np
    from cer_fusion.fusion.keeping.answers import Predictions

    ids: list[str] = []
    parts = [np.empty((0, len(classes)))]
    for names, proba in answers:
        ids += names
        parts.append(proba)
    return Predictions(ids=tuple(ids), classes=classes, proba=np.concatenate(parts))


def _smoothed(found: Predictions, setting: Any) -> Predictions:
    from cer_fusion.challenge import Timeline, smoothed

    say(f"smoothing: [bold]{escape(setting.text)}[/]. {escape(Timeline.of(found.ids).gaps_text())}")
    return smoothed(found, setting)


def _answer(
    found: Predictions, output: Path | None, as_json: bool, overwrite: bool, shown: Shown | None = None
) -> None:
    """Print or write the predictions."""
    from cer_fusion.fusion.keeping.answers import predictions_csv, write_predictions

    if output is not None:
        write_predictions(output, found, overwrite=overwrite)
        say(f"wrote [bold]{escape(output)}[/]: {len(found.ids):,} samples")
    if as_json:
        out_json(_json(found, shown))
    elif output is None:
        out_data(predictions_csv(found).rstrip("\n"))


def _json(found: Predictions, shown: Shown | None) -> dict[str, Any]:
    labels = found.labels or (None,) * len(found.ids)
    rows: list[dict[str, Any]] = [
        {
            "sample_id": name,
            "label": label,
            "predicted": found.classes[y],
            "probabilities": dict(zip(found.classes, row, strict=True)),
        }
        for name, label, y, row in zip(found.ids, labels, found.y_pred.tolist(), found.proba.tolist(), strict=True)
    ]
    if shown is None:
        return {"classes": found.classes, "predictions": rows}
    for row in rows:
        row["box"] = shown.boxes.get(row["sample_id"])
    return {
        "classes": found.classes,
        "predictions": rows,
        "without_face": shown.without_face,
        "unusable": shown.unusable,
    }
