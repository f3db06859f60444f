"""The index, against a plain dictionary that goes through the shards one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.featstore.extraction import stored
from cer_fusion.featstore.manifests.columns import Texts
from cer_fusion.featstore.rows import keys, shard
from cer_fusion.featstore.rows.index import make_index
from cer_fusion.featstore.rows.keys import KeyedNumbers, keys_of, keys_of_texts, keys_of_utf8, same_pictures
from cer_fusion.featstore.rows.shard import RowReader, Rows, encode, read_header, read_strings

IDS = ["a", "b", "ab", "ä", "a" * 8, "a" * 9, "frame_00000001", "日本/0001.png"]
PICTURES = ["1" * 64, "2" * 64, "", "no sha256"]
written_shards = st.builds(
    dict,
    generation=st.integers(0, 2),
    ids=st.lists(st.sampled_from(IDS), unique=True, max_size=5),
    pictures=st.lists(st.sampled_from(PICTURES), min_size=5, max_size=5),
    quarantined=st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from(PICTURES[:3]), st.just("bad")), max_size=2),
)


def write(folder, content):
    n = len(content["ids"])
    rows = Rows(
        ids=content["ids"],
        image_digests=content["pictures"][:n],
        blocks={"b": np.random.default_rng(0).random((n, 3), dtype=np.float32)},
        quarantined=content["quarantined"],
    )
    name, data = encode(rows, fingerprint="f" * 64, index=0, generation=content["generation"])
    (folder / name).write_bytes(data)
    return read_header(folder / name)


def plainly(headers):
    """What counts of each sample, shard by shard from the oldest to the newest: rows, quarantine, disputes."""
    rows, refused, disputed = {}, {}, {}
    newest_last = sorted(headers, key=lambda h: h.path.name, reverse=True)
    for header in sorted(newest_last, key=lambda h: h.generation):
        ids, pictures = read_strings(header, "ids"), read_strings(header, "image_digest")
        for row, (sample_id, picture) in enumerate(zip(ids, pictures, strict=True)):
            before = rows.pop(sample_id, None)
            refused.pop(sample_id, None)
            if sample_id in disputed and disputed[sample_id][0].generation < header.generation:
                del disputed[sample_id]
            same_age = before is not None and before[0].generation == header.generation
            if same_age and before[2] and picture and before[2] != picture:
                disputed[sample_id] = (before[0], header)
            if sample_id not in disputed:
                rows[sample_id] = (header, row, picture)
        for sample_id, digest, reason in header.quarantined:
            refused[sample_id] = (digest, reason)
            rows.pop(sample_id, None)
            disputed.pop(sample_id, None)
    return rows, refused, disputed


@settings(max_examples=60, deadline=None)
@given(written=st.lists(written_shards, max_size=6), only=st.lists(st.sampled_from(IDS), unique=True))
def test_the_index_says_of_every_sample_what_a_walk_through_the_shards_says(tmp_path_factory, written, only):
    folder = tmp_path_factory.mktemp("shards")
    headers = list({header.path: header for header in (write(folder, content) for content in written)}.values())
    rows, refused, disputed = plainly(headers)
    for index, ids in ((make_index(headers), IDS), (make_index(headers, only=only), only)):
        placed = [i for i in ids if i in index]
        number, row = index.locate(index.rows_of(placed))
        found = {i: (index.headers[s].path, r) for i, s, r in zip(placed, number, row, strict=True)}
        assert found == {i: (rows[i][0].path, rows[i][1]) for i in ids if i in rows}
        assert index.quarantined == {i: refused[i] for i in ids if i in refused}
        assert {i: [index.headers[n].path for n in pair] for i, pair in index.disputed.items()} == {
            i: [header.path for header in disputed[i]] for i in ids if i in disputed
        }
        assert index.image_digests() == {i: rows[i][2] for i in ids if i in rows}
        assert sorted(index.ids()) == sorted(i for i in ids if i in rows)
        assert index.counts_of(ids) == (sum(i in rows for i in ids), sum(i in refused for i in ids))
        owners = index.owners_of(ids).tolist()
        assert [i for i, owner in zip(ids, owners, strict=True) if owner >= 0] == [
            i for i in ids if i in rows or i in refused
        ]
        made_from = index.rows_made_from(PICTURES[:2])
        known = {picture for _, _, picture in rows.values()} & set(PICTURES[:2])
        assert made_from.keys() == known if index.whole else made_from.keys() >= known
        for picture, at in made_from.items():
            [number], [place] = index.locate(np.array([at]))
            assert read_strings(index.headers[number], "image_digest")[place] == picture


@given(texts=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)))
def test_an_id_has_the_same_hashes_wherever_it_stands(texts):
    encoded = np.array([text.encode() for text in texts], dtype=f"S{max([1, *(len(t.encode()) for t in texts)])}")
    wider = encoded.astype(f"S{encoded.dtype.itemsize + 9}")
    expected = keys_of(texts)
    np.testing.assert_array_equal(keys_of_texts(encoded), expected)
    np.testing.assert_array_equal(keys_of_texts(wider), expected)
    np.testing.assert_array_equal(keys_of([*texts, "x" * 300])[:, :-1], expected)
    np.testing.assert_array_equal(keys_of(Texts.of(texts)), expected)
    np.testing.assert_array_equal(keys_of(Texts.of([*texts, "a\0b"]))[:, :-1], expected)
    lengths = [len(text.encode()) for text in texts]
    ends = np.cumsum([3, *lengths])  # as a slice of an Arrow column: it begins somewhere in the column's bytes
    data = np.frombuffer(("abc" + "".join(texts) + "more").encode(), dtype=np.uint8)
    np.testing.assert_array_equal(keys_of_utf8(data, ends[:-1], ends[1:]), expected)
    assert len({tuple(key) for key in expected.T.tolist()}) == len(set(texts))
    none = np.zeros(3, dtype=np.int64)
    assert not keys_of_utf8(data[:0], none, none).any()


@pytest.mark.parametrize("length", [1, 7, 8, 15])
@pytest.mark.parametrize("n", [1, 2, 40_000])
def test_ids_of_one_length_have_the_hashes_that_each_has_alone(length, n):
    ids = [f"{i:x}".rjust(length, "x")[-length:] for i in range(n)]
    found = keys_of(ids)
    for i in {0, n // 2, n - 1}:
        np.testing.assert_array_equal(found[:, [i]], keys_of([ids[i]]))
    assert len({tuple(key) for key in found.T.tolist()}) == len(set(ids))


def test_ids_that_no_store_can_hold_are_no_fault_and_have_no_row(tmp_path):
    header = write(tmp_path, {"generation": 0, "ids": ["a", "b"], "pictures": PICTURES, "quarantined": []})
    index = make_index([header])
    assert index.rows_of(["a\0b", "b", "\udcff", "c", "a"]).tolist() == [-1, 1, -1, -1, 0]
    assert index.rows_of([]).tolist() == []
    assert make_index([]).rows_of(["a"]).tolist() == [-1]


@pytest.mark.parametrize("only", [None, [f"s{i}" for i in range(0, 900, 7)]])
def test_ids_of_one_first_hash_are_told_apart_by_the_second(tmp_path, monkeypatch, only):
    """As if the first hash were a bad one."""
    real = keys._hash_words

    def poor(words, out):
        real(words, out)
        out[0] %= np.uint64(5)

    monkeypatch.setattr(keys, "_hash_words", poor)
    ids = [f"s{i}" for i in range(900)]
    parts = [{"ids": ids[k : k + 300], "pictures": [""] * 300, "quarantined": []} for k in (0, 300, 600)]
    parts[1]["quarantined"] = [("s10", "", "bad"), ("none", "", "bad")]
    index = make_index([write(tmp_path, {**part, "generation": n}) for n, part in enumerate(parts)], only=only)
    asked = [i for i in only or ids if i != "s10"]
    found = index.rows_of(asked)
    assert (found >= 0).all()
    number, row = index.locate(found)
    assert [read_strings(index.headers[s], "ids")[r] for s, r in zip(number, row, strict=True)] == asked
    assert index.rows_of(["s10", "none", "s900"]).tolist() == [-1, -1, -1]


def test_what_is_made_from_one_picture_is_found_on_both_sides():
    first, second = keys_of(["1" * 64, "", "2" * 64, "1" * 64]), keys_of(["3" * 64, "2" * 64, ""])
    ours, theirs = same_pictures(first, second)
    assert [at for at, _ in ours] == [2]
    assert [at for at, _ in theirs] == [1]
    assert [at for at, _ in same_pictures(first)[0]] == [0, 3]


def test_rows_that_are_picked_one_by_one_cost_each_chunk_once(tmp_path, monkeypatch):
    ids = [f"s{i}" for i in range(1000)]
    header = write(tmp_path, {"generation": 0, "ids": ids, "pictures": [""] * 1000, "quarantined": []})
    whole = read_strings(header, "ids")
    reader, read = RowReader(), []
    real = shard._fill
    monkeypatch.setattr(shard, "_fill", lambda file, out, *where: (read.append(len(out)), real(file, out, *where)))
    for row in np.random.default_rng(0).permutation(1000).tolist():
        assert reader.read(header, "ids", [row]).tolist() == [whole[row].encode()]
    assert sum(read) <= 2 * header.segments["ids"].nbytes


@settings(deadline=None)
@given(pieces=st.lists(st.lists(st.integers(0, 60), max_size=20), max_size=50), asked=st.lists(st.integers(0, 80)))
def test_numbers_that_are_added_in_pieces_are_found_by_their_keys_as_in_a_dictionary(pieces, asked):
    """Of keys that were added more than once, some number that was added with it is given."""
    numbers, plain = KeyedNumbers(), {}
    for start, piece in enumerate(pieces):
        numbers.add(keys_of([f"picture {i}" for i in piece]), 1000 * start + np.arange(len(piece)))
        for at, i in enumerate(piece):
            plain.setdefault(i, set()).add(1000 * start + at)
    found = numbers.find(keys_of([f"picture {i}" for i in asked])).tolist()
    assert all(number in plain.get(i, {-1}) for i, number in zip(asked, found, strict=True))


@pytest.mark.parametrize("bits", [32, 1])
def test_the_row_of_a_picture_is_one_that_counts_whatever_hashes_are_alike(tmp_path, monkeypatch, bits):
    monkeypatch.setattr(stored, "_marks", lambda keys: (keys[0] >> np.uint64(64 - bits)).astype(np.uint32))
    pictures = [f"{i:064x}" for i in range(40)]
    old = {"generation": 0, "ids": ["a", "b"], "pictures": pictures[:2], "quarantined": []}
    new = {"generation": 1, "ids": ["a", "c", "d"], "pictures": pictures[2:5], "quarantined": []}
    index = make_index([write(tmp_path, old), write(tmp_path, new)])
    by_picture = stored.RowsByPicture(index, RowReader())
    assert by_picture.nbytes == 8 * 4
    found = {
        digest: int(index.starts[index.headers.index(header)]) + row
        for digest, (header, row) in by_picture.find(pictures).items()
    }
    assert found == index.rows_made_from(pictures)
    assert sorted(found) == pictures[1:5]
    assert by_picture.find([]) == {}
    index.headers[0].path.unlink()  # compacted away
    for known in (by_picture, stored.RowsByPicture(index, RowReader())):
        assert list(known.find(pictures)) == [pictures[1]]
    assert stored.RowsByPicture(make_index([]), RowReader()).find(pictures) == {}
