from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.fusion import compare, make_head
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.heads.weights import decisions
from cer_fusion.fusion.judging.comparison import Members, members_of_head, members_of_report
from tests.fusion.kept import CLASSES, rows


def test_the_members_of_a_late_head_mix_to_its_own_answers():
    train, test = rows(30, seed=0, split="train"), rows(21, seed=1, split="test")
    weights = {"vit": 0.7, "manet": 0.3}
    head = make_head("late", blocks=train.widths, weights=weights).fit(train.x(), train.y)
    members = members_of_head(head, test)
    assert (members.names, members.classes) == (("vit", "manet"), CLASSES)
    mixed = decisions(members.proba, np.array([list(weights.values())]), head.mix)[0]
    assert np.array_equal(mixed, head.predict(test.x()))


def test_columns_of_one_backbone_each_are_members_and_others_are_not():
    report = compare({"all": make_head("linear")}, rows(30, seed=0, split="train"), rows(21, seed=1, split="test"))
    features = {"all": ("vit", "manet"), "vit": ("vit",), "manet": ("manet",)}
    members = members_of_report(report, features)
    assert members is not None
    assert members.names == ("vit", "manet")
    assert np.array_equal(members.proba[1], report.column("manet").proba)
    assert members_of_report(report, features | {"manet": ("vit",)}) is None
    assert members_of_report(report, features | {"manet": ("vit", "manet")}) is None


def test_members_that_do_not_fit_together_are_refused():
    y, proba = np.zeros(4, np.int64), np.full((2, 4, 3), 1 / 3)
    with pytest.raises(ReportError, match=r"shape \(2, 5, 3\), however: \(2, 4, 3\)"):
        Members(names=("a", "b"), classes=CLASSES, proba=proba, y=np.zeros(5, np.int64))
    with pytest.raises(ReportError, match="a group a row, however: 3 for 4 rows"):
        Members(names=("a", "b"), classes=CLASSES, proba=proba, y=y, groups=("v", "v", "w"))
    with pytest.raises(ReportError, match="must have probabilities"):
        Members(names=("a", "a"), classes=CLASSES, proba=proba, y=y)


def test_members_know_which_rows_share_groups():
    train, videos = rows(30, seed=0, split="train"), tuple(f"video {i // 3}" for i in range(21))
    test = rows(21, seed=1, split="test", groups=videos)
    head = make_head("late", blocks=train.widths).fit(train.x(), train.y)
    assert members_of_head(head, test).groups == videos
    report = compare({"all": make_head("linear")}, train, test, resamples=20)
    features = {"all": ("vit", "manet"), "vit": ("vit",), "manet": ("manet",)}
    members = members_of_report(report, features, test.clusters)
    assert members is not None
    assert members.groups == videos
