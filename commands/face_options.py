"""Options that say how faces are found and cut out of frames and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cer_fusion.frames import MTCNN, Alignment

SizePx = Annotated[int, typer.Option("--size", help="Side of a face's crop in pixels.")]
Margin = Annotated[float, typer.Option(help="Added on each side of the tight crop, as a share of it.")]
MinFace = Annotated[int, typer.Option("--min-face", help="Shortest side of a face in pixels; smaller is slower.")]
MinScore = Annotated[float, typer.Option("--min-score", help="How sure the detector must be, 0 to 1.")]
DEFAULT_SIZE, DEFAULT_MARGIN, DEFAULT_MIN_FACE, DEFAULT_MIN_SCORE = 224, 0.0, 40, 0.7


def alignment_of(size: int, margin: float) -> Alignment:
    """What a crop is."""
    from cer_fusion.frames import Alignment

    return Alignment(size_px=size, margin=margin)


def detector_of(min_face: int, min_score: float) -> MTCNN:
    """The detector; its last network decides by `min_score`."""
    from cer_fusion.frames import MTCNN, MTCNNSettings

    first, second, _ = MTCNNSettings().thresholds
    return MTCNN(MTCNNSettings(min_face_px=min_face, thresholds=(first, second, min_score)))
