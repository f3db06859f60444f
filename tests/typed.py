"""A user's script as `mypy --strict` reads it (`make lint`): the public names have types of their own, not Any."""

from __future__ import annotations

from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import cer_fusion as cer
from cer_fusion.backbones import Backbone
from cer_fusion.featstore import Adapted, ExtractReport, Feature, Sample, build
from cer_fusion.fusion import Diagnosis, Grid, HeadInfo, Predictions, Run, Scores, Sweep, diagnose, read_run, scores
from cer_fusion.fusion.heads.base import Head
from cer_fusion.fusion.judging.report import Column


def fuse(store: cer.Store) -> cer.Report:
    """Learn from a store's features `vit` and `manet`, and compare."""
    view = store.view(["vit", "manet"], split="train")
    assert_type(view, cer.View)
    assert_type(view.join(), NDArray[np.float32])
    assert_type(view.y, NDArray[np.int64])
    assert_type(view.ids, tuple[str, ...])
    train, test = cer.Rows.of(view), cer.Rows.of(store.view(["vit", "manet"], split="test"))
    assert_type(train.widths, dict[str, int])
    head = assert_type(cer.make_head("lda", blocks=train.widths), Head)
    assert_type(head.fit(train.x(), train.y), Head)
    assert_type(head.predict_proba(test.x()), NDArray[np.float64])
    report = assert_type(cer.compare({"lda": head}, train, test, resamples=20), cer.Report)
    assert_type(report.column("lda"), Column)
    assert_type(report.column("lda").scores, Scores)
    assert_type(report.column("lda").scores.macro_f1, float)
    assert_type(report.to_latex(), str)
    assert_type(scores(test.y, test.y, test.classes), Scores)
    grid = assert_type(cer.parse_simplex("vit,manet:0.5", train.by_feature()), Grid)
    assert_type(cer.sweep(cer.make_head("late", member="ridge"), grid, train, test, folds=2, resamples=20), Sweep)
    assert_type(diagnose(train, test, resamples=20), Diagnosis)
    assert_type(store.manifest().samples[0], Sample)
    assert_type(store.feature("vit"), Feature)
    return report


def embed(root: str, store: cer.Store) -> NDArray[np.float32]:
    """Embed a folder's pictures."""
    from torch.nn import Module

    found = assert_type(build("folder", root), Adapted)
    backbone = assert_type(cer.create("vit"), Backbone)
    assert_type(backbone.module, Module)
    report = cer.extract(backbone, found.manifest, store, dataset="faces")
    assert_type(report, ExtractReport)
    pictures = np.zeros((1, 224, 224, 3), np.uint8)
    return assert_type(backbone.embed(pictures), dict[str, NDArray[np.float32]])["token_mean"]


def kept(head: Head, run: str) -> tuple[HeadInfo, Run, Predictions]:
    """Keep a head, and open a run."""
    info = assert_type(cer.save_head(head, "head", fingerprints={}), HeadInfo)
    assert_type(cer.load_head("head"), Head)
    found = read_run(run)
    return info, found, found.predictions
