"""Faces at hand on larger canvases, with their boxes known: FER+ beside the checkout where it is, else drawn ones."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Box = tuple[float, float, float, float]
FERPLUS = Path(__file__).resolve().parents[2] / "shared" / "data" / "ferplus.zip"
NOT_A_FACE = -1
"""Column of FER+'s label.csv with the votes for that."""


class Faces:
    """Square pictures of faces, drawn at random."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self._archive = zipfile.ZipFile(FERPLUS) if FERPLUS.exists() else None
        self.source = "FER+" if self._archive else "drawn faces"
        self._names: list[str] = []
        if self._archive is not None:
            inside = self._archive.namelist()
            folder = next(name for name in inside if name.endswith("FER2013Valid/label.csv")).rpartition("/")[0]
            lines = self._archive.read(f"{folder}/label.csv").decode().splitlines()
            good = {line.split(",")[0] for line in lines if line.split(",")[NOT_A_FACE].strip() == "0"}
            self._names = [name for name in inside if name.startswith(folder) and name.rpartition("/")[2] in good]

    def face(self) -> Image.Image:
        """Any face, RGB."""
        if self._archive is not None:
            name = self._names[self.rng.integers(len(self._names))]
            return Image.open(io.BytesIO(self._archive.read(name))).convert("RGB")
        from cer_fusion.demofaces import COMPOUNDS, draw_sample

        number = int(self.rng.integers(10_000))
        return draw_sample(list(COMPOUNDS)[number % len(COMPOUNDS)], seed=1, split="train", index=number, size_px=160)

    def ground(self, size: tuple[int, int]) -> Image.Image:
        """A canvas of soft colours, (width, height)."""
        few = self.rng.integers(60, 190, (12, 16, 3), dtype=np.uint8)
        return Image.fromarray(few).resize(size, Image.Resampling.BICUBIC)

    def canvas(
        self, count: int, *, side: tuple[int, int] = (60, 220), turn_deg: float = 0, size: tuple[int, int] = (640, 480)
    ) -> tuple[NDArray[np.uint8], list[Box]]:
        """A picture with faces side by side, of sides drawn from a range, turned; and the squares that they fill."""
        ground = self.ground(size)
        boxes: list[Box] = []
        for k in range(count):
            px = int(self.rng.integers(side[0], side[1] + 1))
            face = self.face().resize((px, px), Image.Resampling.BICUBIC)
            mask = Image.new("L", face.size, 255)
            if turn_deg:
                face = face.rotate(turn_deg, Image.Resampling.BICUBIC, expand=True)
                mask = mask.rotate(turn_deg, expand=True)
            x = int(self.rng.integers(0, max(1, size[0] // count - face.width))) + k * (size[0] // count)
            y = int(self.rng.integers(0, max(1, size[1] - face.height)))
            ground.paste(face, (x, y), mask)
            across, down = x + face.width / 2, y + face.height / 2
            boxes.append((across - px / 2, down - px / 2, across + px / 2, down + px / 2))
        return np.asarray(ground), boxes

    def video(
        self, frames: int, *, size: tuple[int, int], shot: int = 75, empty_every: int = 5
    ) -> Iterator[NDArray[np.uint8]]:
        """Frames of shots with one or two faces that drift; every fifth shot has none."""
        for start in range(0, frames, shot):
            ground = self.ground(size)
            number = start // shot
            count = 0 if number % empty_every == empty_every - 1 else 1 + number % 2
            px = min(size) // 2
            faces = [self.face().resize((px - 30 * k, px - 30 * k), Image.Resampling.BICUBIC) for k in range(count)]
            for i in range(min(shot, frames - start)):
                picture = ground.copy()
                for k, face in enumerate(faces):
                    picture.paste(face, (20 + k * size[0] // 2 + i // 2, size[1] // 4))
                yield np.asarray(picture)
