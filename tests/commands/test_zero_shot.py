from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cer_fusion.featstore import FeatureSpec, Manifest, Sample, Store, class_set
from cer_fusion.featstore.rows.shard import Rows as ShardRows
from cer_fusion.fusion import Report

BASIC = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
ROOTS = ("ang", "disgust", "fear", "happ", "sad", "surprise")


def direction(label: str) -> np.ndarray:
    """A basic expression has an axis of its own, a compound lies between those of its two components."""
    return np.array([float(root in label.lower()) for root in ROOTS])


def keep(manifest: Manifest, dataset: str, digests: list[str], tap: int = 0) -> None:
    """Rows of one feature in the default store, made from pictures with these digests."""
    store = Store.create("features")
    noise = np.random.default_rng(len(manifest)).normal(size=(len(manifest), 6))
    rows = (3 * np.stack([direction(sample.label) for sample in manifest.samples]) + noise).astype(np.float32)
    spec = FeatureSpec(name="toy", identity={"tap": tap}, blocks={"rows": 6}, dtype="float32", described={})
    store.use_manifest(dataset, manifest)
    feature = store.create_feature(dataset, spec)
    feature.commit(
        ShardRows(ids=list(manifest.ids), image_digests=digests, blocks={"rows": rows}), index=0, generation=0
    )


def basic(*labels: str) -> Manifest:
    samples = tuple(Sample(sample_id=str(i), path=f"{i}.png", label=label.title()) for i, label in enumerate(labels))
    return Manifest(samples=samples, classes=class_set("basic8"), root=Path())


@pytest.fixture
def both(run, faces, tmp_path) -> Path:
    """A store with `faces` and `basic` in one feature; the first two basic pictures are a test and a training face."""
    listed = Manifest.read(faces)
    digests = [f"face {sample.sample_id}" for sample in listed.samples]
    keep(listed, "faces", digests)
    first = [
        next(d for d, sample in zip(digests, listed.samples, strict=True) if sample.split == s)
        for s in ("test", "train")
    ]
    keep(basic(*BASIC * 4), "basic", [*first, *(f"picture {i}" for i in range(22))])
    return tmp_path


def words(result) -> str:
    return " ".join(result.stderr.replace("│", " ").split())


def test_a_head_of_basic_expressions_stands_beside_trained_heads_with_intervals_and_tests(run, both):
    result = run(
        "cer-fuse compare -d faces --heads linear --zero-shot basic --rules sum,product --baseline linear "
        "--set zero-shot.C=0.5 --figure none -o r.json"
    )
    assert "zero-shot: learning from 23 rows of basic" in result.stderr
    assert "zero-shot product" in result.stdout
    found = Report.load(both / "r.json")
    assert [column.name for column in found.columns] == ["linear", "zero-shot sum", "zero-shot product"]
    column = found.column("zero-shot product")
    assert column.versus is not None
    assert column.params["C"] == 0.5
    assert column.scores.accuracy > 0.5
    assert "from no compound label" in " ".join(found.notes)


def test_basic_pictures_that_are_judged_are_left_out_aloud_and_those_that_are_not_stay(run, both):
    told = run("cer-fuse compare -d faces --heads linear --zero-shot basic --figure none").stderr
    assert "1 pictures of basic are among the rows to be judged" in told
    folds = run("cer-fuse compare -d faces --heads linear --zero-shot basic --cv 2 --figure none").stderr
    assert "1 pictures of basic are among the rows to be judged" in folds  # the training face, which the folds judge


def test_any_head_can_learn_the_basic_expressions(run, both):
    command = "cer-fuse compare -d faces --heads linear --zero-shot basic --zero-shot-head histgb --format json"
    text = run(f"{command} --figure none").stdout
    assert "HistGBHead" in json.dumps(json.loads(text))


def test_rows_that_know_no_pictures_are_announced(run, both):
    keep(basic(*BASIC * 4), "imported", [""] * 24)
    told = run("cer-fuse compare -d faces --heads linear --zero-shot imported --figure none").stderr
    assert "rows of imported or faces know no pictures: whether some are among the rows to be judged" in told
    assert "learning from 24 rows" in told


def test_features_of_other_weights_are_refused_with_both_fingerprints(run, both):
    keep(basic(*BASIC * 4), "other", ["picture"] * 24, tap=1)
    told = words(run("cer-fuse compare -d faces --heads linear --zero-shot other", code=1))
    assert "dataset 'other' of features has no toy@" in told
    assert "it has toy@" in told


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--zero-shot bsic", 1, "did you mean 'basic'"),
        ("--zero-shot faces", 1, "and no basic class means that"),
        ("--zero-shot basic --rules prod", 1, "did you mean 'product'"),
        ("--zero-shot basic --zero-shot-head lineal", 1, "did you mean 'linear'"),
        ("--zero-shot basic --set zero-shot.c=1", 1, "has no setting 'c'"),
        ("--set zero-shot.C=1", 2, "HEAD.key=value"),
        ("--rules sum", 2, "name the dataset"),
        ("--zero-shot-head lda", 2, "name the dataset"),
    ],
)
def test_what_cannot_be_meant_is_refused(run, both, options, code, message):
    assert message in words(run(f"cer-fuse compare -d faces --heads linear --figure none {options}", code=code))


def test_a_component_nobody_has_shown_is_named(run, both):
    keep(basic(*BASIC[:5] * 4), "few", [f"picture {i}" for i in range(20)])
    told = words(run("cer-fuse compare -d faces --heads linear --zero-shot few --figure none", code=1))
    assert "'Fearfully Surprised' needs surprise" in told
