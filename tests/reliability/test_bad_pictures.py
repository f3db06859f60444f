"""P9: bad pictures never stop a run and are never embedded silently."""

from __future__ import annotations

import csv
import io
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cer_fusion.backbones.picture import Transform
from cer_fusion.demofaces import draw_face, sample_style, sample_units
from cer_fusion.demofaces.action_units import COMPOUNDS
from cer_fusion.featstore import Manifest, Sample, Store, extract
from cer_fusion.featstore.errors import TooManyErrors
from tests.backbones.test_picture import png
from tests.featstore.conftest import CLASSES, ToyEmbedder
from tests.reliability.isolation import begin_case, run_apart

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")


class PixelEmbedder(ToyEmbedder):
    """Decodes as every backbone does; a row is the means of seven bands of the picture."""

    transform = Transform(size_px=28, mean=(0.5, 0.5, 0.5))

    def decode(self, data: bytes) -> np.ndarray:
        return self.transform.decode(data)

    def embed(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        rows = pictures.reshape(len(pictures), 7, -1).mean(axis=2, dtype=np.float64).astype(np.float32)
        return {"left": rows[:, :4], "right": rows[:, 4:]}


def face(number: int) -> Image.Image:
    """A schematic face, another one for each number."""
    rng = np.random.default_rng(number)
    return draw_face(sample_units(COMPOUNDS[number % len(COMPOUNDS)], rng), style=sample_style(rng), size_px=48)


def encoded(image: Image.Image, form: str) -> bytes:
    """The bytes of a picture file."""
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def cut(image: Image.Image, draw: random.Random, form: str) -> bytes:
    """A download that broke off, somewhere between the first bytes and two thirds."""
    data = encoded(image, form)
    return data[: draw.randrange(8, len(data) * 2 // 3)]


def struck(image: Image.Image, draw: random.Random) -> bytes:
    """A PNG of which some bytes of the pixels are others: its checksums tell."""
    data = bytearray(encoded(image, "PNG"))
    data[draw.randrange(len(data) // 3, len(data) * 2 // 3)] ^= draw.randrange(1, 256)
    return bytes(data)


def wide_range(image: Image.Image, draw: random.Random) -> bytes:
    """Floating-point pixels, whose range nobody knows."""
    return encoded(image.convert("F").point(lambda v: v * draw.random() * 1e3), "TIFF")


BAD: dict[str, Callable[[Image.Image, random.Random], bytes]] = {
    **{f"{form} cut short": (lambda image, draw, form=form: cut(image, draw, form)) for form in FORMATS},
    "PNG with other bytes": struck,
    "empty": lambda image, draw: b"",
    "zeros": lambda image, draw: bytes(draw.randrange(1, 5000)),
    "noise": lambda image, draw: b"\x00" + draw.randbytes(500),
    "text": lambda image, draw: f"see picture {draw.random()}\n".encode(),
    "web page": lambda image, draw: f"<!DOCTYPE html><title>404 {draw.random()}</title>".encode(),
    "wrong magic": lambda image, draw: draw.randbytes(4).replace(b"\x89", b"x") + encoded(image, "PNG")[4:],
    "magic alone": lambda image, draw: b"\x89PNG\r\n\x1a\n" + draw.randbytes(40),
    "unknown format": lambda image, draw: encoded(image, "PPM"),
    "icon": lambda image, draw: encoded(image, "ICO"),
    "bomb": lambda image, draw: png(draw.randrange(9_500, 65_000), 9_500, bytes(1000)),
    "hair": lambda image, draw: png(1, draw.randrange(100, 5_000), bytes(20_000)),
    "short of pixels": lambda image, draw: png(40, 40 + draw.randrange(90), bytes(50)),
    "unknown range": wide_range,
    "pointer": lambda image, draw: f"version https://git-lfs.github.com/spec/v1\nsize {draw.random()}\n".encode(),
}


@pytest.fixture
def mixed(tmp_path: Path, scaled: Callable[[int, int], int]) -> tuple[Manifest, set[str]]:
    """As many bad pictures as good ones, dealt at random, and the ids of the bad ones; some are not even there."""
    count, draw, root = scaled(1_000, 50), random.Random(0), tmp_path / "pictures"
    root.mkdir()
    kinds = [*BAD, "missing", "folder"]
    bad = {number: kinds[i % len(kinds)] for i, number in enumerate(draw.sample(range(2 * count), count))}
    for number in range(2 * count):
        kind, path = bad.get(number), root / f"{number}.png"
        if kind == "folder":
            path.mkdir()
        elif kind != "missing":
            image = face(number)
            path.write_bytes(BAD[kind](image, draw) if kind else encoded(image, draw.choice(FORMATS)))
    samples = [Sample(sample_id=f"s{i:04d}", path=f"{i}.png", split="train") for i in range(2 * count)]
    return Manifest(samples=tuple(samples), classes=CLASSES, root=root), {f"s{i:04d}" for i in bad}


def test_each_bad_picture_is_listed_with_its_reason_and_the_good_rows_are_those_of_a_clean_run(mixed, tmp_path, figure):
    manifest, bad = mixed
    store, clean = Store.create(tmp_path / "store"), Store.create(tmp_path / "clean")
    report = extract(PixelEmbedder(), manifest, store, dataset="d", max_errors=1.0, shard_rows=64)
    assert set(report.quarantined) == bad
    assert all(len(reason) > 5 for reason in report.quarantined.values())
    with (store.feature("toy").folder / "quarantine.csv").open(newline="", encoding="utf-8") as file:
        assert {row["sample_id"]: row["reason"] for row in csv.DictReader(file)} == report.quarantined
    good = manifest.keep(i not in bad for i in manifest.ids)
    assert extract(PixelEmbedder(), good, clean, dataset="d", batch_size=5).quarantined == {}
    found, expected = store.view(["toy"], missing="drop"), clean.view(["toy"])
    assert found.ids == expected.ids
    np.testing.assert_array_equal(found.join(), expected.join())
    again = extract(PixelEmbedder(), manifest, store, dataset="d", max_errors=1.0)
    assert (again.embedded, again.quarantined) == (0, report.quarantined)
    kinds = len(BAD) + 2
    figure(
        "P9", f"{len(bad):,} malformed of {kinds} kinds among {len(good):,} good: each listed with reason, 0 embedded"
    )
    figure("P9", f"{len(good):,} good rows equal a clean run's to the bit")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_named_pipe_in_the_place_of_a_picture_does_not_stop_a_run(tmp_path):
    """Opening one would wait for ever."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "good.png").write_bytes(encoded(face(0), "PNG"))
    reasons = run_apart("tests.reliability.test_bad_pictures:embed_both", str(tmp_path))
    assert reasons == {"pipe.png": "is no file"}


def embed_both(path: str) -> dict[str, str]:
    """Embed a good picture and a named pipe; the reasons in the quarantine."""
    begin_case("a named pipe among the pictures")
    samples = tuple(Sample(sample_id=name, path=name) for name in ("good.png", "pipe.png"))
    manifest = Manifest(samples=samples, classes=CLASSES, root=Path(path))
    return extract(PixelEmbedder(), manifest, Store.create(Path(path) / "store"), dataset="d").quarantined


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.49])
def test_a_run_stops_once_more_pictures_are_bad_than_allowed(mixed, tmp_path, share):
    manifest, bad = mixed
    if len(bad) <= max(10, share * len(manifest)):
        pytest.fail("the pictures do not suffice for this test")
    store = Store.create(tmp_path / "store")
    with pytest.raises(TooManyErrors, match=r"pictures cannot be used, more than the \d+ allowed"):
        extract(PixelEmbedder(), manifest, store, dataset="d", max_errors=share, shard_rows=16)
    if store.datasets():  # what was done before is kept and right
        for sample_id in store.view(["toy"], missing="drop").ids:
            assert sample_id not in bad


def test_the_command_ends_with_a_status_of_its_own(mixed, tmp_path, monkeypatch, figure):
    """One that scripts can tell from a failure (1) and from wrong usage (2)."""
    from cer_fusion.commands import feat

    manifest, _ = mixed
    manifest.keep(i < 40 for i in range(len(manifest))).write(tmp_path / "faces.csv")
    monkeypatch.chdir(tmp_path)
    options = {"backbone": "timm:test_vit", "weights": "random", "data": "faces.csv", "device": "cpu", "as": "tiny"}
    command = ["extract", *(f"--{name}={value}" for name, value in options.items())]
    stopped = CliRunner().invoke(feat.app, [*command, "--max-errors", "0"])
    assert stopped.exit_code == 3, stopped.output
    assert "more than the 0 allowed" in stopped.stderr
    assert "--max-errors" in stopped.stderr
    done = CliRunner().invoke(feat.app, [*command, "--max-errors", "1"])
    assert done.exit_code == 0, done.output
    assert "pictures in quarantine" in done.stderr
    figure("P9", "--max-errors stops with exit status 3")
