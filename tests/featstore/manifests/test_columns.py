"""Samples as columns say what tuples of samples say; plain files are read as all others are."""

from __future__ import annotations

import csv
import hashlib
import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.featstore import Manifest, Sample
from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests import columns, csv_table, sidecar
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
@given(st.lists(st.tuples(st.text("ab", max_size=2), st.text("ab", max_size=2)), max_size=30))
@pytest.mark.parametrize("kind", [Texts, Words])
def test_columns_differ_where_their_texts_do(kind, pairs):
    one, other = (kind.of([pair[k] for pair in pairs]) for k in (0, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_CHUNK", 4)
        assert one.differs(other).tolist() == [a != b for a, b in pairs]


@settings(max_examples=60, deadline=None)
@given(LISTS)
def test_the_first_text_that_stands_twice_is_found(texts):
    expected = next(((i, texts.index(text)) for i, text in enumerate(texts) if text in texts[:i]), None)
    assert Texts.of(texts).first_repeat() == expected


def test_equal_marks_of_different_texts_are_no_repetition(monkeypatch):
    monkeypatch.setattr(columns, "marks_of", lambda data, starts, ends: (ends - starts).astype(np.uint64))
    assert Texts.of(["aa", "bb", "c"]).first_repeat() is None
    assert Texts.of(["aa", "bb", "c", "bb"]).first_repeat() == (3, 1)


def test_a_repetition_is_found_whatever_stands_between(monkeypatch):
    monkeypatch.setattr(columns, "_CHUNK", 2)
    texts = ["a", "b", "a much longer text than the others", "c", "d" * 600, "e", "d" * 599 + "e", "b"]
    assert Texts.of(texts).first_repeat() == (7, 1)
    assert Texts.of([*texts[:-1], "f"]).first_repeat() is None


BLANKS = [chr(code) for code in range(0x3100) if chr(code).isspace()]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(st.sampled_from(["a", "\xc2", "\u2000", "\u3041", "\U0001f600", *BLANKS]), max_size=4), max_size=9)
)
def test_blanks_around_texts_are_those_of_python(texts):
    column = Texts.of(texts)
    assert [i for i, _ in column.odd()] == [i for i, text in enumerate(texts) if text != text.strip()]
    assert tuple(column.stripped()) == tuple(text.strip() for text in texts)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ab\0é,", max_size=20), max_size=40), st.integers(0, 2**64 - 1))
def test_words_between_places_are_those_of_the_texts_even_where_all_marks_are_equal(texts, mark):
    data = np.frombuffer("|".join([*texts, ""]).encode(), np.uint8)
    ends = np.flatnonzero(data == ord("|"))
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    assert tuple(Texts.between(data, starts, ends)) == tuple(texts)
    found = Words.between(data, starts, ends)
    assert (tuple(found), found.words) == (tuple(texts), tuple(dict.fromkeys(texts)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_mixed", lambda eights, sizes: np.full(len(sizes), mark, np.uint64))
        assert tuple(Words.between(data, starts, ends)) == tuple(texts)


@settings(max_examples=60, deadline=None)
@given(LISTS)
def test_the_digest_is_that_of_the_texts_with_nul_between(texts):
    assert Texts.of(texts).sha256() == hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.text("aé, \"'\n;\t", max_size=4)] * 5), max_size=9))
def test_rows_are_written_as_the_csv_module_writes_them(rows):
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    for at_a_time in (1, 2, 100):
        assert b"".join(Samples.of(map(Sample._make, rows)).csv_blocks(at_a_time)) == out.getvalue().encode()


@pytest.mark.parametrize(
    "letter", ["\r", "\n", "\r\n", "\0", "\t", "\x1c", "\x85", "\u2028", '"', '""', ",", ";", "\ufeff", "'"]
)
@pytest.mark.parametrize("sealed", [True, False])
def test_a_cell_that_holds_any_letter_is_read_back(tmp_path, letter, sealed):
    cell = f"a{letter}b"
    made = Manifest(samples=[Sample("s", cell, cell, cell, cell), Sample("t", "t.png")],
                    classes=ClassSet(name="own", labels=(cell,), first_id=0), root=tmp_path)  # fmt: skip
    made.write(tmp_path / "m.csv", sealed=sealed)
    assert Manifest.read(tmp_path / "m.csv") == made


def test_files_and_digests_of_a_manifest_stay_as_they_were(tmp_path, monkeypatch):
    """Digests of what was written when each row passed through the csv module; stores are known by them.

    That of the JSON file is of one that says what the ids of blocks add up to.
    """
    monkeypatch.setattr(module, "BLOCK_ROWS", 8)
    monkeypatch.setattr(sidecar, "BLOCK_ROWS", 8)
    labels, splits = ("Sad", "", "Joyful, calm"), ("train", "test")
    samples = [
        Sample(
            f"s{i}é"[: 3 + i % 2],
            f"v {i // 7}/{i},{'x' * (i % 5)}.png",
            labels[i % 3],
            splits[i // 14 % 2],
            f"v{i // 7}",
        )
        for i in range(10, 66)
    ]
    made = Manifest(
        samples=samples, classes=ClassSet(name="own", labels=("Sad", "Joyful, calm"), first_id=1), root=tmp_path
    )
    made.write(tmp_path / "m.csv", sealed=True)
    files = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()[:16] for name in ("m.csv", "m.json")]
    assert (made.ids_digest[:16], *files) == ("43d7d5f75256f8e7", "62703c3784c7ca08", "800e5ea9ea2e34c7")


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
    "all cells quoted": "".join(",".join(f'"{cell}"' for cell in line.split(",")) + "\r\n" for line in PLAIN.split()),
    "a quote in a quoted cell": PLAIN.replace("a/2.png", '"a""2.png"'),
    "a quote in a plain cell": PLAIN.replace("a/2.png", 'a"2.png'),
    "a separator and blanks in quotes": PLAIN.replace("a/2.png", '" a,2.png "'),
    "a blank before a quote": PLAIN.replace("a/2.png", ' "a 2.png"'),
    "a quoted line end of Windows": PLAIN.replace("a/2.png", '"a\r\n2.png"'),
    "an empty quoted cell": PLAIN.replace("Anger", '""'),
    "blanks for nothing": PLAIN.replace(",,test,", ",  ,test, \t "),
    "a return within a line": PLAIN.replace("Anger", "Ang\rer"),
    "one line end of Windows": PLAIN.replace("v1\n", "v1\r\n"),
    "line ends of an old Mac": PLAIN.replace("\n", "\r"),
    "two returns": PLAIN.replace("v1\n", "v1\r\r\n"),
    "lines of nothing at the end": PLAIN + "\r\n\n\r\n",
    "a separator that Excel told": "sep=;\n" + PLAIN.replace(",", ";"),
    "rows that pandas numbered": "".join(f"{k},{line}\n" for k, line in zip(["", 0, 1, 2], PLAIN.split(), strict=True)),
    "a column twice": PLAIN.replace("group", "label"),
    "two columns that look alike": PLAIN.replace("split,group", "Label ,LABEL"),
    "a NUL": PLAIN.replace("Anger", "Ang\0er"),
    "a separator of files": PLAIN.replace("Anger", "Anger\x1c"),
    "an ideographic blank": PLAIN.replace("Anger", "\u3000Anger"),
    "rows of blanks": PLAIN + " ,\t,,,\n",
    "a header alone": PLAIN.partition("\n")[0] + "\n",
    "a quote that never closes": PLAIN.replace("a/1.png", '"a/1.png'),
    "a huge cell": PLAIN.replace("Anger", "A" * 140_000),
    "no more than line ends": "\n\n",
}
PLAIN_ONES = (
    "without the last line's end", "columns in another order", "blanks around cells", "a tab", "all cells quoted",
    "line ends of Windows", "a byte-order mark", "another separator", "titles in capitals", "an empty quoted cell",
    "a separator and blanks in quotes", "blanks for nothing", "lines of nothing at the end",
)  # fmt: skip


def read_or_error(path):
    try:
        found = Manifest.read(path)
    except ManifestError as error:
        return str(error)
    return found, tuple(found.lines)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("piece", [1 << 20, 20])
def test_a_plain_file_is_read_as_any_other(tmp_path, monkeypatch, name, piece):
    path = tmp_path / "m.csv"
    path.write_bytes(OTHERS[name].encode())
    monkeypatch.setattr(csv_table, "_PIECE", piece)
    quick = read_or_error(path)
    monkeypatch.setattr(module, "plain_columns", lambda *_: None)
    assert quick == read_or_error(path)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text('ab,"\n\r \té;', max_size=12), max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_any_text_below_a_header_is_read_as_by_the_csv_module(tmp_path_factory, lines, line_end):
    path = tmp_path_factory.mktemp("any") / "m.csv"
    path.write_bytes(line_end.join(["sample_id,path", *lines]).encode())
    quick = read_or_error(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "plain_columns", lambda *_: None)
        assert quick == read_or_error(path)


@pytest.mark.parametrize("name", PLAIN_ONES)
def test_what_programs_write_most_is_read_without_an_object_a_row(tmp_path, monkeypatch, name):
    (tmp_path / "m.csv").write_bytes(OTHERS[name].encode())
    monkeypatch.setattr(module, "parse_table", lambda *_, **__: pytest.fail("read row by row"))
    assert len(Manifest.read(tmp_path / "m.csv")) == (2 if "another order" in name else 3)


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
