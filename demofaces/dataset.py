"""Dataset: drawn faces on disk in the layout of RAF-DB's compound part, and a sheet of them to look at."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .action_units import COMPOUNDS, Compound, compound, prototype, sample_units
from .errors import DatasetError, StyleError
from .face import draw_face
from .style import sample_style

_log = logging.getLogger(__name__)

Split = Literal["train", "test"]
_SPLIT_NUMBERS: dict[Split, int] = {"train": 0, "test": 1}
SIZE_PX = 100
"""Side of a picture; RAF-DB's aligned faces have it too."""
JPEG_QUALITY = 92

# Unequal like the real set (its 397 test faces: 135, 22, 33, 18, 116, 38, 35), with enough of the rare ones to learn.
TRAIN_COUNTS: Mapping[str, int] = MappingProxyType(
    dict(zip((c.name for c in COMPOUNDS), (56, 17, 20, 14, 46, 22, 21), strict=True))
)
"""Default training pictures by compound name: 196."""
TEST_COUNTS: Mapping[str, int] = MappingProxyType(
    dict(zip((c.name for c in COMPOUNDS), (28, 8, 10, 7, 23, 11, 11), strict=True))
)
"""Default test pictures by compound name: 98."""


@dataclass(frozen=True, kw_only=True)
class DrawnDataset:
    """What `write_dataset` wrote and where."""

    root: Path
    """The folder that was asked for; the compound part lies in ``compound`` under it."""
    label_file: Path
    """``list_patition_label.txt`` (the official spelling): one ``train_0001.jpg 5`` a line."""
    pictures: Path
    """The folder of ``train_0001_aligned.jpg`` and so on."""
    train: int
    """Number of training pictures."""
    test: int
    """Number of test pictures."""


def write_dataset(
    root: str | os.PathLike[str],
    *,
    per_class_train: Mapping[str, int] = TRAIN_COUNTS,
    per_class_test: Mapping[str, int] = TEST_COUNTS,
    seed: int = 0,
    on_picture: Callable[[int, int], None] | None = None,
) -> DrawnDataset:
    """Draw a labelled set of compound-expression faces.

    Every picture depends only on (seed, split, its number in the split) and its class. Running again over a finished or
    an interrupted run completes it and changes nothing; the list of labels is written last.

    Parameters
    ----------
    root : path
        Folder to write under; made if missing.
    per_class_train, per_class_test : mapping of str to int
        Pictures per compound name; names that are left out get none.
    seed : int
        0 or more. Same seed and counts, same bytes (for one version of Pillow).
    on_picture : callable, optional
        Called as ``on_picture(done, total)`` after each picture.

    Raises
    ------
    DatasetError
        If a split would be empty, a count or the seed is negative, or `root` already holds something else.
    UnknownCompoundError
        If a count is given for a compound that does not exist.
    """
    if seed < 0:
        raise DatasetError(f"a seed is 0 or more, however: seed={seed}")
    counts: dict[Split, Mapping[str, int]] = {"train": per_class_train, "test": per_class_test}
    labels = {split: _labels(split, counts[split], seed) for split in counts}
    base = Path(root) / "compound"
    result = DrawnDataset(
        root=Path(root),
        label_file=base / "EmoLabel" / "list_patition_label.txt",
        pictures=base / "Image" / "aligned",
        train=len(labels["train"]),
        test=len(labels["test"]),
    )
    plan = [
        (split, index, expression) for split, rows in labels.items() for index, expression in enumerate(rows, start=1)
    ]
    names = [f"{split}_{index:04d}" for split, index, _ in plan]
    listing = "".join(f"{name}.jpg {row[2].rafdb_id}\n" for name, row in zip(names, plan, strict=True)).encode()
    _refuse_foreign(result, {f"{name}_aligned.jpg" for name in names}, listing)

    for done, (name, (split, index, expression)) in enumerate(zip(names, plan, strict=True), start=1):
        picture = draw_sample(expression, seed=seed, split=split, index=index)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
        _write(result.pictures / f"{name}_aligned.jpg", buffer.getvalue())
        if on_picture is not None:
            on_picture(done, len(plan))
    _write(result.label_file, listing)
    _log.info("drew %d training and %d test faces in %s", result.train, result.test, base)
    return result


def draw_sample(expression: Compound, *, seed: int, split: Split, index: int, size_px: int = SIZE_PX) -> Image.Image:
    """Draw the picture that number `index` (from 1) of a split gets if it shows this compound."""
    rng = np.random.default_rng([seed, _SPLIT_NUMBERS[split], index])
    style = sample_style(rng)
    return draw_face(sample_units(expression, rng), style=style, size_px=size_px)


def _labels(split: Split, counts: Mapping[str, int], seed: int) -> list[Compound]:
    """Classes of a split's pictures in their order on disk: mixed, as in the real set."""
    negative = {name: count for name, count in counts.items() if count < 0}
    if negative:
        raise DatasetError(f"counts of pictures are 0 or more, however: {negative} in {split}")
    rows = [expression for name, count in counts.items() for expression in [compound(name)] * count]
    if not rows:
        raise DatasetError(f"the {split} split would be empty: give at least one compound a count above 0")
    rows.sort(key=lambda expression: expression.rafdb_id)
    order = np.random.default_rng([seed, _SPLIT_NUMBERS[split]]).permutation(len(rows))
    return [rows[i] for i in order]


def _refuse_foreign(dataset: DrawnDataset, expected: set[str], listing: bytes) -> None:
    """Stop before the first write if the folder holds other pictures or other labels than this run makes."""
    advice = "  choose another folder, or remove that one first"
    for folder in (dataset.root, dataset.label_file.parent, dataset.pictures):
        if folder.exists() and not folder.is_dir():
            raise DatasetError(f"a folder is needed to write the dataset, but this is a file: {folder}\n{advice}")
    if dataset.pictures.is_dir():
        found = {path.name for path in dataset.pictures.iterdir() if path.suffix != ".part"}
        strangers = sorted(found - expected)
        if strangers:
            raise DatasetError(
                f"{len(strangers)} files lie there already that this run does not draw\n"
                f"  first: {', '.join(strangers[:3])}\n  in: {dataset.pictures}\n{advice}"
            )
    if dataset.label_file.exists() and dataset.label_file.read_bytes() != listing:
        raise DatasetError(
            f"another list of labels is there already: {dataset.label_file}\n"
            f"  it comes from another seed or other counts, or is the real RAF-DB\n{advice}"
        )


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; an equal one is left alone, a different one refused."""
    if path.exists():
        if path.read_bytes() == data:
            return
        raise DatasetError(
            f"a different file is there already: {path}\n"
            "  it was drawn with another seed or another version of Pillow; remove the folder and run again"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)


_PAPER = (250, 249, 246)
_TEXT = (40, 42, 54)
_FAINT = (104, 106, 118)


def contact_sheet(path: str | os.PathLike[str], *, faces_per_row: int = 7, size_px: int = 128, seed: int = 0) -> Path:
    """Draw a sheet of faces and save it (PNG, or what the path's suffix says).

    A row is a compound: its name, the action units of its prototype (in brackets those that many people add), the
    prototype itself, and then random people whose expressions vary as they do in the dataset.

    Parameters
    ----------
    path : path
        File to write; its folder is made if missing, an older sheet is replaced.
    faces_per_row : int
        At least 1.
    size_px : int
        Side of one face.
    seed : int
        Same seed, same sheet.

    Returns
    -------
    Path
        Where the sheet lies.
    """
    if faces_per_row < 1:
        raise StyleError(f"a contact sheet needs at least one face a row, however: faces_per_row={faces_per_row}")
    gap = max(2, size_px // 20)
    margin = round(1.2 * size_px)
    width = margin + faces_per_row * (size_px + gap) + gap
    sheet = Image.new("RGB", (width, len(COMPOUNDS) * (size_px + gap) + gap), _PAPER)
    draw = ImageDraw.Draw(sheet)
    big, small = ImageFont.load_default(size_px * 0.135), ImageFont.load_default(size_px * 0.095)
    for row, expression in enumerate(COMPOUNDS):
        top = gap + row * (size_px + gap)
        draw.text((2 * gap, top + size_px * 0.22), expression.name.replace(" ", "\n"), _TEXT, font=big)
        draw.text((2 * gap, top + size_px * 0.62), _units_line(expression), _FAINT, font=small)
        for column in range(faces_per_row):
            if column == 0:
                face = draw_face(prototype(expression), size_px=size_px)
            else:
                number = row * (faces_per_row - 1) + column
                face = draw_sample(expression, seed=seed, split="train", index=number, size_px=size_px)
            sheet.paste(face, (margin + gap + column * (size_px + gap), top))
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target)
    return target


def _units_line(expression: Compound) -> str:
    often = f"\n({', '.join(map(str, expression.often))})" if expression.often else ""
    return "AU " + " + ".join(map(str, expression.always)) + often
