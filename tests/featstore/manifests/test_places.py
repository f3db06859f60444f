"""Paths as people and other systems write them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from cer_fusion.featstore import Manifest
from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.adapters import build
from cer_fusion.featstore.manifests.places import Places, plain_path
from cer_fusion.featstore.pictures.pictures import PictureSource
from tests.featstore.manifests.adapters.layouts import fill, zipped

NFC, NFD = (unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD"))


def listed(root: Path, *paths: str, **options: str) -> list[str]:
    """Paths of a table's manifest, all of whose pictures are there."""
    text = "label,path\n" + "".join('x,"{}"\n'.format(path.replace('"', '""')) for path in paths)
    (root / "list.csv").write_text(text, encoding="utf-8")
    adapted = build("csv", root / "list.csv", **options)
    assert adapted.missing == ()
    return [sample.path for sample in adapted.manifest.samples]


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("a/b.jpg", "a/b.jpg"), ("a\\b\\c.jpg", "a/b/c.jpg"), ("./a.jpg", "a.jpg"), (".\\a.jpg", "a.jpg"),
        ("a//b/./c.jpg", "a/b/c.jpg"), ('"a b.jpg"', "a b.jpg"), ("'a.jpg'", "a.jpg"), ("  a.jpg\t", "a.jpg"),
        ("file:///x/a%20b.jpg", "/x/a b.jpg"), ("file:///C:/x/a.jpg", "C:/x/a.jpg"),
        ("file://localhost/x/a.jpg", "/x/a.jpg"), ("C:\\x\\a.jpg", "C:/x/a.jpg"), ("../a.jpg", "../a.jpg"),
    ],
)  # fmt: skip
def test_a_plain_path_has_slashes_and_nothing_that_means_nothing(written, plain):
    assert plain_path(written) == plain


def test_paths_of_a_table_are_read_as_they_are_meant(tmp_path, monkeypatch):
    root = fill(
        tmp_path / "faces", {"a/b/1.jpg": b"1", "a/2.jpg": b"2", "A/3.JPG": b"3", f"a/{NFD}": b"4", "a/5 .jpg": b"5"}
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    written = [
        "a\\b\\1.jpg", "./a/2.jpg", "A/3.jpg", f"a/{NFC}", "a//5 .jpg", f"file://{root}/a/b/1.jpg", f"{root}/a/2.jpg",
        "~/faces/a/2.jpg", "'a/2.jpg'",
    ]  # fmt: skip
    meant = ["a/b/1.jpg", "a/2.jpg", "A/3.JPG", f"a/{NFD}", "a/5 .jpg", "a/b/1.jpg", "a/2.jpg", "a/2.jpg", "a/2.jpg"]
    for one, other in zip(written, meant, strict=True):
        assert listed(root, one) == [other]
    adapted = build("csv", fill(root, {"n.csv": "path,label\na\\b\\1.jpg,x\na/2.jpg,y\n"}) / "n.csv")
    assert adapted.notes == (r"1 paths are read otherwise than they are written: 'a\\b\\1.jpg' as 'a/b/1.jpg'",)


@pytest.mark.parametrize("start", ["C:\\data\\old", "D:/old", "/home/somebody/old", "\\\\server\\share\\old"])
def test_absolute_paths_of_another_machine_are_taken_below_the_root(tmp_path, start):
    root = fill(tmp_path / "faces", {"train/1.jpg": b"1", "test/1.jpg": b"2"})
    assert listed(root, f"{start}/train/1.jpg", f"{start}\\test\\1.jpg") == ["train/1.jpg", "test/1.jpg"]
    assert listed(root / "train", f"{start}/train/1.jpg") == ["1.jpg"]


def test_two_folders_of_another_machine_are_never_taken_for_one(tmp_path):
    root = fill(tmp_path / "faces", {"1.jpg": b"1", "list.csv": "path\nC:\\train\\1.jpg\nC:\\test\\1.jpg\n"})
    with pytest.raises(ManifestError, match=r"list.csv:2: .* is a path of another machine; no end of it lies below"):
        build("csv", root / "list.csv")


def test_a_path_that_is_none_here_is_refused_with_its_line(tmp_path):
    root = fill(tmp_path / "f", {"a.jpg": b"1", "b/c.jpg": b"2", "b\\c.jpg": b"3"})
    for path, why in (
        ("https://example.org/a.jpg", "is an address in the web"),
        ("b\\c.jpg", "may mean two files"),
        ("E:\\elsewhere\\x.jpg", "is a path of another machine"),
    ):
        (root / "list.csv").write_text(f"path\na.jpg\n{path}\n")
        with pytest.raises(ManifestError, match=rf"list.csv:3: .*{why}"):
            build("csv", root / "list.csv")


def test_a_path_that_lies_nowhere_stays_and_is_missing(tmp_path):
    root = fill(
        tmp_path / "f", {"a.jpg": b"1", "list.csv": f"path\na.jpg\nb\\c.jpg\n/nowhere/d.jpg\n{'x' * 300}.jpg\n"}
    )
    adapted = build("csv", root / "list.csv")
    assert [s.path for s in adapted.manifest.samples] == ["a.jpg", "b/c.jpg", "/nowhere/d.jpg", "x" * 300 + ".jpg"]
    assert adapted.missing == adapted.manifest.ids[1:]


def test_paths_into_an_archive_are_looked_for_and_read_as_they_are_meant(tmp_path):
    path = zipped(fill(tmp_path / "z", {"a/1.jpg": b"1"}))
    assert listed(tmp_path, "A\\1.JPG", pictures=str(path)) == ["a/1.jpg"]
    assert listed(tmp_path, "z.zip\\a\\1.jpg") == ["z.zip/a/1.jpg"]
    (tmp_path / "list.csv").write_text("path\nz.zip/a/2.jpg\n")
    assert build("csv", tmp_path / "list.csv").missing == ("z.zip/a/2.jpg",)


def test_a_manifest_of_ones_own_is_read_as_it_is_meant_too(tmp_path):
    fill(tmp_path, {"a/1.jpg": b"1", f"a/{NFD}": b"2", "B.JPG": b"3"})
    (tmp_path / "m.csv").write_text(f"sample_id,path\n1,a\\1.jpg\n2,a/{NFC}\n3,./b.jpg\n", encoding="utf-8")
    manifest = Manifest.read(tmp_path / "m.csv")
    source = PictureSource(manifest.root)
    assert [source.read(sample.path) for sample in manifest.samples] == [b"1", b"2", b"3"]
    with pytest.raises(FileNotFoundError):
        source.read("a/3.jpg")


def test_of_several_files_that_may_be_meant_none_is_taken(tmp_path):
    places = Places(fill(tmp_path, {"a.jpg": b"1", "A.jpg": b"2"}))
    assert places.find("a.jpg") == "a.jpg"
    assert places.find("a.JPG") is None
