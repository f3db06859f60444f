"""Contact sheet: one labelled row of faces per compound expression."""

from __future__ import annotations

import os
from pathlib import Path

from cer_fusion.demofaces.action_units import COMPOUNDS, Compound, prototype
from cer_fusion.demofaces.dataset import draw_sample
from cer_fusion.demofaces.errors import StyleError
from cer_fusion.demofaces.face import draw_face
from PIL import Image, ImageDraw, ImageFont

_PAPER = (250, 249, 246)
_TEXT = (40, 42, 54)
_FAINT = (120, 122, 134)


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
