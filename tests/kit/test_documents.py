"""Sealed documents, and dataclasses as JSON: round trips, and every kind of damage told."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from cer_fusion.kit import DocumentError, NewerFormatError
from cer_fusion.kit.documents import from_plain, parse, read_sealed, seal, seal_digest, to_plain, unseal, write_sealed
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.text(max_size=6).filter(lambda key: key not in ("format", "format_version", "digest"))


@given(st.dictionaries(KEYS, JSON, max_size=4))
def test_what_is_sealed_comes_back(content):
    text = seal(content, kind="cer-toy", version=3)
    assert unseal(text, kind="cer-toy", version=3) == content
    assert json.loads(text)["digest"] == seal_digest(content, kind="cer-toy", version=3)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(place, change):
    text = bytearray(seal({"a": [1.5, "b", None], "c": {"d": True}}, kind="cer-toy", version=1).encode())
    whole = json.loads(bytes(text))
    text[place % len(text)] ^= change
    try:
        same = json.loads(bytes(text)) == whole  # white space between values says nothing
    except ValueError:
        same = False
    if same:
        assert unseal(bytes(text), kind="cer-toy", version=1) == {"a": [1.5, "b", None], "c": {"d": True}}
    else:
        with pytest.raises(DocumentError):
            unseal(bytes(text), kind="cer-toy", version=1)


class OwnError(Exception):
    """What a caller wants raised."""


def test_versions_are_told_apart_and_the_callers_error_is_raised():
    text = seal({}, kind="cer-toy", version=2)
    with pytest.raises(NewerFormatError, match="pip install --upgrade"):
        unseal(text, kind="cer-toy", version=1)
    with pytest.raises(DocumentError, match="make it again"):
        unseal(text, kind="cer-toy", version=3)
    with pytest.raises(OwnError, match="'cer-other', however: 'cer-toy'"):
        unseal(text, kind="cer-other", version=2, error=OwnError)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1, "a": 2}', b'{"a": NaN}', b'{"a": 1e999}', b'{"a": "\\ud800"}', b"[1]", b"\xff", b"{" * 100_000, b"",
        '{"a": 1}'.encode("utf-16"),
    ],
)  # fmt: skip
def test_what_is_no_honest_object_is_refused(data):
    with pytest.raises(DocumentError, match="no readable JSON"):
        parse(data)


def test_what_would_take_all_memory_is_refused_before_it_is_parsed():
    with pytest.raises(DocumentError, match="MiB of memory"):
        parse(b'{"a": [' + b"{}," * 2_000_000 + b"{}]}")


def test_a_file_comes_back_and_messages_name_it(tmp_path):
    path = write_sealed(tmp_path / "deep" / "a.json", {"n": 1}, kind="cer-toy", version=1)
    assert read_sealed(path, kind="cer-toy", version=1) == {"n": 1}
    path.write_bytes(path.read_bytes().replace(b'"n": 1', b'"n": 2'))
    with pytest.raises(DocumentError, match=r"not as it was written(.|\n)*a\.json"):
        read_sealed(path, kind="cer-toy", version=1)
    with pytest.raises(DocumentError, match=r"cannot read .*none\.json"):
        read_sealed(tmp_path / "none.json", kind="cer-toy", version=1)
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(DocumentError, match="not a file"):
        read_sealed(tmp_path / "pipe.json", kind="cer-toy", version=1)


@dataclass(frozen=True, kw_only=True)
class Inner:
    low: float
    pair: tuple[int, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Outer:
    name: str
    kind: Literal["a", "b"]
    inner: Inner
    many: tuple[Inner, ...]
    maybe: Inner | None
    by_name: Mapping[str, float]
    where: Path
    sure: bool
    counts: NDArray[np.int64]
    table: NDArray[np.float64]
    mask: NDArray[np.bool_]
    free: Any
    follows: Any = field(default=None, metadata={"plain": False})

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a name is needed")


INNER = st.builds(Inner, low=FLOATS, pair=st.tuples(st.integers(-9, 9), st.text(max_size=3)))
OUTER = st.builds(
    Outer,
    name=st.text(min_size=1, max_size=5),
    kind=st.sampled_from("ab"),
    inner=INNER,
    many=st.lists(INNER, max_size=3).map(tuple),
    maybe=st.none() | INNER,
    by_name=st.dictionaries(st.text(max_size=3), FLOATS, max_size=3),
    where=st.sampled_from([Path("a"), Path("b/c")]),
    sure=st.booleans(),
    counts=st.lists(st.integers(-(2**40), 2**40), max_size=4).map(lambda x: np.array(x, np.int64)),
    table=st.lists(FLOATS, min_size=4, max_size=4).map(lambda x: np.array(x).reshape(2, 2)),
    mask=st.lists(st.booleans(), max_size=4).map(lambda x: np.array(x, np.bool_)),
    free=JSON,
)


@given(OUTER)
def test_a_dataclass_comes_back_from_json_with_every_type_and_bit(outer):
    plain = json.loads(json.dumps(to_plain(outer)))
    found = from_plain(Outer, plain, "the outer")
    for name in ("counts", "table", "mask"):
        one, other = getattr(outer, name), getattr(found, name)
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()
    rest = [name for name in Outer.__dataclass_fields__ if name not in ("counts", "table", "mask")]
    assert [getattr(found, name) for name in rest] == [getattr(outer, name) for name in rest]


SOUND = {
    "name": "x", "kind": "a", "inner": {"low": 0.5, "pair": [1, "a"]}, "many": [], "maybe": None, "by_name": {},
    "where": "a", "sure": True, "counts": [1], "table": [[0.5]], "mask": [True], "free": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, r"the outer\.name must be of type str"),
        ({"name": ""}, "the outer holds a value of the wrong kind: a name is needed"),
        ({"kind": "c"}, r"the outer\.kind must be one of 'a', 'b'"),
        ({"inner": {"low": 0.5}}, r"the outer\.inner has unknown keys none and lacks pair"),
        ({"inner": {"low": "0.5", "pair": [1, "a"]}}, r"the outer\.inner\.low must be of type float"),
        ({"inner": {"low": 0.5, "pair": [1]}}, r"inner\.pair must hold 2 values"),
        ({"many": [{"low": 1, "pair": [True, "a"]}]}, r"the outer\.many\[0\]\.pair\[0\] must be of type int"),
        ({"by_name": {"a": True}}, r"the outer\.by_name\.a must be of type float"),
        ({"counts": [1.5]}, r"the outer\.counts must be an array of int64"),
        ({"counts": [[1], [1, 2]]}, r"the outer\.counts must be an array of int64"),
        ({"table": ["a"]}, r"the outer\.table must be an array of float64"),
        ({"sure": 1}, r"the outer\.sure must be of type bool"),
        ({"more": 1}, "has unknown keys more and lacks none"),
        ({"follows": 1}, "has unknown keys follows"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_with_its_place(change, message):
    from_plain(Outer, SOUND, "the outer")
    with pytest.raises(OwnError, match=message):
        from_plain(Outer, SOUND | change, "the outer", error=OwnError)
