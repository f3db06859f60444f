"""What the heads are to learn from and be judged on: the labelled rows of two splits of a view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cer_fusion.commands.console import escape, say, size_text
from cer_fusion.commands.options import load_view

if TYPE_CHECKING:
    from cer_fusion.featstore import Store, View
    from cer_fusion.fusion import Rows

TrainSplit = Annotated[str, typer.Option("--train-split", help="Split to learn from.")]
TestSplit = Annotated[
    str | None,
    typer.Option("--test-split", help="Split to be judged on.", show_default="test, else valid"),
]


@dataclass(frozen=True, kw_only=True)
class Task:
    """Rows to learn from, rows to be judged on, and where they came from."""

    dataset: str
    train: Rows
    test: Rows
    train_split: str
    test_split: str
    class_set: str


_COPIES = 3
"""How often a head holds its rows in memory: as they are, scaled, and as tensors."""


def load_task(
    store: Path,
    data: str | None,
    features: str | None,
    missing: str,
    train_split: str,
    test_split: str | None,
    budget: float = math.inf,
) -> Task:
    """Find the features, choose the splits, leave out rows without a label, and say all of that.

    Rows that with their copies take more bytes than `budget` stay in the store and are read piece by piece.
    """
    from cer_fusion.fusion import Rows

    view, dataset, opened = load_view(store, data, features, missing)
    test_split = test_split or _test_split(view.splits, train_split)
    parts = {}
    for split in (train_split, test_split):
        part = view.take([s == split and y >= 0 for s, y in zip(view.splits, view.y, strict=True)])
        unlabelled = sum(s == split for s in view.splits) - len(part)
        if unlabelled:
            say(f"[yellow]{unlabelled:,} samples of split {escape(split)} have no label[/] and are left out")
        if not len(part):
            raise typer.BadParameter(
                f"no labelled sample in split {split!r}; dataset {dataset!r} has {splits_text(view.splits)}",
                param_hint="--train-split" if split == train_split else "--test-split",
            )
        parts[split] = part
    say(
        f"learning from {len(parts[train_split]):,} rows of [bold]{escape(train_split)}[/], "
        f"judged on {len(parts[test_split]):,} rows of [bold]{escape(test_split)}[/]"
    )
    _warn_of_leaks(opened, dataset, list(view.fingerprints), (train_split, test_split))
    load = fits_in_memory(sum(len(part) for part in parts.values()), view, budget)
    return Task(
        dataset=dataset,
        train=Rows.of(as_rows(parts[train_split]), load=load),
        test=Rows.of(as_rows(parts[test_split]), load=load),
        train_split=train_split,
        test_split=test_split,
        class_set=view.class_set.name,
    )


def load_folds_task(
    store: Path,
    data: str | None,
    features: str | None,
    missing: str,
    train_split: str,
    budget: float = math.inf,
    *,
    near: float | None = None,
) -> Task:
    """Find the rows of a cross-validation: those of the training split, or all where there is one split only.

    Pictures that are there more than once stay on one side of every fold, and with `near` so do faces of at least this
    cosine. Both parts of the task are the same rows.
    """
    from cer_fusion.fusion import Rows
    from cer_fusion.fusion.data.rows import tied

    view, dataset, opened = load_view(store, data, features, missing)
    names = list(dict.fromkeys(view.splits))
    split = names[0] if len(names) == 1 else train_split
    part = view.take([s == split and y >= 0 for s, y in zip(view.splits, view.y, strict=True)])
    if not len(part):
        raise typer.BadParameter(
            f"no labelled sample in split {split!r}; dataset {dataset!r} has {splits_text(view.splits)}",
            param_hint="--train-split",
        )
    there = "the only split" if len(names) == 1 else f"of {splits_text(view.splits)}"
    say(f"cross-validating on {len(part):,} rows of [bold]{escape(split)}[/], {escape(there)}")
    known = set(part.ids)
    pairs = {
        pair
        for feature in view.fingerprints
        for pair in opened.shared_pictures(feature, dataset=dataset, splits=(split, split))
        if pair[0] != pair[1] and known.issuperset(pair)
    }
    if pairs:
        say(f"{len(pairs):,} rows repeat a picture (first: {escape(' = '.join(min(pairs)))}): kept in one fold with it")
    rows = tied(Rows.of(as_rows(part), load=fits_in_memory(len(part), view, budget)), sorted(pairs))
    if near is not None:
        rows = _near_ones_tied(rows, near)
    return Task(
        dataset=dataset, train=rows, test=rows, train_split=split, test_split=split, class_set=view.class_set.name
    )


def _near_ones_tied(rows: Rows, near: float) -> Rows:
    from cer_fusion.fusion.data.rows import tied
    from cer_fusion.fusion.judging.measures import near_duplicates

    found, _ = near_duplicates(rows, threshold=near)
    if found.found > len(found.pairs):
        raise typer.BadParameter(
            f"{found.found:,} pairs of rows are that alike, more than the {len(found.pairs):,} that are told apart; "
            "take a larger cosine",
            param_hint="--near",
        )
    say(f"{found.samples:,} rows have a near-duplicate (cosine {near:g} or more): kept in one fold with it")
    return tied(rows, [(pair.sample_id, pair.other_id) for pair in found.pairs])


def fits_in_memory(count: int, view: View, budget: float) -> bool:
    """Whether so many rows with their copies fit in memory; says so if they do not."""
    needed = _COPIES * 4 * count * sum(view.widths.values())
    if needed > budget:
        say(
            f"[yellow]rows are read from the store piece by piece[/]: in memory they would take "
            f"{size_text(needed)} with their copies, allowed are {size_text(budget)} (--memory)"
        )
    return needed <= budget


def _warn_of_leaks(store: Store, dataset: str, features: Sequence[str], splits: tuple[str, str]) -> None:
    found = (store.shared_pictures(feature, dataset=dataset, splits=splits) for feature in features)
    pairs = next(filter(None, found), [])  # imported rows may know no pictures: ask every feature
    if pairs:
        first = " = ".join(pairs[0])
        say(
            f"[yellow]{len(pairs):,} pictures of {escape(splits[1])} stand in {escape(splits[0])} too[/] "
            f"(first: {escape(first)}): scores flatter; leave them out with cer-feat manifest … --repeats first"
        )


def _test_split(splits: Sequence[str], train_split: str) -> str:
    there = set(splits) - {train_split}
    for split in ("test", "valid"):
        if split in there:
            return split
    raise typer.BadParameter(
        f"no test or valid split among {splits_text(splits)}: name one, "
        f"or make one with cer-feat manifest … --hold-out 0.2",
        param_hint="--test-split",
    )


def splits_text(splits: Sequence[str]) -> str:
    """The splits by name, each once."""
    return ", ".join(repr(split) for split in dict.fromkeys(splits))


def as_rows(view: View) -> Any:
    """A loaded view as fusion's `Rows.of` takes it; mypy cannot know that its blocks are arrays and not mapped."""
    return view
