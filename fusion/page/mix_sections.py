"""Sections about mixing members: the explorer, and a sweep over their weights."""

from __future__ import annotations

from cer_fusion.fusion.heads.mixes import Mix
from cer_fusion.fusion.judging.members import Members
from cer_fusion.fusion.page.explorer import Explorer
from cer_fusion.fusion.page.picture import Picture
from cer_fusion.fusion.page.section import Section
from cer_fusion.fusion.sweeps.figure import draw_sweep
from cer_fusion.fusion.sweeps.result import Sweep
from cer_fusion.fusion.sweeps.table import sweep_table


def explorer_section(members: Members, *, mix: Mix = "geometric", sweep: Sweep | None = None) -> Section:
    """Return an explorer; with a sweep over the same members it begins with the weights that the sweep chose."""
    presets = {}
    if sweep is not None and sweep.blocks == members.names:
        where = "inner folds" if sweep.inner is not None else "the test rows"
        presets[f"chosen on {where}"] = tuple(sweep.weights[sweep.chosen].tolist())
    return Section(
        title="Mix the members",
        prose=(
            f"{', '.join(members.names)}: what each says about the {members.y.size} test rows is in this page. Move a "
            "weight, and everything below is computed again. Only proportions matter.",
        ),
        explorer=Explorer(members=members, mix=mix, presets=presets),
    )


def sweep_section(sweep: Sweep) -> Section:
    """Return a sweep: its figure and its table."""
    where = "inner folds of the training rows" if sweep.inner is not None else "the test rows themselves"
    caption = f"Test macro F1 over {len(sweep.weights)} weight vectors; the chosen one was chosen on {where}."
    return Section(
        title="Weights swept",
        pictures=(Picture.of(draw_sweep(sweep), caption),),
        tables=(sweep_table(sweep, limit=20),),
    )
