"""P18: what any release wrote opens for ever; what a newer one writes is refused by name."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cer_fusion.featstore import Store, verify
from cer_fusion.featstore.errors import FormatError
from cer_fusion.featstore.rows import shard
from cer_fusion.fusion import SavedHeadError, installed_heads, load_head, read_head_info
from cer_fusion.kit.documents import canonical, seal, unseal
from cer_fusion.kit.errors import NewerFormatError
from tests.featstore.test_golden import EXPECTED, GOLDEN
from tests.fusion.golden_heads import kind

HEADS = sorted((Path(__file__).parents[1] / "fusion" / "golden").glob("v*"))
NEWER = 7


@pytest.mark.parametrize("folder", GOLDEN, ids=lambda path: path.name)
def test_a_store_of_every_released_format_gives_its_rows_and_verifies_clean(folder, figure):
    store = Store(folder)
    for dtype in ("float32", "float16"):
        for mapped in (False, True):
            view = store.view([f"toy_{dtype}"], mapped=mapped)
            assert view.ids == ("s0", "größe/1", "s2", "s3")
            np.testing.assert_array_equal(view.join(), EXPECTED)
    report = verify(store)
    assert report.problems == ()
    figure("P18", f"golden store {folder.name}: {report.shards} shards, {report.rows} rows as pinned, verified clean")


@pytest.mark.parametrize("folder", HEADS, ids=lambda path: path.name)
def test_a_head_of_every_released_format_gives_its_answers(folder, figure):
    rows = np.load(folder / "rows.npy")
    unopenable = {"lightgbm"} - set(installed_heads())  # the one kept head that its library must read
    names = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and path.name not in unopenable]
    for name in names:
        expected = np.load(folder / f"{name}.npy")
        np.testing.assert_allclose(load_head(folder / name).predict_proba(rows), expected, rtol=1e-6)
        assert read_head_info(folder / name).head == kind(name)
    figure("P18", f"golden heads {folder.name}: {len(names)} heads answer as pinned")


def resealed(path: Path, **changes: Any) -> None:
    """Change a document and give it the digest that it must have."""
    body = {**json.loads(path.read_bytes()), **changes}
    body.pop("digest")
    body["digest"] = hashlib.sha256(canonical(body)).hexdigest()
    path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a golden store, to be harmed."""
    return Path(shutil.copytree(request.param, tmp_path / "store"))


@pytest.mark.parametrize(
    ("document", "kind"),
    [("store.json", "cer-store"), ("faces/manifest.json", "cer-manifest"), ("faces/toy_*/feature.json", "cer-feature")],
)
def test_a_document_of_a_newer_format_is_refused_by_name(document, kind, store):
    for path in store.glob(document):
        resealed(path, format_version=NEWER)
    text = rf"{kind} version {NEWER}, made by a newer cer-fusion; this release reads version \d+\n.*upgrade"
    with pytest.raises(FormatError, match=text):
        Store(store).view(["toy_float32"])


@pytest.mark.parametrize("version", [0, -1, True, "1", 1.0, None])
@pytest.mark.parametrize("document", ["store.json", "faces/manifest.json", "faces/toy_*/feature.json"])
def test_a_version_that_is_none_is_refused(document, version, store):
    for path in store.glob(document):
        resealed(path, format_version=version)
    with pytest.raises(FormatError, match="no usable format_version"):
        Store(store).view(["toy_float32"])


@pytest.mark.parametrize("mapped", [False, True])
def test_a_shard_of_a_newer_format_is_refused_by_name(mapped, store):
    path = next(store.glob("faces/toy_float32@*/shard-*.h5"))
    line, rest = path.read_bytes().split(b"\n", 1)
    known = f"cer-shard {shard.FORMAT_VERSION} ".encode()
    assert line.startswith(known)
    path.write_bytes(line.replace(known, b"cer-shard %d " % NEWER) + b"\n" + rest)
    with pytest.raises(FormatError, match=rf"cer-shard version {NEWER}, made by a newer cer-fusion; this release"):
        Store(store).view(["toy_float32"], mapped=mapped)
    assert any(f"cer-shard version {NEWER}" in p.what or "sha256" in p.what for p in verify(Store(store)).problems)


def test_a_head_and_a_report_of_a_newer_format_are_refused_by_name(tmp_path, figure):
    for folder in HEADS:
        kept = Path(shutil.copytree(folder / "linear", tmp_path / folder.name))
        resealed(kept / "head.json", format_version=NEWER)
        with pytest.raises(SavedHeadError, match=f"cer-head version {NEWER}, made by a newer cer-fusion"):
            load_head(kept)
    with pytest.raises(
        NewerFormatError,
        match=rf"is cer-report version {NEWER}, made by a newer cer-fusion",
    ):
        unseal(seal({}, kind="cer-report", version=NEWER), kind="cer-report", version=1)
    figure(
        "P18", "store.json, manifest.json, feature.json, shards, heads and reports of a newer format: refused by name"
    )


def test_there_are_golden_files_of_every_format_version():
    """Whoever raises a version writes what the test above reads: shards of every one, heads of the one that is read."""
    from cer_fusion.fusion.keeping.head import FORMAT_VERSION as HEAD_VERSION

    assert {path.name.partition("-")[0] for path in GOLDEN} == {f"v{n}" for n in range(1, shard.FORMAT_VERSION + 1)}
    assert {path.name for path in HEADS} == {f"v{HEAD_VERSION}"}
