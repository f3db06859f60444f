from __future__ import annotations

import hashlib
import json

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cer_fusion.featstore.errors import DamagedShardError, FormatError, RowsError
from cer_fusion.featstore.rows.shard import (
    PAGE,
    Rows,
    encode,
    parse_name,
    read_header,
    read_rows,
    read_segment,
    read_strings,
)

FINGERPRINT = "f" * 64


def rows(n: int = 600, dtype: str = "float32") -> Rows:
    rng = np.random.default_rng(0)
    return Rows(
        ids=[f"größe/{i}" for i in range(n)],
        image_digests=[hashlib.sha256(bytes([i % 256])).hexdigest() for i in range(n)],
        blocks={"local": rng.normal(size=(n, 32)).astype(dtype), "multi_scale": rng.normal(size=(n, 5)).astype(dtype)},
        quarantined=[("bad", "", "missing")],
    )


@pytest.fixture
def shard(tmp_path):
    name, data = encode(rows(), fingerprint=FINGERPRINT, index=12)
    path = tmp_path / name
    path.write_bytes(data)
    return path


def test_the_sha256_of_the_file_is_in_its_name(shard):
    assert parse_name(shard.name) == (12, hashlib.sha256(shard.read_bytes()).hexdigest()[:32])


def test_equal_content_gives_equal_bytes():
    assert encode(rows(), fingerprint=FINGERPRINT, index=1) == encode(rows(), fingerprint=FINGERPRINT, index=1)
    assert encode(rows(), fingerprint=FINGERPRINT, index=1)[0] != encode(rows(), fingerprint="e" * 64, index=1)[0]


def test_plain_h5py_reads_what_our_reader_reads(shard):
    header = read_header(shard)
    with h5py.File(shard, "r") as file:
        assert file.attrs["format"] == "cer-shard"
        assert file.attrs["fingerprint"] == FINGERPRINT
        assert list(file["ids"].asstr()) == read_strings(header, "ids") == list(rows().ids)
        for name, array in rows().blocks.items():
            np.testing.assert_array_equal(file["blocks"][name][:], array)
            np.testing.assert_array_equal(read_segment(header, f"blocks/{name}"), array)
            assert file["blocks"][name].chunks is None


def test_large_datasets_start_on_a_page(shard):
    for segment in read_header(shard).segments.values():
        assert segment.nbytes < PAGE or segment.offset % PAGE == 0


@pytest.mark.parametrize("n", [0, 1, 255, 256, 257])
def test_any_number_of_rows_comes_back(tmp_path, n):
    name, data = encode(rows(n, "float16"), fingerprint=FINGERPRINT, index=0)
    (tmp_path / name).write_bytes(data)
    header = read_header(tmp_path / name)
    assert (header.rows, header.quarantined) == (n, (("bad", "", "missing"),))
    np.testing.assert_array_equal(read_segment(header, "blocks/local"), rows(n, "float16").blocks["local"])


def test_a_long_quarantine_grows_the_header(tmp_path):
    many = Rows(ids=[], image_digests=[], blocks={"a": np.empty((0, 2), np.float32)},
                quarantined=[(f"s{i}", "", "missing" * 9) for i in range(500)])  # fmt: skip
    name, data = encode(many, fingerprint=FINGERPRINT, index=0)
    (tmp_path / name).write_bytes(data)
    assert len(read_header(tmp_path / name).quarantined) == 500
    with h5py.File(tmp_path / name, "r") as file:
        assert file["blocks/a"].shape == (0, 2)


FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)


@settings(max_examples=30, deadline=None)
@given(
    arrays(
        np.float32, st.tuples(st.integers(1, 9), st.integers(1, 6)), elements=st.floats(-(2.0**100), 2.0**100, width=32)
    )
)
def test_every_finite_array_survives_bit_for_bit(tmp_path_factory, array):
    ids = [str(i) for i in range(len(array))]
    new = Rows(ids=ids, image_digests=[""] * len(ids), blocks={"b": array})
    name, data = encode(new, fingerprint=FINGERPRINT, index=0)
    path = tmp_path_factory.mktemp("s") / name
    path.write_bytes(data)
    assert read_segment(read_header(path), "blocks/b").tobytes() == array.tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_never_enter(value):
    spoilt = rows(10)
    spoilt.blocks["local"][7, 3] = value
    with pytest.raises(RowsError, match=r"'local' has NaN or Inf in 1 of 10 rows: größe/7"):
        encode(spoilt, fingerprint=FINGERPRINT, index=0)


def test_shapes_that_do_not_fit_are_refused():
    wrong = Rows(ids=["a"], image_digests=[""], blocks={"b": np.zeros((2, 3), np.float32)})
    with pytest.raises(RowsError, match=r"must have shape \(1, d\) for 1 ids, however: \(2, 3\)"):
        encode(wrong, fingerprint=FINGERPRINT, index=0)
    wide = Rows(ids=["a"], image_digests=[""], blocks={"b": np.zeros((1, 3))})
    with pytest.raises(RowsError, match="must be float32 or float16, however: float64"):
        encode(wide, fingerprint=FINGERPRINT, index=0)


def test_every_flipped_byte_of_header_or_rows_is_noticed(shard):
    whole = shard.read_bytes()
    expected = {name: read_segment(read_header(shard), name).tobytes() for name in read_header(shard).segments}
    places = np.random.default_rng(1).integers(0, len(whole), size=400)
    noticed = 0
    for place in places:
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << (place % 8)
        shard.write_bytes(spoilt)
        try:
            header = read_header(shard)
            found = {name: read_segment(header, name).tobytes() for name in header.segments}
        except FormatError:
            noticed += 1
        else:
            assert found == expected, "damaged rows were read as good ones"
    assert noticed > 300


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_shard_is_refused(shard, share):
    whole = shard.read_bytes()
    last = max(s.offset + s.nbytes for s in read_header(shard).segments.values())
    shard.write_bytes(whole[: int(last * share)])
    with pytest.raises(DamagedShardError, match="verify --repair"):
        read_segment(read_header(shard), "blocks/local")


def test_a_newer_version_is_refused_by_name(shard):
    data = bytearray(shard.read_bytes())
    start = b"cer-shard 1 "
    data[: len(start)] = b"cer-shard 7 "
    shard.write_bytes(data)
    with pytest.raises(FormatError, match="cer-shard version 7, made by a newer cer-fusion; this release reads"):
        read_header(shard)


def rewritten(path, change) -> None:
    """Put a changed header with a right digest in place: a hostile file, not a damaged one."""
    data = path.read_bytes()
    line, rest = data.split(b"\n", 1)
    length = int(line.split()[3])
    header = json.loads(rest[:length])
    change(header)
    text = json.dumps(header).encode()
    new = f"cer-shard 1 {hashlib.sha256(text).hexdigest()} {len(text)}\n".encode() + text
    path.write_bytes(new + data[len(new) :])


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h["segments"]["blocks/local"].update(shape=[10**12, 32]),
        lambda h: h["segments"]["blocks/local"].update(offset=-5),
        lambda h: h["segments"]["blocks/local"].update(dtype="O"),
        lambda h: h["segments"]["blocks/local"].update(offset=10**15),
        lambda h: h.update(chunk_rows=0),
        lambda h: h["segments"].pop("ids"),
        lambda h: h.update(rows="many"),
        lambda h: h.pop("quarantined"),
    ],
)
def test_a_hostile_header_is_refused(shard, change):
    rewritten(shard, change)
    with pytest.raises(FormatError):
        read_header(shard)


def test_single_rows_are_read_and_verified(shard):
    header = read_header(shard)
    np.testing.assert_array_equal(read_rows(header, "blocks/local", [599, 3]), rows().blocks["local"][[599, 3]])
