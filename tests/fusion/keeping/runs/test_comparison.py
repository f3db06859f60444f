from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cer_fusion.fusion import compare, make_head
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.keeping.comparison import compare_runs
from cer_fusion.fusion.keeping.runs import Run
from tests.fusion.kept import NOISE, kept, rows


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Run]:
    root = tmp_path_factory.mktemp("runs")
    return {"both": kept(root / "both"), "vit": kept(root / "vit", "vit")}


def shuffled(run: Run, order: np.ndarray) -> Run:
    p = run.predictions
    labels = None if p.labels is None else tuple(p.labels[i] for i in order)
    ids = tuple(p.ids[i] for i in order)
    return replace(run, predictions=replace(p, ids=ids, proba=p.proba[order], labels=labels))


def test_kept_runs_give_the_table_that_training_them_side_by_side_gives(runs):
    found = compare_runs(runs, baseline="vit", resamples=200)
    train, test = rows(30, seed=0, split="train"), rows(21, seed=1, split="test")
    fresh = compare({"both": make_head("linear")}, train, test, single_head="linear", baseline="vit", resamples=200)
    for name in ("both", "vit"):
        mine, its = found.column(name), fresh.column(name)
        assert np.array_equal(mine.proba, its.proba)
        assert (mine.accuracy, mine.macro_f1, mine.versus) == (its.accuracy, its.macro_f1, its.versus)
    assert [column.kind for column in found.columns] == ["head", "single"]
    assert found.fingerprints == fresh.fingerprints
    assert set(found.fingerprints) == set(NOISE)


def test_rows_may_stand_in_any_order(runs):
    order = np.random.default_rng(0).permutation(21)
    mixed = compare_runs({"both": runs["both"], "vit": shuffled(runs["vit"], order)}, baseline="vit", resamples=50)
    assert mixed.column("vit").versus == compare_runs(runs, baseline="vit", resamples=50).column("vit").versus
    assert np.array_equal(mixed.column("vit").y_pred, compare_runs(runs, resamples=50).column("vit").y_pred)


def test_runs_of_other_classes_splits_samples_or_labels_are_refused_by_name(runs):
    both, vit = runs["both"], runs["vit"]
    turned = replace(vit, config=replace(vit.config, classes=vit.config.classes[::-1]))
    with pytest.raises(ReportError, match=r"both and vit have different classes or another class order"):
        compare_runs({"both": both, "vit": turned})
    with pytest.raises(ReportError, match=r"both and vit were judged on different splits: 'test' and 'valid'"):
        compare_runs({"both": both, "vit": replace(vit, config=replace(vit.config, test_split="valid"))})
    fewer = shuffled(vit, np.arange(19))
    with pytest.raises(
        ReportError, match=r"different samples: 2 \(test_019, test_020\) only in both, none only in vit"
    ):
        compare_runs({"both": both, "vit": fewer})
    p = vit.predictions
    relabelled = replace(p, labels=(p.labels[1], *p.labels[1:]))  # type: ignore[index]
    with pytest.raises(ReportError, match=r"both and vit know different labels of 1 \(test_000\)"):
        compare_runs({"both": both, "vit": replace(vit, predictions=relabelled)})
    with pytest.raises(ReportError, match="both and vit know different groups"):
        compare_runs({"both": both, "vit": replace(vit, groups=("a",) * 21)})
    with pytest.raises(ReportError, match="no column 'vti' to test against; did you mean 'vit'"):
        compare_runs(runs, baseline="vti")


def test_rows_that_share_groups_are_resampled_as_groups(tmp_path):
    groups = tuple(f"video{i // 3}" for i in range(21))
    found = compare_runs({name: kept(tmp_path / name, name, groups=groups) for name in NOISE}, baseline="vit")
    assert found.clustered
    versus = found.column("manet").versus
    assert versus is not None
    assert versus.p is None


def test_one_feature_under_two_fingerprints_and_other_training_rows_are_said(runs):
    vit = runs["vit"]
    other = replace(vit.config, fingerprints={"vit": "f" * 64}, train_supports=(9, 9, 9))
    found = compare_runs({"vit": vit, "again": replace(vit, config=other)}, resamples=20)
    assert set(found.fingerprints) == {"vit@vit-print000", "vit@ffffffffffff"}
    assert any(note.startswith("again learned from other training rows than vit") for note in found.notes)
