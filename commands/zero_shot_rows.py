"""What `cer-fuse compare --zero-shot` learns from: basic expressions of another dataset, in the same features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cer_fusion.commands.console import escape, say
from cer_fusion.commands.options import missing_choice, split_list
from cer_fusion.commands.task import Task, as_rows, fits_in_memory, splits_text

if TYPE_CHECKING:
    from cer_fusion.featstore import Store
    from cer_fusion.fusion.judging.zero_shot import ZeroShotColumns

TITLE = "zero-shot"
"""What `--set` calls the head: `--set zero-shot.C=0.1`."""
ZeroShotDataset = Annotated[
    str | None,
    typer.Option(
        "--zero-shot",
        help="A dataset in the store with basic expressions and the same features: a head that learned only from it "
        "answers the compounds.",
        show_default=False,
    ),
]
ZeroShotHead = Annotated[
    str | None, typer.Option("--zero-shot-head", help="With --zero-shot: the head.", show_default="linear")
]
Rules = Annotated[
    str | None,
    typer.Option(
        "--rules",
        help="With --zero-shot: how two expressions make a compound, a column each: sum,product,harmonic,minimum.",
        show_default="product",
    ),
]


def load_zero_shot(
    store: Path, data: str, head: Any, rules: str | None, *, task: Task, train_split: str, missing: str, budget: float
) -> ZeroShotColumns:
    """Find the basic rows, leave out pictures that stand among the rows to be judged, and say so.

    The rows are the labelled ones of the training split, or all where the dataset has one split only.
    """
    from cer_fusion.featstore import Store
    from cer_fusion.fusion import Rows
    from cer_fusion.fusion.judging.zero_shot import ZeroShotColumns

    opened = Store(store)
    dataset = opened.dataset(data)
    view = opened.view(
        list(task.test.blocks),
        dataset=dataset,
        missing=missing_choice(missing),
        fingerprints=dict(task.test.fingerprints or {}),
        mapped=True,
    )
    names = list(dict.fromkeys(view.splits))
    split = names[0] if len(names) == 1 else train_split
    shared = _judged_pictures(opened, dataset, task)
    labelled = [s == split and y >= 0 for s, y in zip(view.splits, view.y, strict=True)]
    part = view.take([wanted and name not in shared for wanted, name in zip(labelled, view.ids, strict=True)])
    if not len(part):
        raise typer.BadParameter(
            f"no labelled sample in split {split!r} that is not judged too; dataset {dataset!r} has "
            f"{splits_text(view.splits)}",
            param_hint="--zero-shot",
        )
    if sum(labelled) > len(part):
        say(
            f"[yellow]{sum(labelled) - len(part):,} pictures of {escape(dataset)} are among the rows to be judged[/]: "
            "the zero-shot head does not learn from them"
        )
    said = f" of [bold]{escape(split)}[/]" if split else ""
    say(f"zero-shot: learning from {len(part):,} rows{said} of [bold]{escape(dataset)}[/]")
    rows = Rows.of(as_rows(part), load=fits_in_memory(len(part), view, budget))
    chosen: Any = tuple(split_list(rules)) or ("product",)
    return ZeroShotColumns(head=head, rows=rows, rules=chosen, source=dataset)


def _judged_pictures(store: Store, dataset: str, task: Task) -> set[str]:
    """Samples of the dataset whose picture is among the judged ones; says so if nobody can tell."""
    judged = set(task.test.ids or ())
    found = [
        store.common_pictures(f"{name.partition('@')[0]}@{fingerprint}", (dataset, task.dataset))
        for name, fingerprint in (task.test.fingerprints or {}).items()
    ]
    known = [pairs for pairs in found if pairs is not None]  # imported rows may know no pictures: ask every feature
    if not known:
        say(
            f"[yellow]rows of {escape(dataset)} or {escape(task.dataset)} know no pictures[/]: whether some are among "
            "the rows to be judged cannot be seen"
        )
    return {mine for pairs in known for mine, other in pairs if other in judged}
