from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cer_fusion.kit import (
    DocumentError,
    NewerFormatError,
    OlderFormatError,
    OutputExistsError,
    canonical,
    documents,
    known_keys,
    parse_json,
    read_sealed,
    seal,
    seal_digest,
    unseal,
    write_sealed,
)
from tests.kit import PATIENT

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
CONTENTS = st.dictionaries(st.text().filter(lambda key: key not in ("format", "format_version", "digest")), JSON)


class OursError(ValueError):
    pass


class OursNewerError(OursError):
    pass


@PATIENT
@given(CONTENTS)
def test_a_content_comes_back_as_it_was(content):
    data = seal(content, kind="cer-thing", version=1)
    assert unseal(data, kind="cer-thing", version=1) == content
    assert list(unseal(data.decode(), kind="cer-thing", version=1)) == list(content)
    assert json.loads(data)["digest"] == seal_digest(content, kind="cer-thing", version=1)


@PATIENT
@given(CONTENTS, st.data())
def test_a_changed_byte_is_noticed(content, data):
    whole = seal(content, kind="cer-thing", version=1)
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda one: one != whole[at]))
    with pytest.raises(DocumentError):
        unseal(whole[:at] + bytes([byte]) + whole[at + 1 :], kind="cer-thing", version=1)


@pytest.mark.parametrize("readable", [True, False])
def test_every_flipped_bit_and_every_cut_is_noticed(monkeypatch, readable):
    if not readable:
        monkeypatch.setattr(documents, "_READABLE", 0)
    whole = seal({"lr": 1e-05, "name": "é\u0085\x01", "list": [1, 2.5, None, {"a": []}]}, kind="cer-thing", version=1)
    assert b"1e-05" in whole
    for at in range(len(whole)):
        for damaged in (
            *(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :] for bit in range(8)),
            whole[:at],
        ):
            with pytest.raises(DocumentError):
                unseal(damaged, kind="cer-thing", version=1)


@PATIENT
@given(CONTENTS)
def test_a_large_document_written_a_line_a_key_comes_back_too(content):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "_READABLE", 0)
        assert unseal(seal(content, kind="t", version=1), kind="t", version=1) == content


def test_line_ends_that_git_changed_are_no_damage():
    data = seal({"a": "x\r\ny"}, kind="cer-thing", version=1)
    assert unseal(data.replace(b"\n", b"\r\n"), kind="cer-thing", version=1) == {"a": "x\r\ny"}


def test_tuples_come_back_as_lists_and_numbers_as_keys_as_texts():
    content: dict[str, Any] = {"a": (1, 2), "b": {2: "x", 10: "y"}}
    assert unseal(seal(content, kind="t", version=1), kind="t", version=1) == {"a": [1, 2], "b": {"2": "x", "10": "y"}}


def test_the_name_of_a_file_that_is_no_text_comes_back(tmp_path):
    body = {"source": os.fsdecode(b"caf\xe9.npy"), "pair": "\ud83d\ude00"}
    write_sealed(tmp_path / "d.json", body, kind="t", version=1)
    assert read_sealed(tmp_path / "d.json", kind="t", version=1) == {"source": body["source"], "pair": "\U0001f600"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), {"a": 1, 0: 2, "0": 3}])
def test_what_json_cannot_say_is_refused_when_writing(tmp_path, value):
    with pytest.raises(DocumentError):
        write_sealed(tmp_path / "d.json", {"a": value}, kind="t", version=1)
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_read_back_is_not_written(tmp_path, monkeypatch):
    deep: list[Any] = []
    for _ in range(documents.DEEPEST):
        deep = [deep]
    with pytest.raises(DocumentError, match="nested"):
        write_sealed(tmp_path / "d.json", {"a": deep}, kind="t", version=1)
    monkeypatch.setattr(documents, "MOST_MEMORY", 1000)
    with pytest.raises(DocumentError, match="of memory"):
        write_sealed(tmp_path / "d.json", {"a": list(range(100))}, kind="t", version=1)
    with pytest.raises(DocumentError, match="keys of its seal: digest"):
        write_sealed(tmp_path / "d.json", {"digest": 1}, kind="t", version=1)
    assert list(tmp_path.iterdir()) == []


def test_brackets_inside_texts_are_no_nesting():
    assert unseal(seal({"a": '\\"' + "[" * 500}, kind="t", version=1), kind="t", version=1) == {"a": '\\"' + "[" * 500}


def test_another_version_is_refused_by_name(tmp_path):
    write_sealed(tmp_path / "d.json", {}, kind="cer-thing", version=2)
    with pytest.raises(
        NewerFormatError, match=r"d\.json is cer-thing version 2(.|\n)*pip install --upgrade cer-fusion"
    ):
        read_sealed(tmp_path / "d.json", kind="cer-thing", version=1)
    with pytest.raises(OlderFormatError, match=r"made by an older cer-fusion(.|\n)*make it again"):
        read_sealed(tmp_path / "d.json", kind="cer-thing", version=3)
    with pytest.raises(OursError, match="newer"):
        read_sealed(tmp_path / "d.json", kind="cer-thing", version=1, error=OursError)
    with pytest.raises(OursNewerError, match="newer"):
        read_sealed(tmp_path / "d.json", kind="cer-thing", version=1, error=OursError, newer=OursNewerError)
    for odd in ("true", "0", '"2"', "2.0", "null"):
        with pytest.raises(DocumentError, match="no usable format_version"):
            unseal(f'{{"format": "t", "format_version": {odd}}}', kind="t", version=1)


def test_a_missing_foreign_or_large_file_is_named(tmp_path):
    path = tmp_path / "d.json"
    with pytest.raises(OursError, match=r"d\.json is missing: expected a cer-thing"):
        read_sealed(path, kind="cer-thing", version=1, error=OursError)
    write_sealed(path, {"a": "x" * 100}, kind="cer-other", version=1)
    with pytest.raises(OursError, match=r"d\.json must be a cer-thing, however: format='cer-other'"):
        read_sealed(path, kind="cer-thing", version=1, error=OursError)
    with pytest.raises(OursError, match=r"d\.json cannot be read as a cer-other: it is larger than 50 bytes"):
        read_sealed(path, kind="cer-other", version=1, most_bytes=50, error=OursError)
    with pytest.raises(OursError, match="cannot be read"):
        read_sealed(tmp_path, kind="cer-other", version=1, error=OursError)
    with pytest.raises(OutputExistsError):
        write_sealed(path, {}, kind="cer-other", version=1, overwrite=False)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DocumentError, match="not a plain file"):
        read_sealed(tmp_path / "pipe", kind="t", version=1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "\xff"}',
        b"[" * 5000,
        b"[" * 200 + b"]" * 200,
    ],
)
def test_json_that_is_not_plain_is_refused(data):
    with pytest.raises(OursError, match=r"the list is n(ot valid JSON|ested)"):
        parse_json(data, where="the list", error=OursError)


def test_json_that_would_take_much_more_memory_than_its_file_is_refused_before_it_is_parsed(monkeypatch):
    monkeypatch.setattr(json, "loads", lambda *args, **kwargs: pytest.fail("was parsed"))
    for piece in (b"{},", b"[],", b'"",', b"0,"):
        many = piece * (documents.MOST_MEMORY // 40)
        with pytest.raises(DocumentError, match="of memory"):
            parse_json(b"[" + many[:-1] + b"]", where="x")


def test_equal_values_have_one_spelling():
    assert canonical({"b": 1, "a": ("é", 0.5)}) == '{"a":["é",0.5],"b":1}'.encode()
    with pytest.raises(ValueError):
        canonical([float("nan")])


def test_unknown_and_missing_keys_are_both_named():
    with pytest.raises(
        OursError, match=r"the card has unknown keys: 'epoch' \(did you mean 'epochs'\?.*lacks.*'epochs'"
    ):
        known_keys({"epoch": 1}, {"epochs"}, "the card", error=OursError)
    known_keys({"a": 1}, {"a"}, "the card", optional={"b"})
