"""Run folders as arguments: reading them, naming their columns, and why options that need a store are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cer_fusion.fusion.keeping.runs import Run

Runs = Annotated[
    list[Path] | None,
    typer.Argument(help="Run folders of cer-fuse train; without them, heads are trained now.", show_default=False),
]


AS_KEPT = "runs are compared as they were kept, so this option says nothing: leave it out, or name no run"
"""Why options that say what to train are refused beside run folders."""


def read_runs(folders: Sequence[Path]) -> dict[str, Run]:
    """Read runs under the names of their folders, or under their whole paths where two names are equal."""
    from cer_fusion.fusion.keeping.runs import read_run

    paths = [Path(folder) for folder in folders]
    if len({path.resolve() for path in paths}) < len(paths):
        raise typer.BadParameter("a run folder stands twice", param_hint="RUNS")
    names = [path.resolve().name for path in paths]
    titles = names if len(set(names)) == len(names) else [str(path) for path in paths]
    return {title: read_run(path) for title, path in zip(titles, paths, strict=True)}


def dataset_of(runs: Mapping[str, Run]) -> str:
    """The dataset that the runs are about, for titles and file names; several are joined."""
    return "-".join(dict.fromkeys(run.config.dataset for run in runs.values()))
