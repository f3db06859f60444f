"""Fits wherever joblib does them: the same answers, in the same order."""

from __future__ import annotations

import os

import numpy as np
import pytest
from joblib import parallel_config, register_parallel_backend
from joblib._parallel_backends import ThreadingBackend
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from cer_fusion.fusion import FusionError, Rows, compare, cross_compare, make_head, sweep
from cer_fusion.fusion.data.blocks import parse_grid
from cer_fusion.fusion.judging.fits import do_all


def rows(n: int, seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    blocks = {
        name: (np.eye(3)[y] @ np.random.default_rng(7).normal(size=(3, 4)) + rng.normal(size=(n, 4))).astype(np.float32)
        for name in ("a", "b")
    }
    return Rows(blocks=blocks, y=y, classes=("x", "y", "z"), ids=tuple(f"{seed}-{i}" for i in range(n)))


class Counted(ThreadingBackend):
    """joblib's threads, counting what it is given."""

    tasks = 0

    def submit(self, func, callback=None):
        Counted.tasks += 1
        return super().submit(func, callback)


@pytest.fixture
def counted():
    register_parallel_backend("counted", Counted)
    Counted.tasks = 0
    with parallel_config(backend="counted", n_jobs=2):
        yield lambda: Counted.tasks


HEADS = {
    "linear": make_head("linear"),
    "theirs": LogisticRegression(C=0.1),
    "chance": DummyClassifier(strategy="uniform"),
}
SWEPT = (
    make_head("late", member="linear"),
    make_head("weighted", mode="sum", head="linear"),
    make_head("weighted", head="ridge"),
)
GRID = ["a=0:1:0.25", "b=1-"]


def asked() -> list[object]:
    """What the three say, as far as a second run must say the same."""
    train, test = rows(48, 1), rows(24, 2)
    reports = [
        compare(HEADS, train, test, seeds=2, resamples=50),
        cross_compare(HEADS, train, folds=3, repeats=2, resamples=50),
    ]
    found: list[object] = [column.proba.tolist() for report in reports for column in report.columns]
    found += [run.y_pred.tolist() for report in reports for column in report.columns for run in column.other_runs]
    for head in SWEPT:
        swept = sweep(head, parse_grid(GRID, train.widths), train, test, folds=3, seeds=2, resamples=50)
        found += [swept.inner.macro_f1.value.tolist(), swept.test.macro_f1.value.tolist(), swept.chosen, swept.notes]
    return found


def test_joblibs_backend_is_the_one_that_is_used_and_changes_no_answer(counted):
    with parallel_config(backend="sequential"):
        expected = asked()
    assert counted() == 0
    assert asked() == expected
    assert counted() > 5


def test_other_processes_give_the_same_answers_and_a_fold_keeps_no_head():
    train = rows(48, 1)
    alone, several = (cross_compare(HEADS, train, folds=3, resamples=50, n_jobs=n_jobs) for n_jobs in (None, 2))
    assert [column.proba.tolist() for column in several.columns] == [column.proba.tolist() for column in alone.columns]
    assert all(column.fitted is None for column in (*alone.columns, *several.columns))


class Squares:
    def __init__(self, fails: int | None = None) -> None:
        self.fails = fails

    def __len__(self) -> int:
        return 5

    def steps(self, i: int) -> int:
        return i

    def do(self, i, step):
        for _ in range(i):
            step()
        if i == self.fails:
            raise ZeroDivisionError(f"fit {i}")
        return i * i, os.getpid()


@pytest.mark.parametrize("backend", ["sequential", "threading"])
def test_progress_counts_steps_and_never_goes_back(backend):
    seen = []
    with parallel_config(backend=backend, n_jobs=2):
        found = do_all(Squares(), progress=lambda done, total: seen.append((done, total)))
    assert [square for square, _ in found] == [0, 1, 4, 9, 16]
    assert seen == sorted(set(seen))
    assert seen[-1] == (10, 10)


def test_an_error_of_a_fit_is_raised_as_it_is():
    with parallel_config(backend="threading", n_jobs=2), pytest.raises(ZeroDivisionError, match="fit 3"):
        do_all(Squares(fails=3))


def test_what_cannot_be_sent_to_another_process_is_told():
    class Local(Squares):
        held = property(lambda self: None)

        def __reduce__(self):
            raise TypeError("cannot pickle this")

    with (
        parallel_config(backend="loky", n_jobs=2),
        pytest.raises(FusionError, match="cannot be sent to other processes"),
    ):
        do_all(Local())
