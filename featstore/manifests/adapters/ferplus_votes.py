"""What ten annotators' votes say: the columns of FER+, and the labels that are made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cer_fusion.featstore.errors import ManifestError

VOTES = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF",
)  # fmt: skip
"""Vote columns in the file's order; `NF` is "not a face"."""
_BASIC = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
_PAIRS = {
    ("fear", "surprise"): "Fearfully Surprised",
    ("happiness", "surprise"): "Happily Surprised",
    ("sadness", "surprise"): "Sadly Surprised",
    ("disgust", "surprise"): "Disgustedly Surprised",
    ("anger", "surprise"): "Angrily Surprised",
    ("sadness", "fear"): "Sadly Fearful",
    ("sadness", "anger"): "Sadly Angry",
}


def compound7(votes: Mapping[str, int]) -> str | None:
    """The ABAW pair that the votes agree on, if there is one.

    Both emotions have at least 2 votes and strictly more than each of the other four basic emotions.
    """
    for pair, label in _PAIRS.items():
        weakest = min(votes[emotion] for emotion in pair)
        if weakest >= 2 and all(weakest > votes[other] for other in _BASIC if other not in pair):
            return label
    return None


def basic8(votes: Mapping[str, int]) -> str | None:
    """The single emotion with at least 6 of the 10 votes, if there is one."""
    best = max(VOTES[:8], key=lambda emotion: votes[emotion])
    return best.capitalize() if votes[best] >= 6 else None


def parse_votes(cells: Sequence[str], where: str) -> dict[str, int]:
    """Ten cells of a CSV file as votes by column.

    Raises
    ------
    ManifestError
        With the place.
    """
    try:
        votes = [float(cell.replace(",", ".")) for cell in cells]  # 4,0 where the comma is the decimal mark
    except ValueError:
        raise ManifestError(f"{where}: votes must be numbers, however: {list(cells)}") from None
    if not all(vote.is_integer() and vote >= 0 for vote in votes):
        raise ManifestError(f"{where}: votes must be whole numbers from 0 up, however: {list(cells)}")
    return dict(zip(VOTES, map(int, votes), strict=True))
