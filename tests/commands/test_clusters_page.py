"""Every command of docs/clusters.md, run in order; Slurm and Ray are stand-ins that do the parts in this process."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from joblib import parallel_config

from cer_fusion.commands.runners import Outcome, engine
from cer_fusion.featstore import Store
from cer_fusion.fusion import Rows
from tests.commands.test_engines import FakeRay, submitit  # noqa: F401  # fixture
from tests.pages import Page, options

PAGE = Page("docs/clusters.md")


SMALLER = {
    "--backbone vit": "--backbone timm:test_vit -w random --shard-rows 2",
    "cer-feat parts": "cer-feat parts --features test_vit --shard-rows 2",
    "rafdb.csv": "faces.csv",
    "rafdb": "faces",
    "a=0": "one=0",
    "b=1-": "two=1-",
    "--cv 5": "--cv 3 --features one,two",
    "compare": "compare --figure none",
    "ablate": "ablate --folds 3 --figure none",
}


def in_this_process(job, parts, n, *, workers, progress, busy=None):
    return [Outcome(part=k, worker="0", value=job.run_part(k, n, lambda *step: None)) for k in parts]


@pytest.mark.slow
def test_every_command_of_the_page_runs_and_leaves_the_rows_of_the_first(run, filled, submitit, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(engine, "run_here", in_this_process)
    monkeypatch.setitem(sys.modules, "ray", FakeRay(gpus=1.0))
    run("cer-feat use-manifest faces.csv --dataset faces")
    for step in PAGE.steps:
        words = step.command
        for written, smaller in SMALLER.items():
            words = words.replace(written, smaller)
        result = run(words)
        if "parts" in step.command.split()[1]:
            assert result.stdout == ""  # the first command on the page has done them
    assert len(PAGE.steps) == 12
    features = Store("features").features("faces")
    assert sorted(feature.name for feature in features) == ["one", "test_vit", "two"]


def test_the_python_of_the_page_runs():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    blocks = {name: (y[:, None] + rng.normal(size=(40, 3))).astype(np.float32) for name in ("a", "b")}
    rows = Rows(blocks=blocks, y=y, classes=("x", "y"))
    [code] = PAGE.python
    with parallel_config(backend="threading"):
        exec(code.replace('"loky"', '"threading"'), found := {"rows": rows})
    assert [column.name for column in found["report"].columns] == ["linear", "late", "a", "b"]


def test_every_option_the_page_names_exists():
    assert set(re.findall(r"`(--[a-z-]+)", PAGE.text)) <= options() | {"--array"}
