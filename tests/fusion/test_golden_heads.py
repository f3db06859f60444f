"""Heads kept by every released format version open and answer as on the day they were made."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from cer_fusion.fusion import HeadMismatchError, SavedHeadError, head_names, load_head, read_head_info, save_head
from cer_fusion.fusion.heads import installed_heads
from cer_fusion.fusion.keeping.head import FORMAT_VERSION
from tests.fusion.golden_heads import BLOCKS, CLASSES, GOLDEN, PRINTS, SETTINGS, kind
from tests.fusion.keeping.test_saved import resealed

VERSIONS = (FORMAT_VERSION,)
every_golden_head = pytest.mark.parametrize(
    ("version", "name"),
    [
        pytest.param(
            version,
            name,
            marks=pytest.mark.skipif(
                name == "lightgbm" and name not in installed_heads(), reason="lightgbm is not installed"
            ),
        )
        for version in VERSIONS
        for name in SETTINGS
        if (GOLDEN / f"v{version}" / name).is_dir()  # heads are younger than formats
    ],
)


def test_there_is_a_golden_head_of_every_kind():
    assert {kind(name) for name in SETTINGS} == set(head_names())
    assert {path.name for path in GOLDEN.iterdir()} == {f"v{version}" for version in VERSIONS}
    assert {path.name for path in (GOLDEN / f"v{FORMAT_VERSION}").iterdir() if path.is_dir()} == set(SETTINGS)


@every_golden_head
def test_a_golden_head_answers_as_on_the_day_it_was_made(version, name):
    folder = GOLDEN / f"v{version}"
    head = load_head(folder / name, blocks=BLOCKS, fingerprints=PRINTS, classes=CLASSES)
    found = head.predict_proba(np.load(folder / "rows.npy"))
    np.testing.assert_allclose(found, np.load(folder / f"{name}.npy"), rtol=1e-6)


@every_golden_head
def test_a_golden_head_still_knows_what_it_learned_from(version, name):
    info = read_head_info(GOLDEN / f"v{version}" / name)
    assert (info.head, dict(info.blocks), info.class_set, info.fingerprints) == (kind(name), BLOCKS, CLASSES, PRINTS)
    assert (info.seed, info.classes, info.extra) == (7, (0, 1, 2), {"dataset": "faces"})
    assert {"python", "numpy", "scikit-learn", "scipy"} <= set(info.versions)
    assert info.threads


@every_golden_head
def test_a_golden_head_refuses_what_it_did_not_learn_from(version, name):
    with pytest.raises(HeadMismatchError, match="fingerprints"):
        load_head(GOLDEN / f"v{version}" / name, fingerprints={**PRINTS, "vit": "ff"})


@every_golden_head
def test_a_golden_head_kept_again_is_of_todays_format_and_answers_alike(version, name, tmp_path):
    folder = GOLDEN / f"v{version}"
    head, rows = load_head(folder / name), np.load(folder / "rows.npy")
    info = save_head(head, tmp_path / "again", fingerprints=PRINTS, class_set=CLASSES)
    assert info.threads == read_head_info(folder / name).threads
    np.testing.assert_array_equal(load_head(tmp_path / "again").predict_proba(rows), head.predict_proba(rows))


def test_a_head_of_an_older_format_or_a_field_short_is_refused_by_name(tmp_path):
    folder = shutil.copytree(GOLDEN / f"v{FORMAT_VERSION}" / "linear", tmp_path / "head")
    resealed(folder, format_version=1)
    with pytest.raises(SavedHeadError, match="cer-head version 1, made by an older cer-fusion"):
        load_head(folder)
    resealed(folder, format_version=FORMAT_VERSION, faces=1)
    with pytest.raises(SavedHeadError, match="unknown keys: 'faces'"):
        load_head(folder)
