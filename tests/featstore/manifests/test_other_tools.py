"""One list as ten programs write it is one manifest."""

from __future__ import annotations

import csv
import io

import pytest

from cer_fusion.featstore import Manifest, Store
from cer_fusion.featstore.manifests import manifest as manifests
from cer_fusion.featstore.manifests import sidecar as sidecars

ROWS = [
    ("sample_id", "path", "label", "split", "group"),
    ("7", "a/1.png", "Sad", "train", "v1"),
    ("08", "b, c/2.png", "", "test", ""),
    ("é", 'said "so".png', "Happy", "train", "v2"),
    ("x", "x.png", "Happy", "", ""),
]


def text_of(**dialect) -> str:
    out = io.StringIO()
    csv.writer(out, **{"lineterminator": "\n", **dialect}).writerows(ROWS)
    return out.getvalue()


FORMS = {
    "ours": text_of().encode(),
    "without a last line end": text_of().rstrip("\n").encode(),
    "Excel, UTF-8": text_of(lineterminator="\r\n").encode("utf-8-sig"),
    "Excel, semicolons": text_of(lineterminator="\r\n", delimiter=";").encode("utf-8-sig"),
    "Excel, Unicode text": text_of(lineterminator="\r\n", delimiter="\t").encode("utf-16"),
    "old Mac": text_of(lineterminator="\r").encode(),
    "R, all quoted": text_of(quoting=csv.QUOTE_ALL).encode(),
    "with blank lines": text_of().replace("\n", "\n\n").encode(),
    "pandas with its index": "".join(
        f"{number},{line}\n" for number, line in zip(["", 0, 1, 2, 3], text_of().splitlines(), strict=True)
    ).encode(),
    "pandas, NaN for nothing": text_of().replace(",,test,", ",NaN,test,NaN").encode(),
}


@pytest.mark.parametrize("data", FORMS.values(), ids=FORMS)
def test_one_list_in_the_forms_of_many_programs_is_one_manifest_in_the_store(tmp_path, data, monkeypatch):
    monkeypatch.setattr(manifests, "BLOCK_ROWS", 2)
    monkeypatch.setattr(sidecars, "BLOCK_ROWS", 2)
    (tmp_path / "faces.csv").write_bytes(data)
    store = Store.create(tmp_path / "store")
    store.use_manifest("d", Manifest.read(tmp_path / "faces.csv"))
    assert (tmp_path / "store/d/manifest.csv").read_bytes() == text_of().encode()
    assert store.sealed_manifest("d").is_made_from(tmp_path / "faces.csv", None)
    assert [*store.manifest("d").samples] == [*map(tuple, ROWS[1:])]
