"""Files made by somebody who knows the formats: what lies in wait, and which call walks into it.

Every attack is a function that changes a copy of a good folder. Digests are right where an attacker can make them so.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cer_fusion.kit.documents import canonical
from tests.backbones.test_unpickle import Reduced
from tests.featstore.rows.test_shard import rewritten
from tests.fusion.keeping.test_saved import resealed

Attack = Callable[[Path], None]
ARRAYS = "head.safetensors"
DEPTH = 100_000
MIB = 2**20


def payload(root: Path) -> bytes:
    """A pickle that leaves a mark when it is loaded."""
    return pickle.dumps(Reduced(os.mkdir, str(root / "it ran")))


def head(name: str, **changes: Any) -> Attack:
    """A head whose description says other things, with a right digest."""
    return lambda root: resealed(root / "heads" / name, **changes)


def head_file(name: str, file: str, make: Callable[[Path], bytes], *, right_digest: bool = True) -> Attack:
    """A head with another file in the place of one of its own."""

    def attack(root: Path) -> None:
        data = make(root)
        files = json.loads((root / "heads" / name / "head.json").read_bytes())["files"]
        (root / "heads" / name / file).write_bytes(data)
        if right_digest and file in files:
            files[file] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            resealed(root / "heads" / name, files=files)

    return attack


def link(root: Path) -> None:
    """The arrays are a link to a file elsewhere."""
    arrays = root / "heads" / "linear" / "head.safetensors"
    arrays.rename(root / "elsewhere")
    arrays.symlink_to(root / "elsewhere")


def pipe(file: str) -> Attack:
    """A named pipe, which makes whoever opens it wait for ever."""

    def attack(root: Path) -> None:
        path = next(root.glob(file))
        path.unlink()
        os.mkfifo(path)

    return attack


def sparse(root: Path) -> None:
    """Arrays of a gigabyte that take no room on the disk, of the length that the description gives."""
    path = root / "heads" / "linear" / "head.safetensors"
    os.truncate(path, 2**30)
    resealed(root / "heads" / "linear", files={path.name: {"bytes": 2**30, "sha256": "0" * 64}})


def text(file: str, data: bytes) -> Attack:
    """Other bytes in the place of a document."""
    return lambda root: next(root.glob(file)).write_bytes(data) and None


def document(file: str, **changes: Any) -> Attack:
    """A document of the store that says other things, with a right digest."""

    def attack(root: Path) -> None:
        for path in root.glob(file):
            body = {**json.loads(path.read_bytes()), **changes}
            body.pop("digest")
            try:
                body["digest"] = hashlib.sha256(canonical(body)).hexdigest()
            except ValueError:  # what has no canonical spelling has no digest either
                body["digest"] = "0" * 64
            path.write_text(json.dumps(body))

    return attack


def shard(change: Callable[[dict[str, Any]], Any]) -> Attack:
    """Shards whose headers say other things, with a right digest."""

    def attack(root: Path) -> None:
        for path in root.glob("store/d/toy@*/shard-*.h5"):
            rewritten(path, change)

    return attack


def segment(name: str, **changes: Any) -> Attack:
    """Shards of which one dataset is described otherwise."""
    return shard(lambda header: header["segments"][name].update(changes))


def endless_rows(header: dict[str, Any]) -> None:
    """A million million rows without width: no bytes, and yet an array of them."""
    header.update(rows=10**12, chunk_rows=10**12)
    for part in header["segments"].values():
        part.update(shape=[10**12, 0] if len(part["shape"]) > 1 else [10**12], xxh3_128=["0" * 32])
    for name in ("ids", "image_digest"):
        header["segments"][name].update(dtype="S0")


def wrapped_rows(header: dict[str, Any]) -> None:
    """2**32 rows of 2**32 columns: their number is 0 in 64 bits."""
    header.update(rows=2**32, chunk_rows=2**24)
    for part in header["segments"].values():
        part.update(shape=[2**32, 2**32][: len(part["shape"])], xxh3_128=["0" * 32] * 256)


def negative_rows(header: dict[str, Any]) -> None:
    """One row less than none."""
    header.update(rows=-1)
    for part in header["segments"].values():
        part.update(shape=[-1, *part["shape"][1:]], xxh3_128=[])


def overlapping(header: dict[str, Any]) -> None:
    """Two blocks that are the same bytes of the file."""
    parts = header["segments"]
    parts["blocks/right"].update(offset=parts["blocks/left"]["offset"])


def long_shard_header(root: Path) -> None:
    """A header of many small lists, 60 MiB of text and over a gigabyte of lists."""
    path = next(root.glob("store/d/toy@*/shard-*.h5"))
    body = b'{"a": [' + b"[]," * (20 * MIB) + b"[]]}"
    line = b"cer-shard 1 %s %d\n" % (hashlib.sha256(body).hexdigest().encode(), len(body))
    path.write_bytes(line + body)


def huge_npy(root: Path) -> None:
    """An array that claims a hundred million million numbers, and has twelve."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**13, 10)})
    (root / "rows.npy").write_bytes(file.getvalue() + bytes(48))


def zip_bomb(root: Path) -> None:
    """A picture of a megabyte in a zip file that unpacks to a gigabyte of zeros."""
    with (
        zipfile.ZipFile(root / "pictures.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("0.png", "w", force_zip64=True) as member,
    ):
        for _ in range(1024 // 64):
            member.write(bytes(64 * MIB))


def object_array(root: Path) -> None:
    """Rows that are Python objects, which NumPy unpickles where it is allowed to."""
    np.save(
        root / "rows.npy", np.array([Reduced(os.mkdir, str(root / "it ran"))] * 12, dtype=object), allow_pickle=True
    )


def disguised(root: Path) -> None:
    """A pickle that is called rows.npy."""
    (root / "rows.npy").write_bytes(payload(root))


TENSORS = b'{"coef":{"dtype":"F32","shape":[4,1000000000000],"data_offsets":[0,16000000000000]}}'
HEADS: dict[str, Attack] = {
    "a file outside the folder": head("linear", files={"../other/head.safetensors": {"bytes": 1, "sha256": ""}}),
    "a file of the system": head("linear", files={"/etc/passwd": {"bytes": 1, "sha256": ""}}),
    "a pickle among the files": head("linear", files={"head.pkl": {"bytes": 1, "sha256": ""}}),
    "a link out of the folder": link,
    "a pipe for a description": pipe("heads/linear/head.json"),
    "a pipe for arrays": pipe("heads/linear/head.safetensors"),
    "arrays of a gigabyte that are none": sparse,
    "a tensor of 16 TB": head_file("linear", ARRAYS, lambda _: len(TENSORS).to_bytes(8, "little") + TENSORS),
    "a tensor header of 2**60 bytes": head_file("linear", ARRAYS, lambda _: (2**60).to_bytes(8, "little") + b"{}"),
    "a tensor header nested deep": head_file(
        "linear", ARRAYS, lambda _: DEPTH.to_bytes(8, "little") + b"[" * DEPTH
    ),
    "a pickle for arrays": head_file("linear", ARRAYS, payload),
    "a pickle for a description": head_file("linear", "head.json", payload),
    "a description nested deep": head_file("linear", "head.json", lambda _: b'{"a":' * DEPTH),
    "a description of 100 MiB": head_file("linear", "head.json", lambda _: b" " * (100 * MIB)),
    "a key twice": head_file("linear", "head.json", lambda _: b'{"format": "cer-head", "format": "cer-head"}'),
    "another head's class": head("linear", head="mlp"),
    "a head that is a module": head("linear", head="os:system"),
    "trees for a line": head("linear", head="histgb"),
    "a network of a million units": head("mlp", params={"hidden": [10**6, 10**6], "epochs": 1, "members": 2}),
    "a million members": head("mlp", params={"hidden": [16], "epochs": 1, "members": 10**6}),
    "a network of a million layers": head("tokens", params={"width": 8, "layers": 10**6, "attention_heads": 2}),
    "a network wider than memory": head("gated", params={"width": 10**12}),
    "tensors larger than memory": head("tabm", params={"hidden": [10**6, 10**6], "members": 10**3}),
    "a million columns": head("linear", blocks=[["x", 2**20]]),
    "a trillion columns": head("linear", blocks=[["x", 10**12]]),
    "noise for a booster": head_file("xgboost", "booster.ubj", lambda _: os.urandom(4000), right_digest=False),
    "a pickle for a booster": head_file("xgboost", "booster.ubj", payload, right_digest=False),
}  # fmt: skip

NUMBER = b'{"format": "%s", "format_version": 1, "digest": "", "x": %s}'
REPORTS: dict[str, Attack] = {
    "a report nested deep": text("report.json", b"[" * DEPTH),
    "a report with a key twice": text("report.json", NUMBER % (b"cer-report", b'1, "x": 1')),
    "a report with NaN": text("report.json", NUMBER % (b"cer-report", b"NaN")),
    "a report with 1e999": text("report.json", NUMBER % (b"cer-report", b"1e999")),
    "a report with a number of 5,000 digits": text("report.json", NUMBER % (b"cer-report", b"9" * 5000)),
    "a report with half a character": text("report.json", NUMBER % (b"cer-report", b'"\\ud800"')),
    "a report of many small lists": text("report.json", b"[" + b"[]," * (20 * MIB) + b"[]]"),
    "a report of many small objects": text("report.json", b"[" + b'{"a":1},' * (6 * MIB) + b"[]]"),
    "a report in UTF-16": text("report.json", '{"format": "cer-report"}'.encode("utf-16")),
    "a pipe for a report": pipe("report.json"),
}

SECOND = "store/d/toy@*/shard-00001-*.h5"
STORES: dict[str, Attack] = {
    "a pipe for a document": pipe("store/store.json"),
    "a pipe for a shard": pipe(SECOND),
    "a document nested deep": text("store/d/toy@*/feature.json", b'{"a":' * DEPTH),
    "a document of many small lists": text("store/d/toy@*/feature.json", b'{"a": [' + b"[]," * (5 * MIB) + b"[]]}"),
    "a document of 100 MiB": text("store/d/toy@*/feature.json", b" " * (100 * MIB)),
    "a document with a key twice": text("store/store.json", NUMBER % (b"cer-store", b'1, "x": 1')),
    "a document with 1e999": text("store/store.json", NUMBER % (b"cer-store", b"1e999")),
    "a document with NaN": text("store/store.json", NUMBER % (b"cer-store", b"NaN")),
    "a document with half a character": text("store/store.json", NUMBER % (b"cer-store", b'"\\ud800"')),
    "a document with a number of 5,000 digits": text("store/store.json", NUMBER % (b"cer-store", b"9" * 5000)),
    "a block called by a path": document("store/d/toy@*/feature.json", blocks=[["../../../etc", 4], ["right", 3]]),
    "a feature called by a path": document("store/d/toy@*/feature.json", name="../up"),
    "a block without width": document("store/d/toy@*/feature.json", blocks=[["left", 0], ["right", 3]]),
    "a block of a trillion columns": document("store/d/toy@*/feature.json", blocks=[["left", 10**12], ["right", 3]]),
    "a feature of objects": document("store/d/toy@*/feature.json", dtype="object"),
    "a shard header of 60 MiB": long_shard_header,
    "a shard header that claims 999 MB": text(SECOND, b"cer-shard 1 %s 999999999\n" % (b"0" * 64)),
    "a million million rows": segment("blocks/left", shape=[10**12, 4]),
    "rows without width": shard(endless_rows),
    "rows that wrap around": shard(wrapped_rows),
    "less rows than none": shard(negative_rows),
    "a block before the file": segment("blocks/left", offset=-4096),
    "a block within the header": segment("blocks/left", offset=0),
    "a block behind the file": segment("blocks/left", offset=2**62),
    "blocks that overlap": shard(overlapping),
    "a block of objects": segment("blocks/left", dtype="O"),
    "a block of records": segment("blocks/left", dtype="f4,f4"),
    "a block of texts": segment("blocks/left", dtype="S4"),
    "ids that are numbers": segment("ids", dtype="<f4"),
    "ids in two columns": segment("ids", shape=[8, 1]),
    "chunks of no rows": shard(lambda header: header.update(chunk_rows=0)),
    "chunks of 10**30 rows": shard(lambda header: header.update(chunk_rows=10**30)),
    "fewer digests than chunks": segment("blocks/left", xxh3_128=[]),
    "digests that are numbers": segment("blocks/left", xxh3_128=[7]),
    "a quarantine of numbers": shard(lambda header: header.update(quarantined=[7])),
    "a generation without end": shard(lambda header: header.update(generation=1e308)),
}  # fmt: skip

IMPORTS: dict[str, Attack] = {
    "rows that are objects": object_array,
    "a pickle called rows.npy": disguised,
    "rows that claim 4 PB": huge_npy,
    "a picture that unpacks to a gigabyte": zip_bomb,
}
