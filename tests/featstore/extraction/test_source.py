"""Rows of something else than pictures: a source says what the bytes are, what they follow from, and what is absent."""

from __future__ import annotations

import hashlib

import pytest

from cer_fusion.featstore import extract
from cer_fusion.featstore.errors import TooManyErrors
from cer_fusion.kit.errors import Masked
from tests.featstore.conftest import ToyEmbedder


class Told:
    """Gives `path` for bytes, but for what is masked or cannot be read; the digest follows from `version`, too."""

    def __init__(self, masked: set[str] = frozenset(), unread: set[str] = frozenset(), version: int = 1) -> None:
        self.masked, self.unread, self.version = masked, unread, version

    def digest(self, path: str) -> str:
        return hashlib.sha256(f"{path} {self.version}".encode()).hexdigest()

    def content(self, path: str) -> tuple[bytes, str, None]:
        if path in self.masked:
            raise Masked("nothing is heard")
        if path in self.unread:
            raise OSError("the disk")
        return path.encode(), self.digest(path), None

    def state(self, path: str) -> None:
        return None


def test_what_is_masked_is_counted_by_reason_stops_no_run_and_stays_settled(store, make_manifest):
    manifest, masked = make_manifest(40), {f"{i}.png" for i in range(0, 40, 2)}
    report = extract(ToyEmbedder(), manifest, store, dataset="d", source=Told(masked), max_errors=0)
    assert (report.embedded, report.masked, report.unread) == (20, {"nothing is heard": 20}, [])
    again = extract(ToyEmbedder(), manifest, store, dataset="d", source=Told(masked), max_errors=0)
    assert (again.already, again.embedded, again.masked) == (40, 0, {"nothing is heard": 20})
    assert len(store.view(["toy"], missing="drop")) == 20
    heard = extract(ToyEmbedder(), manifest, store, dataset="d", source=Told(), retry_quarantined=True)
    assert (heard.embedded, heard.masked) == (20, {})


def test_what_cannot_be_read_beside_it_is_an_error_as_ever(store, make_manifest):
    source = Told({"1.png", "2.png"}, {"3.png"})
    with pytest.raises(TooManyErrors, match=r"1 of 12 pictures cannot be used, more than the 0 allowed \(first: s0003"):
        extract(ToyEmbedder(), make_manifest(12), store, dataset="d", source=source, max_errors=0)


def test_a_row_is_made_again_when_what_it_follows_from_changes_and_not_when_the_picture_does(store, make_manifest):
    manifest = make_manifest(6)
    extract(ToyEmbedder(), manifest, store, dataset="d", source=Told())
    (manifest.root / "0.png").write_bytes(b"another picture")
    assert extract(ToyEmbedder(), manifest, store, dataset="d", source=Told()).already == 6
    assert extract(ToyEmbedder(), manifest, store, dataset="d", source=Told(version=2)).embedded == 6
    assert list(store.view(["toy"]).ids) == list(manifest.ids)


def test_parts_of_masked_samples_are_summed_by_reason(store, make_manifest):
    manifest, masked = make_manifest(12), {"1.png", "8.png"}
    reports = [
        extract(ToyEmbedder(), manifest, store, dataset="d", source=Told(masked), shard_rows=3, part=(k, 2))
        for k in (0, 1)
    ]
    whole = type(reports[0]).merged(reports)
    assert (whole.embedded, whole.masked) == (10, {"nothing is heard": 2})
