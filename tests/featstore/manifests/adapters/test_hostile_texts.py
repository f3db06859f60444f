"""Whatever stands in a dataset's text files: a manifest, or an error in words."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.featstore import FeatstoreError, Manifest
from cer_fusion.featstore.manifests.adapters import build
from tests.featstore.manifests.adapters.layouts import fill

VOTES = '{0},"(0, 0, 48, 48)",0,0,4,0,3,0,0,0,3,0\n'
EXPR = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other\n"
LAYOUTS = {
    "rafdb-compound": ("EmoLabel/list_patition_label.txt", "train_0001.jpg 8\ntest_0002.jpg 3\n", {}),
    "raf-ce": ("RAFCE_emolabel.txt", "1.jpg 3\n2.jpg 4\n", {"RAFCE_partition.txt": "1.jpg 0\n2.jpg 1\n"}),
    "affectnet": ("training.csv", "1/a.jpg,1,1,9,9,1;2,3,0.1,0.2\n", {}),
    "affwild2": ("Train_Set/v.txt", EXPR + "1\n-1\n2\n", {"v/00001.jpg": b"x", "v/00003.jpg": b"y"}),
    "ferplus": ("FER2013Train/label.csv", VOTES.format("a.png") + VOTES.format("b.png"), {}),
    "csv": ("list.csv", "path,label\na.png,x\nb.png,y\n", {}),
}
PIECES = st.one_of(
    st.sampled_from(
        ["\0", "\ufeff", "\x1e", "\r", "\n", '"', ",", " ", "-1", "9" * 5000, "1_0", "٣", "²", "nan", "1e999"]
    ),
    st.text(max_size=3),
    st.binary(max_size=2),
)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_any_text_is_a_manifest_or_an_error_in_words(tmp_path_factory, kind):
    name, good, others = LAYOUTS[kind]
    root = fill(tmp_path_factory.mktemp("d"), {name: good, **others})
    start: Path = root / name if kind == "csv" else root
    assert isinstance(build(kind, start).manifest, Manifest)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, len(good)), st.integers(0, 3), PIECES)
    def spoil(at: int, over: int, piece: str | bytes) -> None:
        inserted = piece if isinstance(piece, bytes) else piece.encode()
        data = good.encode()
        (root / name).write_bytes(data[:at] + inserted + data[at + over :])
        with contextlib.suppress(FeatstoreError):
            manifest = build(kind, start).manifest
            manifest.write(root.parent / "m" / "m.csv")
            assert Manifest.read(root.parent / "m" / "m.csv").samples == manifest.samples

    spoil()
