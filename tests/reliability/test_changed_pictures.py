"""P12: a source picture that changed, was replaced, or is gone is found, and only such a one."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from cer_fusion.featstore import Store, extract, verify
from tests.featstore.conftest import ToyEmbedder
from tests.reliability.samples import listed

ROUNDS = 12


def test_one_changed_byte_in_all_files_is_found_and_only_that_file_is_embedded_again(tmp_path, scaled, figure):
    n = scaled(1_000, 60)
    store, manifest = Store.create(tmp_path / "store"), listed(tmp_path / "pictures", n)
    extract(ToyEmbedder(), manifest, store, dataset="d")
    assert verify(store, images=True).problems == ()
    draw = random.Random(0)
    for _ in range(ROUNDS):
        number = draw.randrange(n)
        data = flipped(manifest.root / f"{number}.png", draw)
        problems = verify(store, images=True).problems
        assert [(p.where, p.what.split(";")[0]) for p in problems] == [
            (f"{number}.png", f"s{number:04d}: its bytes changed since {store.feature('toy').label} was made")
        ]
        embedder = ToyEmbedder()
        report = extract(embedder, manifest, store, dataset="d")
        assert (report.embedded, report.already) == (1, n - 1)
        assert embedder.embedded == [ToyEmbedder().decode(data).tobytes()]
        assert verify(store, images=True).problems == ()
    figure(
        "P12",
        f"1 changed byte in {n:,} files, {ROUNDS} times: found each time, nothing else named, 1 row embedded again",
    )


def test_replaced_and_missing_pictures_are_found_and_told_apart(tmp_path, figure):
    n = 60
    store, manifest = Store.create(tmp_path / "store"), listed(tmp_path / "pictures", n)
    extract(ToyEmbedder(), manifest, store, dataset="d")
    root = manifest.root
    shutil.copy(root / "4.png", root / "3.png")  # another sample's picture in its place
    (root / "7.png").write_bytes(b"quite another picture")
    (root / "8.png").unlink()
    exchanged = (root / "10.png").read_bytes(), (root / "11.png").read_bytes()
    (root / "10.png").write_bytes(exchanged[1])
    (root / "11.png").write_bytes(exchanged[0])
    (root / "12.png").unlink()
    (root / "12.png").mkdir()
    (root / "13.png").write_bytes(b"")
    found = {p.where: p.what for p in verify(store, images=True).problems}
    assert set(found) == {f"{i}.png" for i in (3, 7, 8, 10, 11, 12, 13)}
    assert "missing" in found["8.png"]
    assert "folder" in found["12.png"]
    assert all("its bytes changed" in found[f"{i}.png"] for i in (3, 7, 10, 11, 13))
    report = extract(ToyEmbedder(), manifest, store, dataset="d")
    assert report.embedded + report.shared == 5
    again = {p.where for p in verify(store, images=True).problems}
    assert again == {"8.png", "12.png"}, "rows of pictures that are gone stay, and stay named"
    figure("P12", "replaced, exchanged, emptied and missing pictures: 7 of 7 found, each named for what it is")


def flipped(path: Path, draw: random.Random) -> bytes:
    """Change one bit of a file; its new bytes."""
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    return bytes(data)
