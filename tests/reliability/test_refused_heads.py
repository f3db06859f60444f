"""P15: a head is used on what it learned from, and refuses all else by naming it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cer_fusion.commands import fuse
from cer_fusion.featstore import Store, import_rows
from cer_fusion.featstore.rows import files
from cer_fusion.fusion import HeadMismatchError, installed_heads, load_head, save_head
from tests.fusion.heads.conftest import CLASSES, Faces, quick_head
from tests.reliability.samples import listed

PRINTS = {"vit": "3f9c1a2b77d0" * 5, "manet": "0123456789ab" * 5}

# what differs, what a caller has, and what the refusal must say
MISMATCHES: dict[str, tuple[dict[str, Any], str]] = {
    "one column more": (
        {"blocks": {"vit": 13, "manet.local": 8, "manet.multi_scale": 8}},
        "expects vit=12.*found vit=13",
    ),
    "one column less": ({"blocks": {"vit": 12, "manet.local": 7, "manet.multi_scale": 8}}, "found .*manet.local=7"),
    "a column moved over": (
        {"blocks": {"vit": 11, "manet.local": 9, "manet.multi_scale": 8}},
        "blocks: .*in this order",
    ),
    "blocks exchanged": ({"blocks": {"vit": 12, "manet.multi_scale": 8, "manet.local": 8}}, "blocks: .*in this order"),
    "a block first": ({"blocks": {"manet.local": 8, "vit": 12, "manet.multi_scale": 8}}, "found manet.local=8, vit=12"),
    "a block less": ({"blocks": {"vit": 12, "manet.local": 8}}, "found vit=12, manet.local=8\n"),
    "a block more": (
        {"blocks": {"vit": 12, "manet.local": 8, "manet.multi_scale": 8, "hse": 4}},
        "found .*hse=4",
    ),
    "another block": ({"blocks": {"vit": 12, "manet.local": 8, "manet.global": 8}}, "found .*manet.global=8"),
    "a block renamed": ({"blocks": {"ViT": 12, "manet.local": 8, "manet.multi_scale": 8}}, "found ViT=12"),
    "one block of all": ({"blocks": {"x": 28}}, "found x=28"),
    "other weights": ({"fingerprints": {**PRINTS, "vit": "aa" * 30}}, "learned from vit@3f9c1a2b77d0, found vit@aaaa"),
    "last digit of a fingerprint": (
        {"fingerprints": {**PRINTS, "manet": PRINTS["manet"][:-1] + "0"}},
        "fingerprints: .*manet",
    ),
    "fingerprints exchanged": (
        {"fingerprints": {"vit": PRINTS["manet"], "manet": PRINTS["vit"]}},
        "learned from vit@3f9c1a2b77d0, found vit@0123456789ab",
    ),
    "fingerprint cut short": ({"fingerprints": {**PRINTS, "vit": PRINTS["vit"][:12]}}, "fingerprints: .*vit"),
    "a feature missing": ({"fingerprints": {"manet": PRINTS["manet"]}}, "found no such feature"),
    "no features": ({"fingerprints": {}}, "found no such feature"),
    "classes turned round": ({"classes": CLASSES[::-1]}, "classes: .*in this order"),
    "two classes exchanged": ({"classes": (CLASSES[1], CLASSES[0], *CLASSES[2:])}, "classes: .*in this order"),
    "a class less": ({"classes": CLASSES[:3]}, "classes: "),
    "a class more": ({"classes": (*CLASSES, "Happily_Disgusted")}, "found .*Happily_Disgusted"),
    "a class spelt otherwise": ({"classes": (*CLASSES[:3], "Sadly Angry")}, "found .*Sadly Angry"),
    "numbers for names": ({"classes": (0, 1, 2, 3)}, "found 0, 1, 2, 3"),
}


@pytest.fixture(scope="module")
def faces() -> Faces:
    return Faces(n=60)


@pytest.fixture(scope="module")
def kept(faces: Faces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one kept head of every kind."""
    root = tmp_path_factory.mktemp("heads")
    for name in installed_heads():
        head = quick_head(name, blocks=faces.widths).fit(faces.X, faces.y)
        save_head(head, root / name, fingerprints=PRINTS, class_set=CLASSES)
    return root


def test_every_head_refuses_every_mismatch_by_name(kept, figure):
    for name in installed_heads():
        load_head(kept / name, blocks=Faces(n=4).widths, fingerprints=PRINTS, classes=CLASSES)
        for asked, message in MISMATCHES.values():
            with pytest.raises(HeadMismatchError, match=message):
                load_head(kept / name, **asked)
    figure("P15", f"{len(installed_heads())} heads x {len(MISMATCHES)} mismatches: all refused by name")


@pytest.mark.parametrize("name", installed_heads())
@pytest.mark.parametrize("columns", [0, 1, 27, 29, 56])
def test_a_loaded_head_refuses_rows_of_another_width(name, columns, kept):
    with pytest.raises(ValueError, match=f"{columns} feature.*(28|minimum)"):
        load_head(kept / name).predict_proba(np.zeros((3, columns), np.float32))


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """A store with the features `one` and `two`, a linear head trained on both, and a way to run `cer-fuse`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CER_STORE", raising=False)
    store, manifest = Store.create(tmp_path / "features"), listed(tmp_path / "pictures", 42)
    for seed, name in enumerate(("one", "two")):
        rows = np.random.default_rng(seed).normal(size=(42, 6)).astype(np.float32)
        import_rows(rows, manifest.ids, manifest, store, dataset="d", name=name)

    def run(*command: str) -> Result:
        return CliRunner().invoke(fuse.app, list(command))

    assert run("train", "--head", "linear").exit_code == 0
    return run


def other_weights(root: Path) -> None:
    """The feature `two` is there, but made by something else."""
    store = Store(root / "features")
    rows = np.random.default_rng(9).normal(size=(42, 6)).astype(np.float32)
    store.feature("two").folder.rename(root / "aside")
    import_rows(rows, store.manifest("d").ids, store.manifest("d"), store, dataset="d", name="two")


def other_classes(root: Path) -> None:
    """The class list of the dataset stands in another order."""
    path = root / "features" / "d" / "manifest.json"
    body = files.read_document(path, "cer-manifest", 1)
    body["classes"]["labels"] = body["classes"]["labels"][::-1]
    files.write_document(path, "cer-manifest", 1, body)


def no_feature(root: Path) -> None:
    """The feature `two` is gone."""
    Store(root / "features").feature("two").folder.rename(root / "aside")


@pytest.mark.parametrize("command", ["evaluate", "predict"])
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (other_weights, r"has no two@\w{12}; it has two@\w{12}"),
        (no_feature, r"has no two@\w{12}; it has none of that name"),
        (other_classes, r"classes: the head 'linear' expects Fearfully Surprised, .*found "),
    ],
)
def test_the_commands_refuse_in_words(command, harm, message, trained, tmp_path):
    harm(tmp_path)
    done = trained(command, "--head", "runs/d-linear")
    assert done.exit_code == 1, done.output
    assert re.search(message, done.stderr), done.stderr
    assert "Traceback" not in done.output
    assert done.stdout == ""


def test_what_fits_is_used(trained):
    done = trained("evaluate", "--head", "runs/d-linear", "--json")
    assert done.exit_code == 0, done.output
    assert 0 <= json.loads(done.stdout)["accuracy"] <= 1
