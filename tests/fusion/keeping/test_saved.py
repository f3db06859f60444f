"""Heads in folders: the same answers after a round trip, and no use of anything damaged, foreign or hostile."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl

from cer_fusion.fusion import HeadMismatchError, SavedHeadError, load_head, read_head_info, save_head
from cer_fusion.fusion.heads import head_settings, installed_heads
from cer_fusion.fusion.keeping.head import decoded, encoded
from cer_fusion.kit import canonical
from cer_fusion.kit.documents import _rendered
from tests.fusion.heads.conftest import CLASSES, QUICK, Faces, every_head, quick_head

PRINTS = {"vit": "3f9c1a2b77d0" * 5, "manet": "0123456789ab" * 5}


def fitted(name: str, faces: Faces, **params):
    return quick_head(name, blocks=faces.widths, **params).fit(faces.X, faces.y)


def resealed(folder: Path, **changes) -> None:
    """Edit `head.json` as an attacker would: with a digest that matches."""
    body = json.loads((folder / "head.json").read_bytes())
    body.update(changes)
    body.pop("digest")
    body["digest"] = hashlib.sha256(canonical(body)).hexdigest()
    (folder / "head.json").write_bytes(_rendered(body))


@pytest.fixture(scope="module")
def faces() -> Faces:
    return Faces()


@pytest.fixture(scope="module")
def kept_heads(faces, tmp_path_factory):
    root = tmp_path_factory.mktemp("heads")
    for name in installed_heads():
        save_head(fitted(name, faces), root / name, fingerprints=PRINTS, class_set=CLASSES)
    return root


@pytest.fixture
def kept(kept_heads, tmp_path):
    """A copy of the linear head's folder, to be harmed."""
    return Path(shutil.copytree(kept_heads / "linear", tmp_path / "kept"))


@every_head
def test_a_kept_head_answers_as_before(name, kept_heads, faces):
    head = fitted(name, faces)
    loaded = load_head(kept_heads / name, blocks=faces.widths, fingerprints=PRINTS, classes=CLASSES)
    np.testing.assert_array_equal(loaded.predict_proba(faces.X), head.predict_proba(faces.X))
    np.testing.assert_array_equal(loaded.predict(faces.X), head.predict(faces.X))
    assert loaded.get_params() == {**head.get_params(), "random_state": head.seed_}


@every_head
def test_equal_data_and_seed_give_equal_bytes(name, faces, tmp_path):
    for number in range(2):
        save_head(fitted(name, faces), tmp_path / str(number), fingerprints=PRINTS)
    for path in (tmp_path / "0").iterdir():
        assert path.read_bytes() == (tmp_path / "1" / path.name).read_bytes(), path.name


@every_head
def test_two_classes_survive_too(name, faces, tmp_path):
    head = quick_head(name, blocks=faces.widths).fit(faces.X, faces.names[faces.y % 2])
    save_head(head, tmp_path / "head", fingerprints={})
    loaded = load_head(tmp_path / "head")
    np.testing.assert_array_equal(loaded.predict_proba(faces.X), head.predict_proba(faces.X))
    assert loaded.classes_.tolist() == head.classes_.tolist()


@pytest.mark.parametrize("member", ["mlp", "xgboost", "histgb"])
def test_members_within_a_head_are_kept_with_it(member, faces, tmp_path):
    params = {"mlp": {"hidden": (4,), "epochs": 2}, "xgboost": {"trees": 3, "threads": 1}, "histgb": {"trees": 3}}[
        member
    ]
    head = fitted(
        "late", faces, member=member, member_params=params, calibrate=False, weights=dict.fromkeys(faces.widths, 1)
    )
    save_head(head, tmp_path / "head", fingerprints=PRINTS)
    np.testing.assert_array_equal(load_head(tmp_path / "head").predict_proba(faces.X), head.predict_proba(faces.X))


def test_a_head_remembers_what_it_learned_from(kept):
    info = read_head_info(kept)
    assert info.head == "linear"
    assert info.fingerprints == PRINTS
    assert info.blocks == (("vit", 12), ("manet.local", 8), ("manet.multi_scale", 8))
    assert info.classes == (0, 1, 2, 3)
    assert info.class_set == CLASSES
    assert "scikit-learn" in info.versions
    assert info.threads == fit_threads("linear")


BOOSTED = ("xgboost", "lightgbm", "catboost")


def fit_threads(name: str) -> dict[str, int]:
    """What the quick head of this name computes with, as asked of the libraries themselves."""
    found: dict[str, int] = {}
    for pool in threadpoolctl.threadpool_info():
        if not any(name in pool["filepath"] for name in ("torch", *BOOSTED)):
            found[pool["user_api"]] = pool["num_threads"]
    own = {"torch": 1} if "epochs" in head_settings(name) else {name: 1} if name in BOOSTED else {}
    own |= {"openmp": 1} if name == "histgb" else {}
    if "threads" in QUICK[name]:  # all that computes in it has the one
        found = dict.fromkeys(found, 1)
    return found | own


@every_head
def test_a_head_remembers_the_threads_it_was_fitted_with(name, kept_heads, tmp_path):
    assert read_head_info(kept_heads / name).threads == fit_threads(name)
    again = save_head(load_head(kept_heads / name), tmp_path / "again", fingerprints=PRINTS)
    assert again.threads == fit_threads(name)


def test_the_threads_recorded_are_those_of_the_fit_and_not_of_the_keeping(faces, tmp_path):
    with threadpoolctl.threadpool_limits(limits=1):
        head = fitted("linear", faces)
    assert save_head(head, tmp_path / "head", fingerprints=PRINTS).threads == {"blas": 1, "openmp": 1}


def test_the_threads_of_members_are_remembered_too(faces):
    head = fitted("late", faces, member="mlp", member_params={"hidden": (4,), "epochs": 1, "threads": 1})
    assert head.fit_threads_["torch"] == 1


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"blocks": {"vit": 12, "manet.multi_scale": 8, "manet.local": 8}}, "blocks: .* in this order"),
        ({"blocks": {"vit": 13, "manet.local": 8, "manet.multi_scale": 8}}, "found vit=13"),
        ({"blocks": {"vit": 12, "manet.local": 8}}, "blocks: "),
        ({"fingerprints": {**PRINTS, "manet": "ffff"}}, "fingerprints: .*manet@0123456789ab, found manet@ffff"),
        ({"fingerprints": {"vit": PRINTS["vit"]}}, "found no such feature"),
        ({"classes": tuple(reversed(CLASSES))}, "classes: .* in this order"),
        ({"classes": CLASSES[:3]}, "classes: "),
    ],
)
def test_a_head_refuses_other_widths_other_features_and_another_class_order(asked, message, kept):
    with pytest.raises(HeadMismatchError, match=message):
        load_head(kept, **asked)


def test_a_head_kept_without_fingerprints_is_not_taken_for_any_features_own(faces, tmp_path):
    save_head(fitted("linear", faces), tmp_path / "head", fingerprints={"vit": PRINTS["vit"]})
    with pytest.raises(HeadMismatchError, match=r"without the fingerprint of block 'manet\.local'.*knows: vit"):
        load_head(tmp_path / "head", fingerprints=PRINTS)
    load_head(tmp_path / "head", blocks=faces.widths)


def test_features_a_head_does_not_know_are_no_fault(kept):
    load_head(kept, fingerprints={**PRINTS, "resnet50": "abcd"})


@every_head
def test_no_flipped_byte_goes_unseen(name, kept_heads, tmp_path):
    folder = Path(shutil.copytree(kept_heads / name, tmp_path / "harmed"))
    random = np.random.default_rng(0)
    for path in folder.iterdir():
        whole = path.read_bytes()
        for place in random.integers(0, len(whole), size=25):
            harmed = bytearray(whole)
            harmed[place] ^= 1 << int(random.integers(8))
            path.write_bytes(harmed)
            with pytest.raises(SavedHeadError):
                load_head(folder)
        path.write_bytes(whole)
    load_head(folder)


@every_head
@pytest.mark.parametrize("cut", [0, 7, 0.5, -1])
def test_no_cut_file_is_read(name, cut, kept_heads, tmp_path):
    folder = Path(shutil.copytree(kept_heads / name, tmp_path / "harmed"))
    for path in folder.iterdir():
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * cut) if isinstance(cut, float) else cut])
        with pytest.raises(SavedHeadError):
            load_head(folder)
        path.write_bytes(whole + b"x")
        with pytest.raises(SavedHeadError):
            load_head(folder)
        path.write_bytes(whole)


def test_a_missing_file_or_folder_is_named(kept, tmp_path):
    with pytest.raises(SavedHeadError, match="no head was kept in this folder"):
        load_head(tmp_path / "nowhere")
    (kept / "head.safetensors").unlink()
    with pytest.raises(SavedHeadError, match=r"head\.safetensors is not there"):
        load_head(kept)


def test_a_newer_format_is_refused_by_its_number(kept):
    resealed(kept, format_version=3)
    with pytest.raises(SavedHeadError, match="cer-head version 3, made by a newer cer-fusion"):
        load_head(kept)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("code from the file ran",))


@pytest.mark.parametrize(
    "changes",
    [
        {"unknown": 1},
        {"format": "cer-store"},
        {"format_version": True},
        {"format_version": "1"},
        {"head": "os:system"},
        {"head": 3},
        {"params": {"C": 1.0, "unknown": 2}},
        {"params": {"C": "x" * 100, "standardize": []}},
        {"params": []},
        {"seed": "0"},
        {"seed": True},
        {"blocks": []},
        {"blocks": [["vit", 28], ["vit", 28]]},
        {"blocks": [["vit", 10**12]]},
        {"blocks": [["vit", -1]]},
        {"blocks": [["vit", 27]]},
        {"classes": [0]},
        {"classes": [0, "a"]},
        {"classes": [[], {}]},
        {"classes": list(range(9))},
        {"class_set": "abc"},
        {"fingerprints": {"vit": 1}},
        {"versions": {"numpy": 2}},
        {"threads": []},
        {"threads": {"blas": "2"}},
        {"threads": {"blas": True}},
        {"threads": {"blas": 0}},
        {"format_version": 1},
        {"values": {}},
        {"files": {}},
        {"files": {"../head.safetensors": {"bytes": 1, "sha256": ""}}},
        {"files": {"/etc/passwd": {"bytes": 1, "sha256": ""}}},
        {"files": {"head.pkl": {"bytes": 1, "sha256": ""}}},
        {"files": {"head.safetensors": {"bytes": 10**18, "sha256": ""}}},
        {"files": {"head.safetensors": {"bytes": -1, "sha256": ""}}},
        {"files": {"head.safetensors": "abc"}},
    ],
    ids=str,
)
def test_a_hostile_description_is_refused_even_with_a_matching_digest(changes, kept):
    resealed(kept, **changes)
    with pytest.raises(SavedHeadError):
        load_head(kept)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"format": "cer-head", "format": "cer-head"}',
        b'{"format": "cer-head", "format_version": 1, "seed": NaN, "digest": ""}',
        b'{"format": "cer-head", "format_version": 1, "seed": 1e999, "digest": ""}',
        b'{"format": "cer-head", "format_version": 1, "seed": ' + b"9" * 6000 + b', "digest": ""}',
        b'{"format": "cer-head", "format_version": 1, "seed": "\\ud800", "digest": ""}',
        b"\xff\xfe\x00",
        b" " * (2 * 2**20),
        pickle.dumps(Trap()),
    ],
    ids=lambda data: repr(data[:40]),
)
def test_hostile_json_is_refused(data, kept):
    (kept / "head.json").write_bytes(data)
    with pytest.raises(SavedHeadError):
        load_head(kept)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        (2**40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (200).to_bytes(8, "little")
        + b'{"coef":{"dtype":"F64","shape":[4,1000000000000],"data_offsets":[0,8]}}'.ljust(200),
        pickle.dumps(Trap()),
    ],
    ids=["empty", "endless header", "long header", "nothing inside", "huge array", "pickle"],
)
def test_hostile_arrays_are_refused_even_with_a_matching_digest(data, kept):
    (kept / "head.safetensors").write_bytes(data)
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    resealed(kept, files={"head.safetensors": entry})
    with pytest.raises(SavedHeadError):
        load_head(kept)


def test_a_link_in_the_place_of_a_file_is_not_followed(kept, tmp_path):
    (kept / "head.safetensors").rename(tmp_path / "elsewhere")
    (kept / "head.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SavedHeadError, match="is not there"):
        load_head(kept)


def test_what_is_there_is_overwritten_only_when_asked(kept, faces):
    head = fitted("linear", faces, C=0.5)
    with pytest.raises(SavedHeadError, match="holds a head already"):
        save_head(head, kept, fingerprints=PRINTS)
    assert read_head_info(kept).params["C"] != 0.5
    save_head(head, kept, fingerprints=PRINTS, overwrite=True)
    assert read_head_info(kept).params["C"] == 0.5
    assert [path.name for path in kept.parent.iterdir()] == ["kept"]


def test_a_folder_of_other_things_is_never_replaced(tmp_path, faces):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SavedHeadError, match="no head's"):
        save_head(fitted("linear", faces), tmp_path, fingerprints={}, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_interrupted_write_leaves_nothing_behind(kept, faces, monkeypatch):
    before = {path.name: path.read_bytes() for path in kept.iterdir()}

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cer_fusion.fusion.keeping.head.os.fsync", full)
    for folder in (kept, kept.parent / "new"):
        with pytest.raises(SavedHeadError, match="No space left on device"):
            save_head(fitted("linear", faces), folder, fingerprints={}, overwrite=True)
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert [path.name for path in kept.parent.iterdir()] == ["kept"]


def test_an_empty_folder_is_taken(tmp_path, faces):
    save_head(fitted("linear", faces), tmp_path, fingerprints={})
    load_head(tmp_path)


def test_what_is_no_json_cannot_be_kept(tmp_path, faces):
    with pytest.raises(SavedHeadError, match="cannot be kept as JSON"):
        save_head(fitted("linear", faces), tmp_path / "head", fingerprints={}, extra={"score": float("nan")})
    assert not (tmp_path / "head").exists()


def test_extra_facts_come_back(tmp_path, faces):
    info = save_head(fitted("linear", faces), tmp_path / "head", fingerprints={}, extra={10: "ten", 9: (1, 2)})
    assert read_head_info(tmp_path / "head") == info
    assert info.extra == {"10": "ten", "9": [1, 2]}


@pytest.mark.parametrize("value", [{"a": 1}, {0: 2.0, 1: 3.0}, {"pairs": 1}, (1, (2, 3)), None, "x", {"a": {0: 1}}])
def test_settings_survive_json(value):
    assert decoded(json.loads(json.dumps(encoded(value)))) == value


def test_class_weights_by_integer_label_are_kept(tmp_path, faces):
    head = fitted("linear", faces, class_weight={0: 2.0, 3: 0.5})
    save_head(head, tmp_path / "head", fingerprints={})
    assert load_head(tmp_path / "head").class_weight == {0: 2.0, 3: 0.5}
