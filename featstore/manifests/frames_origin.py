"""What made the pictures in a folder of frames: the indexes that `cer-feat frames` leaves beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cer_fusion.featstore.errors import FormatError
from cer_fusion.kit.documents import read_sealed

ENDING = ".frames.json"
FORMAT, FORMAT_VERSION = "cer-fusion frames index", 1


def frames_origin(folder: Path) -> dict[str, Any]:
    """Settings, weights and versions that a folder's frames were made with, and of which videos.

    Returns
    -------
    dict
        ``{"frames": [{"identity": …, "versions": …, "videos": {name: {"file", "bytes", "sha256"}}}, …]}``, one entry a
        way of making them; empty where there is no index (frames made elsewhere, an archive).

    Raises
    ------
    FormatError
        If an index is damaged, or of a newer release.
    """
    ways: list[dict[str, Any]] = []
    for path in sorted(folder.rglob(f"*{ENDING}")) if folder.is_dir() else []:
        index = read_sealed(path, kind=FORMAT, version=FORMAT_VERSION, error=FormatError)
        try:
            way = {"identity": index["identity"], "versions": index["versions"]}
            video, source = index["video"], index["source"]
        except KeyError as error:
            raise FormatError(f"{path} lacks a field of a {FORMAT}: {error}") from None
        same = next((one for one in ways if {**one, "videos": None} == {**way, "videos": None}), None)
        if same is None:
            same = {**way, "videos": {}}
            ways.append(same)
        same["videos"][video] = source
    return {"frames": ways} if ways else {}
