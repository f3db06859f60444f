"""Samples as columns say what tuples of samples say; plain files are read as all others are."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.featstore import Manifest, Sample
from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests import manifest as module
from cer_fusion.featstore.manifests.class_sets import ClassSet
from cer_fusion.featstore.manifests.columns import Samples, Texts, Words

TEXT = st.text(max_size=6)
LISTS = st.lists(TEXT, max_size=40)


@settings(max_examples=60, deadline=None)
@given(LISTS, st.data())
@pytest.mark.parametrize("kind", [Texts, Words])
def test_columns_hold_texts_as_a_tuple_does(kind, texts, data):
    column, plain = kind.of(iter(texts)), tuple(texts)
    assert (len(column), tuple(column), column[:], column[1:7:2]) == (len(plain), plain, plain, plain[1:7:2])
    assert [column[i] for i in range(-len(plain), len(plain))] == [plain[i] for i in range(-len(plain), len(plain))]
    with pytest.raises(IndexError):
        column[len(plain)]
    if plain:
        at = np.array(data.draw(st.lists(st.integers(0, len(plain) - 1), max_size=9)), dtype=np.int64)
        assert tuple(column.take(at)) == tuple(plain[i] for i in at)
    assert tuple(kind.joined([column, kind.of(["x"]), column])) == (*plain, "x", *plain)
    odd = [i for i, text in enumerate(plain) if text != text.strip()]
    assert next((i for i, _ in column.odd()), -1) in (odd if odd else [-1])


@settings(max_examples=60, deadline=None)
@given(LISTS)
def test_the_first_text_that_stands_twice_is_found(texts):
    expected = next(((i, texts.index(text)) for i, text in enumerate(texts) if text in texts[:i]), None)
    assert Texts.of(texts).first_repeat() == expected


def test_equal_marks_of_different_texts_are_no_repetition(monkeypatch):
    monkeypatch.setattr("cer_fusion.featstore.manifests.columns.xxhash.xxh3_64_intdigest", lambda data: len(data))
    assert Texts.of(["aa", "bb", "c"]).first_repeat() is None
    assert Texts.of(["aa", "bb", "c", "bb"]).first_repeat() == (3, 1)


def test_bytes_that_are_no_text_are_held_and_pointed_at():
    column = Texts.of(["fine", "caf\udce9.png", "größe"])
    assert list(column) == ["fine", "caf\udce9.png", "größe"]
    assert list(column.odd()) == [(1, "caf\udce9.png")]


def test_columns_compare_and_add_as_tuples_of_samples():
    plain = tuple(Sample(f"s{i}", f"{i}.png", "ab"[i % 2], "train", "") for i in range(5))
    columns = Samples.of(plain)
    assert columns == plain
    assert columns == Samples.of(list(plain))
    assert columns != plain[:4]
    assert columns != (*plain[:4], plain[4]._replace(label="c"))
    assert (columns + plain[:1], columns[-1], columns[1:3]) == ((*plain, plain[0]), plain[-1], plain[1:3])
    assert hash(columns) == hash(Samples.of(plain))
    assert "5 samples" in repr(columns)
    assert len(repr(Samples.of(plain * 1000))) < 300


PLAIN = "sample_id,path,label,split,group\ns1,a/1.png,Anger,train,v1\ns2,a/2.png,,test,\nß3,größe.png,Fear,,v2\n"
OTHERS = {
    "without the last line's end": PLAIN.removesuffix("\n"),
    "columns in another order": "path,sample_id\na/1.png,s1\na/2.png,s2\n",
    "a quoted cell": PLAIN.replace("a/2.png", '"a,2.png"'),
    "a quoted line end": PLAIN.replace("a/2.png", '"a\n2.png"'),
    "blanks around cells": PLAIN.replace("a/2.png", " a/2.png").replace("Anger", "Anger "),
    "a blank that does not break": PLAIN.replace("a/2.png", "\u00a0a/2.png"),
    "a tab": PLAIN.replace("a/2.png", "a/2.png\t"),
    "line ends of Windows": PLAIN.replace("\n", "\r\n"),
    "blank lines": PLAIN.replace("\ns2", "\n\ns2") + "\n\n",
    "rows of nothing": PLAIN + ",,,,\n",
    "a byte-order mark": "\ufeff" + PLAIN,
    "another separator": PLAIN.replace(",", ";"),
    "a column without a name": "".join(f"{line},\n" for line in PLAIN.splitlines()),
    "titles in capitals": PLAIN.replace("sample_id,path", "Sample ID,Path"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("piece", [1 << 20, 20])
def test_a_plain_file_is_read_as_any_other(tmp_path, monkeypatch, name, piece):
    path = tmp_path / "m.csv"
    path.write_bytes(OTHERS[name].encode())
    monkeypatch.setattr(module, "_PIECE", piece)
    quick = Manifest.read(path)
    monkeypatch.setattr(module, "_parse_plain", lambda data: None)
    slow = Manifest.read(path)
    assert quick == slow
    assert tuple(quick.lines) == tuple(slow.lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s1,a.png,,,\ns1,b.png,,,\n", "m.csv:3: sample_id 's1' stands twice, first at .*m.csv:2"),
        ("s1,a.png,,,\n,b.png,,,\n", "m.csv:3: sample_id and path must not be empty"),
        ("s1,a.png,,,\ns2,,,,\n", "m.csv:3: sample_id and path must not be empty"),
        ("s1,a.png,,,\ns2,b.png,,\n", "m.csv:3: expected 5 fields, however: 4"),
        ("s1,a.png,,,\ns2,b.png,,,,\n", "m.csv:3: expected 5 fields, however: 6"),
        ("s1,a.png,,,\ns\u200b2,b.png,,,\n", "m.csv:3: sample_id 's.*2' holds control characters"),
        ("s1,a.png,,train,v\ns2,b.png,,test,v\n", "m.csv:3: group 'v' stands in two splits, 'train' and 'test'"),
        ("s1,a.png,,,\ns2,b\xff.png,,,\n", "m.csv:3.*not UTF-8|UTF-8"),
    ],
)
def test_faults_of_a_plain_file_have_their_line(tmp_path, text, said):
    path = tmp_path / "m.csv"
    head = b"sample_id,path,label,split,group\n"
    path.write_bytes(head + (text.encode("latin-1") if "\xff" in text else text.encode()))
    with pytest.raises(ManifestError, match=said):
        Manifest.read(path)


def test_a_hundred_thousand_samples_take_little_memory(tmp_path):
    path = tmp_path / "m.csv"
    rows = "".join(f"v{i // 300:04d}/{i % 300:05d},v{i // 300:04d}/{i % 300:05d}.jpg,Anger,train,v{i // 300:04d}\n"
                   for i in range(100_000))  # fmt: skip
    path.write_text("sample_id,path,label,split,group\n" + rows)
    tracemalloc.start()
    found = Manifest.read(path)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 100_000
    assert kept < 100 * 100_000
    assert found.samples[299] == Sample("v0000/00299", "v0000/00299.jpg", "Anger", "train", "v0000")


def test_a_split_of_samples_that_are_gone_is_gone():
    samples = [Sample("a", "a.png", "x", "train", ""), Sample("b", "b.png", "y", "test", "")]
    classes = ClassSet(name="own", labels=("x", "y"), first_id=0)
    part = Manifest(samples=samples, classes=classes, root=Path(".")).select("test")
    assert (part.splits, part.counts(), part.ids) == (("test",), {"x": 0, "y": 1}, ("b",))
