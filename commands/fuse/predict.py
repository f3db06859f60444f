"""`cer-fuse predict`: probabilities of stored samples, or of pictures and videos shown to the whole line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import options as opt
from ..answering import answering_of, encoder_rows, named_features, prompted_answering
from ..console import FAILED, console, escape, out_data, out_json, progress_bar, say, show_logs
from ..data import tell_frames_from_zero
from ..heads import head_folder, loaded_head, probabilities, store_of_run
from ..outputs import check_outputs, prediction_rows
from ..sources import (
    Shown,
    ShownPictures,
    detector_of,
    marks_of,
    source_of,
    tell_left_out,
)
from ..tables import out_table

if TYPE_CHECKING:
    from ...fusion.keeping.answers import Predictions
    from ..answering import Answering


_LOOSE = 0.3  # a margin that leaves features which cut faces out themselves room to do so
_SHOWN = "Of a picture, folder or video"
_STORED = "Of stored samples"


@opt.forms(
    stored=opt.Form("is for samples of the store, and a path is no dataset of the store", ("data", "split", "missing")),
    shown=opt.Form(
        "is for a picture, folder or video", ("weights", "code", "no_faces", "smooth", "annotate", "device")
    ),
    filmed=opt.Form("is for videos", ("every", "frames"), within="shown"),
    faces=opt.Form(
        "says how faces are found and cut out, and --no-faces leaves that out",
        ("size", *opt.CROPPED, "min_face", "min_score"),
        within="shown",
    ),
    prompted=opt.Form("is for --prompts, and a kept head knows its features", ("features",)),
    compounded=opt.Form("says how --compounds are made: name their class set", ("rule",)),
    drawn=opt.Form("is for --annotate", ("top",), within="shown"),
    written=opt.WRITTEN,
)
def predict(
    ctx: typer.Context,
    head: opt.AnyHead = None,
    pictures: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PICTURE|FOLDER|VIDEO]", help="What to answer for.", show_default="samples of the store"
        ),
    ] = None,
    prompts: opt.Prompts = None,
    features: opt.Features = None,
    data: opt.StoredData = None,
    split: Annotated[
        str | None, typer.Option(help="Only this split.", show_default="all samples", rich_help_panel=_STORED)
    ] = None,
    store: opt.StorePath = opt.DEFAULT_STORE,
    missing: opt.Missing = "error",
    weights: Annotated[
        list[str] | None,
        opt.several(
            "--weights",
            "-w",
            pairs=True,
            help="FEATURE=FILE, where weights that came from a file are now; others are refused.",
            show_default=False,
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    code: Annotated[
        list[str] | None,
        opt.several(
            "--code",
            pairs=True,
            help="FEATURE=FILE.py, where the code of your own network is now; other code is refused.",
            show_default=False,
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    no_faces: Annotated[
        bool,
        typer.Option("--no-faces", help="Pictures are crops of faces already.", rich_help_panel=_SHOWN),
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="Every Nth frame of a video.", rich_help_panel=_SHOWN)] = 1,
    size: opt.SizePx = opt.DEFAULT_SIZE,
    crop: opt.Crop = "face",
    margin: opt.Margin = None,
    detector: opt.DetectorName = "mtcnn",
    points: opt.PointsOf = None,
    min_face: opt.MinFace = opt.DEFAULT_MIN_FACE,
    min_score: opt.MinScore = None,
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
    compounds: Annotated[
        str | None,
        typer.Option(
            help="Of a head of basic expressions: answer the compounds of a class set that it never learned, abaw7. "
            "With --prompts: the classes to answer.",
            show_default=False,
        ),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            help="How two expressions make a compound: sum, likely_sum, product, harmonic, minimum.",
            show_default="product",
        ),
    ] = None,
    device: opt.Device = "auto",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="CSV to write.", show_default="stdout")] = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Give every sample its probabilities: sample_id, label, predicted, one column a class.

    Without a path: samples of the store. With one: faces are found and cut out, the run's backbones are made again with
    its weights and preprocessing, and its head answers.

    Example: cer-fuse predict --head runs/rafdb-mlp --split test -o predictions.csv

    Example: cer-fuse predict talk.mp4 --head runs/rafdb-mlp --smooth box:25 --annotate talk-annotated.mp4

    Example: cer-fuse predict videos --head runs/basic-linear --compounds abaw7 --smooth box:25 -o hsemotion.csv

    Example: cer-fuse predict --prompts prompts.safetensors --data abaw --compounds abaw7 -o ustc-ac.csv
    """
    if (head is None) == (prompts is None):
        raise typer.BadParameter("name a kept head, or text vectors with --prompts, and not both", param_hint="--head")
    meant = {"stored": pictures is None, "shown": pictures is not None, "faces": not no_faces, "drawn": annotate}
    meant["written"] = output or annotate or frames
    meant["prompted"] = prompts is not None
    meant["compounded"] = compounds is not None
    opt.only(ctx, **meant, filmed=True)
    check_outputs({"--output": output}, overwrite=overwrite)
    pairs = None if compounds is None or head is None else _pairs(head, compounds, rule or "product")
    if pictures is None:
        stored = (
            _prompted_predictions(prompts, features, store, data, split, missing, compounds, rule)
            if head is None
            else _stored_predictions(head, opt.store_asked_for(ctx, store), data, split, missing, pairs)
        )
        tell_frames_from_zero(stored.ids)
        _answer(stored, output, as_json, overwrite)
        return
    from ...challenge import Smoothing, Timeline, smoothed
    from ...frames import Alignment, FrameSettings

    show_logs()
    setting = None if smooth is None else Smoothing.parse(smooth)
    alignment = Alignment(size_px=size, convention=crop, margin=margin)
    with ExitStack() as keep:
        source = source_of(pictures, frames, keep)
        if isinstance(source, ShownPictures):
            if setting is not None:
                Timeline.of(source.names)  # refuses here, before the work, what cannot be smoothed after it
            tell_frames_from_zero(source.names)
        opt.only(ctx, **meant, filmed=source.filmed)
        drawn = [] if annotate is None else source.drawn_to(annotate)
        check_outputs(
            {"--output": output, "--annotate": drawn},
            overwrite=overwrite,
            apart_from=(head or prompts, *source.files()),
        )
        if head is not None:
            store = store_of_run(head, opt.store_asked_for(ctx, store), rows=False)
        made = (store, weights or [], code or [], device, detector)
        line = (
            _prompted_line(prompts, features, compounds, rule, *made)
            if head is None
            else answering_of(head, *made, sound=source.sound, time_of=source.time_of)
        )
        if line.cuts_faces and crop == "face" and margin is None and not no_faces:
            alignment = Alignment(size_px=size, convention="box", margin=_LOOSE)
            say(f"the head's features cut faces out themselves: they are given loose ones (box, margin {_LOOSE})")
        settings = FrameSettings(every=every, faces="none" if no_faces else "track", alignment=alignment)
        finder = None if no_faces else detector_of(detector, min_face, min_score, points, device)
        shown = Shown(settings=settings, detector=finder, overwrite=overwrite)
        with progress_bar() as step:
            answers = line.answers(source.crops(shown), shown.unusable)
            found = _collected(answers, line.classes, lambda done: step("answering", done, None))
        tell_left_out(shown)
        if not found.ids:
            say(f"[bold red]error:[/] nothing at {escape(pictures)} could be answered")
            raise typer.Exit(FAILED)
        found = found if pairs is None else pairs(found)
        if setting is not None:
            say(f"smoothing: [bold]{escape(setting.text)}[/]. {escape(Timeline.of(found.ids).gaps_text())}")
            found = smoothed(found, setting)
        if annotate is not None:
            count = source.annotate(annotate, marks_of(found, shown, top), shown)
            say(f"drew [bold]{escape(annotate)}[/]: {count:,} pictures")
    _answer(found, output, as_json, overwrite, shown)


def _collected(answers: Any, classes: tuple[str, ...], tell: Callable[[int], None]) -> Predictions:
    import numpy as np

    from ...fusion.keeping.answers import Predictions

    ids: list[str] = []
    parts = [np.empty((0, len(classes)))]
    for names, proba in answers:
        ids += names
        parts.append(proba)
        tell(len(ids))
    return Predictions(ids=tuple(ids), classes=classes, proba=np.concatenate(parts))


def _answer(
    found: Predictions, output: Path | None, as_json: bool, overwrite: bool, shown: Shown | None = None
) -> None:
    """Print or write the predictions."""
    from ...fusion.keeping.answers import predictions_csv, write_predictions

    if output is not None:
        write_predictions(output, found, overwrite=overwrite)
        say(f"wrote [bold]{escape(output)}[/]: {len(found.ids):,} samples")
    if as_json:
        out_json(_json(found, shown))
    elif output is None and _is_read_by_people():
        labels = [] if found.labels is None or not any(found.labels) else ["label"]
        rows = [
            [name, *([label or ""] if labels else []), found.classes[y], *(f"{100 * share:.2f}" for share in shares)]
            for name, label, y, shares in zip(
                found.ids, found.labels or found.ids, found.y_pred.tolist(), found.proba.tolist(), strict=True
            )
        ]
        header = ["sample", *labels, "answer", *(f"{name} (%)" for name in found.classes)]
        out_table(header, rows, left=2 + len(labels), notes=("A pipe, or --output FILE, gets all digits as CSV.",))
    elif output is None:
        out_data(predictions_csv(found).rstrip("\n"))


def _is_read_by_people() -> bool:
    return bool(console().is_terminal)


@dataclass(frozen=True)
class _Pairs:
    """Makes compounds of basic expressions."""

    names: tuple[str, ...]
    rule: Any

    def __call__(self, found: Predictions, labels: tuple[str | None, ...] | None = None) -> Predictions:
        """Return the compounds' probabilities; labels are told where they are compounds themselves."""
        from ...fusion import compound_proba
        from ...fusion.keeping.answers import Predictions

        proba = compound_proba(found.proba, found.classes, self.names, rule=self.rule)
        known = labels is not None and {one for one in labels if one is not None} <= set(self.names)
        return Predictions(ids=found.ids, classes=self.names, proba=proba, labels=labels if known else None)


def _pairs(head: Path, compounds: str, rule: str) -> _Pairs:
    """What makes compounds of the head's answers; refuses here, before the work, what it cannot answer."""
    import numpy as np

    from ...featstore import class_set
    from ...fusion import compound_proba, read_head_info

    info = read_head_info(head_folder(head))
    basic, names = tuple(str(name) for name in info.class_set or info.classes), class_set(compounds).labels
    compound_proba(np.ones((1, len(basic))), basic, names, rule=rule)  # type: ignore[arg-type]
    return _Pairs(names, rule)


def _stored_predictions(
    head: Path, asked: Path | None, data: str | None, split: str | None, missing: opt.Missing, pairs: _Pairs | None
) -> Predictions:
    """Probabilities of samples that have rows in the store."""
    from ...fusion.keeping.answers import Predictions

    info, fitted, view, _ = loaded_head(
        head, asked, data, split, missing, default_split=False, own_classes=pairs is not None
    )
    labels = tuple(view.classes[y] if y >= 0 else None for y in view.y)
    if pairs is None:
        return Predictions(ids=view.ids, classes=view.classes, proba=probabilities(fitted, view, info), labels=labels)
    basic = tuple(str(name) for name in info.class_set or info.classes)
    answers = Predictions(ids=view.ids, classes=basic, proba=probabilities(fitted, view, info, basic))
    return pairs(answers, labels)


def _prompted_line(
    prompts: Path | None, features: Sequence[str] | None, compounds: str | None, rule: str | None, *made: Any
) -> Answering:
    """What answers about pictures by prompts."""
    from ...featstore import class_set
    from ...fusion import read_text_vectors

    assert prompts is not None
    names = None if compounds is None else class_set(compounds).labels
    return prompted_answering(read_text_vectors(prompts), features, names, rule, *made)


def _prompted_predictions(
    prompts: Path | None,
    features: Sequence[str] | None,
    store: Path,
    data: str | None,
    split: str | None,
    missing: opt.Missing,
    compounds: str | None,
    rule: str | None,
) -> Predictions:
    """Probabilities of samples that have rows in the store, by text vectors of the encoder that made the rows."""
    from ...featstore import Store, class_set
    from ...fusion import prompted, read_text_vectors
    from ...fusion.keeping.answers import Predictions

    assert prompts is not None
    vectors = read_text_vectors(prompts)
    opened = Store(store)
    dataset = opened.dataset(data)
    specs = {feature.label: feature.spec for feature in opened.usable_features(dataset)}
    block, _ = encoder_rows(vectors, named_features(specs, features))
    view = opened.view([block], dataset=dataset, split=split, missing=missing, mapped=True)
    names = view.classes if compounds is None else class_set(compounds).labels
    head = prompted(vectors, names, rule=rule)  # type: ignore[arg-type]
    said = f"{len(vectors.classes)} classes, held against {len(view):,} rows of {escape(block)}"
    say(f"prompts for {said} of [bold]{escape(dataset)}[/]")
    labels = tuple(view.classes[y] if y >= 0 else None for y in view.y)
    known = {one for one in labels if one is not None} <= set(names)
    (rows,) = view.blocks.values()
    return Predictions(ids=view.ids, classes=names, proba=head.predict_proba(rows), labels=labels if known else None)


def _json(found: Predictions, shown: Shown | None) -> dict[str, Any]:
    rows = prediction_rows(found)
    if shown is None:
        return {"classes": found.classes, "predictions": rows}
    for row in rows:
        row["box"] = shown.boxes.get(row["sample_id"])
    return {
        "classes": found.classes,
        "predictions": rows,
        "without_face": shown.without_face,
        "masked": shown.masked,
        "unusable": shown.unusable,
    }
