"""Every head's number of threads: set, kept, refused where it is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import threadpoolctl

from cer_fusion.fusion import HeadConfigError, load_head, make_head, save_head
from cer_fusion.fusion.heads import head_settings, settings
from tests.fusion.heads.conftest import QUICK, every_head


def with_threads(name: str, threads: object, **more: object):
    settings = {key: value for key, value in QUICK[name].items() if key != "threads"}
    return make_head(name, **{**settings, "threads": threads, **more})


def pools() -> dict[str, int]:
    return {library["filepath"]: library["num_threads"] for library in threadpoolctl.threadpool_info()}


@every_head
def test_every_head_has_a_number_of_threads_which_is_used_and_kept(name, faces, tmp_path):
    assert "threads" in head_settings(name)
    before = pools()
    head = with_threads(name, 2, blocks=faces.widths).fit(faces.X, faces.y)
    head.predict_proba(faces.X)
    assert {path: count for path, count in pools().items() if path in before} == before
    assert set(head.fit_threads_.values()) == {2}
    info = save_head(head, tmp_path / "head", fingerprints={"vit": "ab", "manet": "cd"})
    assert (info.params["threads"], set(info.threads.values())) == (2, {2})
    again = load_head(tmp_path / "head")
    assert (again.threads, again.fit_threads_) == (2, head.fit_threads_)


@every_head
@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2", 10**9])
def test_a_number_of_threads_that_is_none_is_refused_by_every_head(name, threads, faces):
    with pytest.raises(HeadConfigError, match="threads must be a whole number"):
        with_threads(name, threads, blocks=faces.widths).fit(faces.X, faces.y)


@every_head
def test_without_a_number_no_head_has_more_threads_than_cores(name, faces, monkeypatch):
    monkeypatch.setattr(settings, "whole_cores", lambda: 1)
    with threadpoolctl.threadpool_limits(limits=2):
        head = with_threads(name, None, blocks=faces.widths).fit(faces.X, faces.y)
        assert set(head.fit_threads_.values()) == {1}


def test_without_a_number_a_library_that_was_told_to_use_fewer_is_left_alone(faces):
    with threadpoolctl.threadpool_limits(limits=1):
        assert set(make_head("linear").fit(faces.X, faces.y).fit_threads_.values()) == {1}


@pytest.mark.parametrize("name", ["xgboost", "histgb"])
def test_trees_grow_with_one_thread_on_every_machine_unless_told_otherwise(name, faces):
    own = {"xgboost": "xgboost", "histgb": "openmp"}[name]
    assert with_threads(name, None).fit(faces.X, faces.y).fit_threads_[own] == 1


@pytest.mark.parametrize("name", ["late", "stacking"])
def test_the_number_of_threads_is_passed_on_to_members_that_have_none_of_their_own(name, faces):
    def xgboost_threads(**params):
        members = {"member": "xgboost", "member_params": {"trees": 2, **params}, "folds": 2}
        return make_head(name, blocks=faces.widths, threads=2, **members).fit(faces.X, faces.y).fit_threads_["xgboost"]

    assert (xgboost_threads(), xgboost_threads(threads=1)) == (2, 1)


def test_the_head_on_weighed_blocks_has_the_number_of_threads_too(faces):
    mlp = {"head": "mlp", "head_params": {"epochs": 1, "hidden": (4,)}}
    assert make_head("weighted", threads=1, **mlp).fit(faces.X, faces.y).fit_threads_["torch"] == 1


def test_fits_within_joblibs_workers_share_the_cores(faces, tmp_path):
    """As `cross_val_score(head, n_jobs=2)` fits them: workers times threads are no more than the cores."""
    np.savez(tmp_path / "faces.npz", X=faces.X, y=faces.y)
    code = (
        "import json, joblib, numpy\n"
        "from cer_fusion.fusion import make_head\n"
        "def threads(X, y):\n"
        "    return make_head('mlp', hidden=(4,), epochs=1).fit(X, y).fit_threads_\n"
        "if __name__ == '__main__':\n"
        f"    rows = numpy.load({str(tmp_path / 'faces.npz')!r})\n"
        "    found = joblib.Parallel(n_jobs=2)(joblib.delayed(threads)(rows['X'], rows['y']) for _ in range(2))\n"
        "    print(json.dumps([max(1, joblib.cpu_count() // 2), found]))"
    )
    (tmp_path / "shared.py").write_text(code)
    own = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    own["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "shared.py")], capture_output=True, text=True, env=own, check=True
    )
    share, found = json.loads(done.stdout)
    assert all(max(counts.values()) <= share for counts in found)
