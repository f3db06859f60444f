"""What commands read: manifests, datasets of the store, and the labelled rows that heads learn from and are judged on.

Whatever is chosen for the user is said.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..kit.errors import Masked
from .console import Progress, escape, out_json, say, size_text
from .options import Missing, names_a_file, no_manifest

if TYPE_CHECKING:
    from ..featstore import ExtractReport, Feature, Manifest, Store, View
    from ..featstore.manifests.manifest import SealedManifest
    from ..fusion import Rows


def manifest_and_dataset(
    data: str | None, store: Path, *, dataset: str | None, root: Path | None
) -> tuple[Manifest, str]:
    """The manifest that `--data` names (a file, or a dataset in the store), and the dataset's name."""
    from ..featstore import Manifest
    from ..featstore.manifests.sidecar import in_store

    if data is not None and Path(data).is_dir() and not (Path(data).name == data and (store / data).is_dir()):
        raise typer.BadParameter(no_manifest(data), param_hint="--data")
    if data is not None and names_a_file(data):
        file = Path(data)
        name = file.absolute().parent.name if in_store(file) else file.stem.replace(".", "_")
        return Manifest.read(file).at(root), dataset or name
    opened, name = dataset_of(store, data)
    return opened.manifest(name).at(root), dataset or name


def manifest_by_parts(
    data: str | None, store: Path, *, dataset: str | None, root: Path | None
) -> tuple[Manifest | SealedManifest, str]:
    """As `manifest_and_dataset`; a large manifest that the dataset has already is opened to be read by parts."""
    sealed = None if data is None else sealed_manifest(data, store, dataset=dataset, root=root)
    return sealed or manifest_and_dataset(data, store, dataset=dataset, root=root)


def sealed_manifest(
    data: str, store: Path, *, dataset: str | None, root: Path | None
) -> tuple[SealedManifest, str] | None:
    """The large manifest of a dataset, if that is what `--data` names, or what its file was made into."""
    from ..featstore import Store
    from ..featstore.manifests.sidecar import in_store

    if not (store / "store.json").is_file() or not (root is None or root.exists()):
        return None
    file = Path(data) if names_a_file(data) else None
    if file is not None and in_store(file) and file.absolute().parent.parent.resolve() == store.resolve():
        data, file = file.absolute().parent.name, None
    name = dataset or (data if file is None else file.stem.replace(".", "_"))
    opened = Store(store)
    sealed = opened.sealed_manifest(name) if name in opened.datasets() else None
    if sealed is not None and file is not None and sealed.is_made_from(file, root):
        return sealed, name
    if sealed is not None and file is None and name == data and root in (None, sealed.root):
        return sealed, name
    return None


def tell_change(store: Store, dataset: str, manifest: Manifest, *, replace_manifest: bool) -> None:
    """Say in numbers what a manifest changes in a dataset that it is to become the manifest of.

    Raises
    ------
    ManifestError
        If it looks like an accident, and `--replace-manifest` was not given.
    """
    change = store.manifest_change(dataset, manifest)
    if not replace_manifest:
        change.check()
    if change.text:
        say(
            f"dataset [bold]{escape(dataset)}[/]: {change.before:,} samples before, {change.after:,} now: "
            f"{escape(change.text)}"
        )
    elif change.unreadable:
        say(f"[yellow]what changes in dataset {escape(dataset)} is not known:[/] {escape(change.unreadable)}")


def dataset_of(store: Path, data: str | None) -> tuple[Store, str]:
    """The store, and the name of the dataset in it that `--data` names, or of the only one."""
    from ..featstore import Store

    opened = Store(store)
    if data is not None and Path(data).is_dir() and data not in opened.datasets():
        raise typer.BadParameter(no_manifest(data), param_hint="--data")
    name = opened.dataset(data)
    if data is None:
        say(f"dataset: [bold]{escape(name)}[/], the only one in {escape(store)}")
    return opened, name


def load_view(
    store: Path,
    data: str | None,
    features: Sequence[str],
    missing: Missing,
    split: str | None = None,
) -> tuple[View, str, Store]:
    """A mapped view of what was asked for, the dataset's name, and the store they are from.

    Without features named, those are all that the dataset has, and it is said which.
    """
    from ..featstore import FeatstoreError

    opened, dataset = dataset_of(store, data)
    chosen = list(features)
    if not chosen:
        known = opened.usable_features(dataset)
        if not known:
            raise FeatstoreError(
                f"dataset {dataset!r} in {opened.path} has no features yet\n"
                f"  make one with: cer-feat extract --backbone … --data {dataset} --store {opened.path}"
            )
        names = [f.name for f in known]
        chosen = [f.name if names.count(f.name) == 1 else f.label for f in known]
        say(f"features: [bold]{escape(', '.join(chosen))}[/], all there are")
    return opened.view(chosen, dataset=dataset, split=split, missing=missing, mapped=True), dataset, opened


def tell_extracts(reports: list[ExtractReport], store: Store, dataset: str, *, as_json: bool = False) -> None:
    """Print what a run made of each of its features, and what bounded it."""
    from ..featstore.extraction.run import bottleneck

    for report in reports:
        tell_extract(report, store, dataset, bound=len(reports) == 1)
    if len(reports) > 1:
        elapsed, bound = max(report.elapsed_s for report in reports), bottleneck(reports)
        say(f"{len(reports)} features in one pass: {elapsed:,.1f} s" + (f", bound by {bound}" if bound else ""))
    if as_json:
        out_json({"features": [vars(r) for r in reports]} if len(reports) > 1 else vars(reports[0]))


def tell_extract(report: ExtractReport, store: Store, dataset: str, *, bound: bool = True) -> None:
    """Print what a run did, and what its user should know; with `bound`, what kept it from being faster."""
    from ..featstore.extraction.run import bottleneck

    feature = store.feature(report.feature, dataset)
    things, same = (
        ("frames", "a frame of the same time") if feature.spec.is_of_sound else ("pictures", "an identical picture")
    )
    rate = f", {report.embedded / report.elapsed_s:,.1f} {things}/s" if report.embedded and report.elapsed_s else ""
    others = f"{report.by_others:,} done meanwhile by another run, " if report.by_others else ""
    limit = f", bound by {bottleneck([report])}" if bound and report.embedded and bottleneck([report]) else ""
    say(
        f"[bold]{escape(report.feature)}[/]: {report.samples:,} samples, {report.already:,} there already, {others}"
        f"{report.embedded:,} embedded, {report.shared:,} shared with {same} "
        f"({report.elapsed_s:,.1f} s{rate}{limit})"
    )
    if report.masked:
        reasons = ", ".join(f"{reason} ({count:,})" for reason, count in Counter(report.masked).most_common())
        count = sum(report.masked.values())
        say(f"[yellow]{count:,} of {report.samples:,} {things} are masked, and have no row[/]: {escape(reasons)}")
    faults = {key: reason for key, reason in report.quarantined.items() if Masked.reason(reason) is None}
    if faults:
        folder = store.path / dataset / report.feature
        say(f"[yellow]{len(faults):,} {things} in quarantine[/]: {escape(folder / 'quarantine.csv')}")
        for sample_id, reason in list(faults.items())[:3]:
            say(f"  {escape(sample_id)}: {escape(reason)}")
    if report.unread:
        say(
            f"[yellow]{len(report.unread):,} of them could not be read[/], first: {escape(report.unread[0])}; run the "
            f"same command again to try them again"
        )
    made = report.embedded + report.shared
    for remark, count in Counter(report.remarks.values()).most_common():
        first = next(sample_id for sample_id, told in report.remarks.items() if told == remark)
        say(f"[yellow]{count:,} of {made:,} pictures[/]: {escape(remark)} (first: {escape(first)})")
    if report.repeated_across_splits:
        say(f"[yellow]{report.repeated_across_splits:,} {things} are in more than one split[/], so scores flatter")
    _tell_siblings(feature, store.usable_features(dataset))


def _tell_siblings(feature: Feature, features: list[Feature]) -> None:
    """Name what sets this feature apart from others of its name."""
    from ..featstore.rows.feature import differences

    for other in features:
        if other.name == feature.name and other.label != feature.label:
            fields = ", ".join(field for field, _, _ in differences(other.spec, feature.spec))
            say(f"note: {escape(other.label)} is there too; they differ in {escape(fields)}")


def tell_frames_from_zero(ids: Iterable[str]) -> None:
    """Say early what smoothing and submitting would refuse late."""
    from ..challenge import counted_from_zero

    note = counted_from_zero(ids)
    if note is not None:
        say(f"[yellow]{escape(note)}[/]")


@dataclass(frozen=True, kw_only=True)
class Task:
    """Rows to learn from, rows to be judged on, and where they came from."""

    dataset: str
    train: Rows
    test: Rows
    train_split: str
    test_split: str
    class_set: str
    manifest: Path
    """The dataset's, in the store."""
    targets_from: dict[str, str] | None = None
    """File, and its sha256, that targets beside the classes are from; None where nothing learns any."""


_COPIES = 3
"""How often a head holds its rows in memory: as they are, scaled, and as tensors."""


def load_task(
    store: Path,
    data: str | None,
    features: Sequence[str] | None,
    missing: Missing,
    train_split: str,
    test_split: str | None,
    budget: float = math.inf,
    *,
    near: float | None = None,
    soft_labels: Path | None = None,
) -> Task:
    """Find the features, choose the splits, leave out rows without a label, and say all of that.

    Rows that with their copies take more bytes than `budget` stay in the store and are read piece by piece. With `near`
    faces of at least this cosine in a split become one group. `soft_labels` is a table for the rows to learn from.
    """
    from ..fusion import Rows

    view, dataset, opened = load_view(store, data, features or (), missing)
    _refuse_unlabelled(view, dataset)
    test_split = test_split or _test_split(view.splits, train_split)
    parts = {}
    for split in (train_split, test_split):
        parts[split] = _labelled(view, split, dataset, "--train-split" if split == train_split else "--test-split")
        unlabelled = sum(s == split for s in view.splits) - len(parts[split])
        if unlabelled:
            say(f"[yellow]{unlabelled:,} samples of split {escape(split)} have no label[/] and are left out")
    say(
        f"learning from {len(parts[train_split]):,} rows of [bold]{escape(train_split)}[/], "
        f"judged on {len(parts[test_split]):,} rows of [bold]{escape(test_split)}[/]"
    )
    _warn_of_leaks(opened, dataset, list(view.fingerprints), (train_split, test_split))
    load = fits_in_memory(sum(len(part) for part in parts.values()), view, budget)
    return Task(
        dataset=dataset,
        train=voted(near_ones_tied(Rows.of(as_rows(parts[train_split]), load=load), near), soft_labels),
        test=near_ones_tied(Rows.of(as_rows(parts[test_split]), load=load), near),
        train_split=train_split,
        test_split=test_split,
        class_set=view.class_set.name,
        manifest=opened.path / dataset / "manifest.csv",
    )


def load_folds_task(
    store: Path,
    data: str | None,
    features: Sequence[str] | None,
    missing: Missing,
    train_split: str,
    budget: float = math.inf,
    *,
    near: float | None = None,
    soft_labels: Path | None = None,
) -> Task:
    """Find the rows of a cross-validation: those of the training split, or all where there is one split only.

    Pictures that are there more than once stay on one side of every fold, and with `near` so do faces of at least this
    cosine. Both parts of the task are the same rows.
    """
    from ..fusion import Rows
    from ..fusion.data.rows import tied

    view, dataset, opened = load_view(store, data, features or (), missing)
    _refuse_unlabelled(view, dataset)
    names = list(dict.fromkeys(view.splits))
    split = names[0] if len(names) == 1 else train_split
    part = _labelled(view, split, dataset, "--train-split")
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
    rows = voted(near_ones_tied(rows, near), soft_labels)
    return Task(
        dataset=dataset, train=rows, test=rows, train_split=split, test_split=split, class_set=view.class_set.name,
        manifest=opened.path / dataset / "manifest.csv",
    )  # fmt: skip


def _refuse_unlabelled(view: View, dataset: str) -> None:
    if not (view.y >= 0).any():
        raise typer.BadParameter(
            f"no sample of dataset {dataset!r} has a label: nothing can be learned from it or judged on it. Give it a "
            "manifest with labels, cer-feat use-manifest, or answer it, cer-fuse predict",
            param_hint="--data",
        )


def _labelled(view: View, split: str, dataset: str, option: str) -> View:
    """The rows of a split that have a label; refuses a split without any."""
    part = view.take([s == split and y >= 0 for s, y in zip(view.splits, view.y, strict=True)])
    if not len(part):
        raise typer.BadParameter(
            f"no labelled sample in split {split!r}; dataset {dataset!r} has {splits_text(view.splits)}",
            param_hint=option,
        )
    return part


def near_ones_tied(rows: Rows, near: float | None) -> Rows:
    """The rows with one group for all that are near-duplicates of each other, and says how many; None ties none."""
    from ..fusion.data.rows import tied
    from ..fusion.judging.measures import near_duplicates

    if near is None:
        return rows
    found, _ = near_duplicates(rows, threshold=near)
    if found.found > len(found.pairs):
        raise typer.BadParameter(
            f"{found.found:,} pairs of rows are that alike, more than the {len(found.pairs):,} that are told apart; "
            "take a larger cosine",
            param_hint="--near",
        )
    say(f"{found.samples:,} rows have a near-duplicate (cosine {near:g} or more): they are one group")
    return tied(rows, [(pair.sample_id, pair.other_id) for pair in found.pairs])


def voted(rows: Rows, table: Path | None) -> Rows:
    """The rows with the soft labels of a table of votes, and says how many have some; the others keep their label.

    Raises
    ------
    typer.BadParameter
        If the table is about none of the rows.
    """
    import numpy as np

    from ..featstore import read_soft_labels

    if table is None:
        return rows
    votes = read_soft_labels(table, rows.classes)
    there = [i for i, name in enumerate(rows.names) if name in votes]
    if not there:
        raise about_others(table, votes, rows, "--soft-labels")
    soft = np.eye(len(rows.classes))[rows.y]
    soft[there] = [votes[rows.names[i]] for i in there]
    soft /= soft.sum(axis=1, keepdims=True)
    other = int((soft[there].argmax(axis=1) != rows.y[there]).sum())
    say(
        f"{len(there):,} of {rows.n:,} rows learn from votes, the others from their label"
        + (f"; [yellow]most votes of {other:,} are for another class than their label[/]" if other else "")
    )
    return replace(rows, soft=soft)


def about_others(table: Path, listed: Collection[str], rows: Rows, option: str) -> typer.BadParameter:
    """What is wrong with a table of other samples than those that are learned from."""
    return typer.BadParameter(
        f"{table} has {len(listed):,} samples, none of which is learned from (the first there: "
        f"{next(iter(listed), 'none')!r}, here: {rows.names[0]!r})",
        param_hint=option,
    )


def schooled(
    task: Task,
    basic: str | None,
    heads: Sequence[Any],
    store: Path,
    train_split: str,
    missing: Missing,
    budget: float,
    *,
    wanted: bool = False,
) -> Task:
    """The task with rows of basic expressions beside its training rows, for heads that learn from both.

    Raises
    ------
    typer.BadParameter
        If no head, nor what else is `wanted`, has a use for them, or one has and there are none.
    """
    from ..fusion.judging.zero_shot import with_basic

    able = [head for head in heads if getattr(head, "learns_basic", False) and head._wants_basic()]
    if basic is None:
        if able:
            raise typer.BadParameter(
                f"{able[0].name} has a curriculum or mixes compounds, which needs rows of basic expressions: name "
                "their dataset",
                param_hint="--basic",
            )
        return task
    if not able and not wanted:
        raise typer.BadParameter(
            "nothing here learns from basic expressions beside compounds: give a head of networks a curriculum or "
            "mixed_compounds (--set)",
            param_hint="--basic",
        )
    rows, _ = basic_rows(
        store, basic, task=task, train_split=train_split, missing=missing, budget=budget, option="--basic"
    )
    return replace(task, train=with_basic(task.train, rows))


SIDE_PX = 96
"""Longer side of a thumbnail."""


def thumbnails_of(root: Path, paths: Sequence[str], side_px: int, step: Progress) -> list[bytes | None]:
    """JPEG of every picture, upright; None of one that cannot be read, and it is said how many.

    Raises
    ------
    FeatstoreError
        If none of them can.
    """
    from ..backbones.errors import PictureError
    from ..backbones.picture import thumbnail
    from ..featstore import FeatstoreError
    from ..featstore.pictures.pictures import PictureSource

    source = PictureSource(root)

    def made(path: str) -> bytes | None:
        try:
            return thumbnail(source.read(path), side_px)
        except (OSError, PictureError):
            return None

    found: list[bytes | None] = []
    with ThreadPoolExecutor(2) as pool:
        for one in pool.map(made, paths):
            found.append(one)
            step("thumbnails", len(found), len(paths))
    lost = [path for path, one in zip(paths, found, strict=True) if one is None]
    if lost and len(lost) == len(paths):
        raise FeatstoreError(
            f"no picture can be read below {root} (first: {lost[0]})\n"
            "  say where they are now: cer-feat use-manifest … --root FOLDER, or leave --thumbnails out"
        )
    if lost:
        say(f"[yellow]{len(lost):,} pictures cannot be read[/] (first: {escape(lost[0])}): they have no thumbnail")
    return found


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
    if not any(splits):
        raise typer.BadParameter(
            "no sample has a split: make some with cer-feat manifest split, or take folds, cer-fuse compare --cv 5",
            param_hint="--test-split",
        )
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


def basic_rows(
    store: Path,
    data: str,
    *,
    task: Task,
    train_split: str,
    missing: Missing,
    budget: float,
    option: str = "--zero-shot",
) -> tuple[Rows, str]:
    """Find the rows of basic expressions, leave out pictures that stand among the rows to be judged, and say so.

    The rows are the labelled ones of the training split, or all where the dataset has one split only. Also the name of
    their dataset.
    """
    from ..featstore import Store
    from ..fusion import Rows

    opened = Store(store)
    dataset = opened.dataset(data)
    view = opened.view(
        list(task.test.blocks),
        dataset=dataset,
        missing=missing,
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
            param_hint=option,
        )
    if sum(labelled) > len(part):
        say(
            f"[yellow]{sum(labelled) - len(part):,} pictures of {escape(dataset)} are among the rows to be judged[/]: "
            "nothing learns from them"
        )
    said = f" of [bold]{escape(split)}[/]" if split else ""
    say(f"{option.lstrip('-')}: learning from {len(part):,} rows{said} of [bold]{escape(dataset)}[/]")
    rows = Rows.of(as_rows(part), load=fits_in_memory(len(part), view, budget))
    return replace(rows, targets=None, units=None), dataset  # they learn the expressions alone


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
