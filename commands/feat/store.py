"""`cer-feat ls`, `parts`, `quarantine`, `show`, `diff`, `use-manifest`: what a store has and lacks, by which list."""

from __future__ import annotations

import json
import string
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...kit.errors import Masked
from .. import options as opt
from ..console import FAILED, escape, out, out_json, say, size_text
from ..data import dataset_of
from ..parts import array_text
from ..tables import out_facts, out_table

if TYPE_CHECKING:
    from ...featstore import Feature, FeatureSpec, Store
    from ...featstore.rows.feature import Change


def ls(store: opt.StorePath = opt.DEFAULT_STORE, as_json: opt.Json = False) -> None:
    """List the features of a store: rows, completeness, size, age.

    Example: cer-feat ls --store features
    """
    from ...featstore import Store
    from ...featstore.store import lacks_manifest

    opened = Store(store)
    known = {*opened.datasets(), *(path.name for path in opened.path.iterdir() if lacks_manifest(path))}
    entries = [entry for dataset in sorted(known) for entry in _of_dataset(opened, dataset)]
    for entry in entries:
        if "unusable" in entry:
            label = "/".join(filter(None, (entry["dataset"], entry["feature"])))
            say(f"[bold red]{escape(label)} cannot be used:[/] {escape(entry['unusable'])}")
    if as_json:
        out_json({"features": entries})
        return
    rows = [
        [
            e["dataset"],
            e["feature"] or ("" if "unusable" in e else "(none yet)"),
            ", ".join(f"{name} {width}" for name, width in e.get("blocks", {}).items()),
            e.get("dtype", ""),
            "unusable" if "unusable" in e else f"{e.get('rows', 0):,}/{e['samples']:,}",
            f"{e.get('quarantined', 0):,}",
            size_text(e.get("nbytes", 0)),
            _age(e["newest_s"]) if e.get("newest_s") else "",
        ]
        for e in entries
    ]
    header = ["dataset", "feature", "blocks", "dtype", "rows", "quarantine", "size", "age"]
    out_table(header, rows, labels=2, left=4, words={2})


def parts(
    of: Annotated[int, typer.Option("--parts", min=1, help="Parts that the work is divided into, as for extract.")],
    store: opt.StorePath = opt.DEFAULT_STORE,
    data: opt.StoredData = None,
    features: opt.Features = None,
    shard_rows: Annotated[int, typer.Option(min=1, help="Samples a shard, as for extract.")] = 2048,
    as_json: opt.Json = False,
) -> None:
    """Print the unfinished parts of an extraction as sbatch --array takes them: 3,7,12-15.

    Part k is array index k. A part is finished when each of its samples has a row in every feature, or stands in
    quarantine. Nothing is printed when all are. Without --features, all features that the dataset has are looked at.

    Example: cer-feat parts --store features --data faces --parts 16
    """
    from ...featstore.extraction.plan import unfinished_parts

    opened, dataset = dataset_of(store, data)
    names = features or []
    found = [opened.feature(name, dataset) for name in names] if names else opened.usable_features(dataset)
    complete = bool(found) and all(sum(opened.counts(one, dataset)) == opened.size(dataset) for one in found)
    left = [] if complete else unfinished_parts(opened.manifest(dataset), found, shard_rows=shard_rows, parts=of)
    if not found:
        say(f"dataset [bold]{escape(dataset)}[/] has no features yet: all parts are unfinished")
    elif not left:
        say(f"all parts are finished, of {escape(', '.join(feature.label for feature in found))}")
    unread = {one for feature in found for one, (digest, _) in feature.quarantined().items() if not digest}
    if unread:
        unread &= set(opened.manifest(dataset).ids)
    if unread:
        say(f"[yellow]{len(unread):,} pictures could not be read[/], first: {escape(min(unread))}; extract tries again")
    if as_json:
        out_json({"dataset": dataset, "parts": of, "unfinished": left, "array": array_text(left)})
    elif left:
        out(array_text(left))


def quarantine(
    data: opt.StoredData = None,
    store: opt.StorePath = opt.DEFAULT_STORE,
    features: opt.Features = None,
    as_json: opt.Json = False,
) -> None:
    """List the samples that have no row and why: pictures that could not be read, faces that were not found.

    Each stands once a feature. What could not be read is tried again by the next extract, all else by
    extract --retry-quarantined.

    Example: cer-feat quarantine --data faces --features manet
    """
    opened, dataset = dataset_of(store, data)
    names = features or []
    found = [opened.feature(name, dataset) for name in names] if names else opened.usable_features(dataset)
    manifest = opened.manifest(dataset)
    path_of = {sample.sample_id: sample.path for sample in manifest.samples}
    entries = [
        {
            "feature": feature.label,
            "sample_id": sample_id,
            "path": path_of[sample_id],
            "reason": reason,
            "tried_again": not digest,
        }
        for feature in found
        for sample_id, (digest, reason) in sorted(feature.quarantined().items())
        if sample_id in path_of
    ]
    if as_json:
        out_json({"dataset": dataset, "samples": len(manifest), "quarantined": entries})
        return
    if not entries:
        out(f"no sample of {dataset} is in quarantine" if found else f"dataset {dataset} has no features yet")
        return
    rows = [[str(e["feature"]), str(e["sample_id"]), str(e["path"]), str(e["reason"])] for e in entries]
    out_table(["feature", "sample", "path", "reason"], rows, labels=2, left=4, words={3})


def show(
    feature: Annotated[str, typer.Argument(help="A feature's name, or name@fingerprint.")],
    data: opt.StoredData = None,
    store: opt.StorePath = opt.DEFAULT_STORE,
    as_json: opt.Json = False,
) -> None:
    """Show what a feature is: everything that fixes its numbers, and where its weights came from.

    Example: cer-feat show manet --store features
    """
    from ...featstore import Store

    opened = Store(store)
    found = opened.feature(feature, data)
    summary = _summary(opened, opened.dataset(data), found)
    reasons = (Masked.reason(reason) for _, reason in found.quarantined().values())
    masked = dict(Counter(reason for reason in reasons if reason is not None))
    entry = {
        **summary,
        **({"masked": masked} if masked else {}),
        "identity": dict(found.spec.identity),
        "described": dict(found.spec.described),
    }
    if as_json:
        out_json(entry)
        return
    out_facts(_lines(entry), pad=32)


@opt.forms(
    stored=opt.Form("is for features of a store, and both are named by their paths", ("store",)),
    unnamed=opt.Form("is for features without a dataset's name or a path, and none is", ("data",)),
)
def diff(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="manet, manet@3f9c, DATASET/FEATURE, or a feature's folder.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The same, in any store.")],
    data: opt.StoredData = None,
    store: opt.StorePath = opt.DEFAULT_STORE,
    as_json: opt.Json = False,
) -> None:
    """Say which fields tell two features apart, old (A) and new (B).

    Exit status 0 if they are one and the same, whatever they are called; 1 if they differ.

    Example: cer-feat diff manet@3f9c manet@a01b --store features
    """
    from ...featstore.rows.feature import changes, differences

    inside = [text for text in (a, b) if _file_of(text) is None]
    opt.only(ctx, stored=inside, unnamed=any("/" not in text for text in inside))
    old, new = (_spec(text, store, data) for text in (a, b))
    equal = old.fingerprint == new.fingerprint
    fields = differences(old, new)
    described = changes(old.described, new.described)
    if as_json:
        sides = {
            side: {"feature": spec.folder, "name": spec.name, "fingerprint": spec.fingerprint}
            for side, spec in (("a", old), ("b", new))
        }
        changed = {"differences": _entries(fields), "described": _entries(described)}
        out_json({**sides, "equal": equal, "names_equal": old.name == new.name, **changed})
    else:
        _print_diff(old, new, fields, described)
    if not equal:
        raise typer.Exit(FAILED)


def use_manifest(
    manifest: Annotated[Path, typer.Argument(help="The manifest that becomes the dataset's.")],
    store: opt.StorePath = opt.DEFAULT_STORE,
    dataset: opt.DatasetName = None,
    root: opt.Root = None,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Make a manifest the dataset's: its labels, splits and groups count from now on, and no row changes.

    Samples that are new have no rows until the next cer-feat extract; rows of samples that are gone stay unused.

    Example: cer-feat use-manifest rafdb.csv --store features
    """
    from ...featstore import Manifest, Store

    opened = Store(store)
    new = Manifest.read(manifest).at(root)
    usual = manifest.stem.replace(".", "_")
    if dataset is None and usual not in opened.datasets():
        raise typer.BadParameter(
            f"no dataset {usual!r} in store {store}, as {manifest} is called: name the dataset that it is for "
            f"({', '.join(opened.datasets())})",
            param_hint="--dataset",
        )
    name = opened.dataset(dataset or usual)
    change = opened.manifest_change(name, new) if dry_run else opened.use_manifest(name, new)
    if change.unreadable:
        say(f"[yellow]what it changes is not known:[/] {escape(change.unreadable)}")
    if as_json:
        out_json({"dataset": name, "samples": len(new), **change.counts(), "dry_run": dry_run})
        return
    verb = "would become" if dry_run else "is now"
    what = change.text or ("what it changes is not known" if change.unreadable else "nothing changed")
    out(f"{manifest} {verb} the manifest of {name}, {len(new):,} samples: {what}")
    if change.added:
        say(f"embed the new samples with: cer-feat extract --backbone … --data {escape(name)} --store {escape(store)}")


def _of_dataset(opened: Store, dataset: str) -> list[dict[str, Any]]:
    """Its features; where something is damaged, what that is, and the others all the same."""
    from ...featstore import FeatstoreError

    try:
        samples = opened.size(dataset)
        features, unopened = opened.opened_features(dataset)
    except (FeatstoreError, OSError) as error:
        return [{"dataset": dataset, "feature": None, "samples": None, "unusable": str(error)}]
    entries: list[dict[str, Any]] = []
    for feature in features:
        try:
            entries.append({"dataset": dataset, **_summary(opened, dataset, feature)})
        except (FeatstoreError, OSError) as error:
            unopened[feature.label] = error
    for label, why in unopened.items():
        entries.append({"dataset": dataset, "feature": label, "samples": samples, "unusable": str(why)})
    none = {"dataset": dataset, "feature": None, "samples": samples}
    return sorted(entries, key=lambda entry: entry["feature"]) or [none]


def _summary(opened: Store, dataset: str, feature: Feature) -> dict[str, Any]:
    counts = opened.counts(feature, dataset)
    stats = [path.stat() for path in feature.shard_paths()]
    return {
        "feature": feature.label,
        "fingerprint": feature.spec.fingerprint,
        "blocks": dict(feature.spec.blocks),
        "dtype": feature.spec.dtype,
        "samples": opened.size(dataset),
        "rows": counts.rows,
        "quarantined": counts.quarantined,
        "shards": len(stats),
        "nbytes": sum(stat.st_size for stat in stats),
        "newest_s": max((stat.st_mtime for stat in stats), default=0.0),
    }


def _lines(entry: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for key, value in entry.items():
        if isinstance(value, dict) and value:
            lines += _lines(value, f"{prefix}{key}.")
        elif key == "newest_s":
            lines.append(("newest", f"{_age(value)} ago" if value else "no shard yet"))
        elif key == "nbytes":
            lines.append(("size", size_text(value)))
        else:
            lines.append((f"{prefix}{key}", escape(value) if value == "" else str(value)))
    return lines


def _age(moment_s: float) -> str:
    age_s = max(0.0, time.time() - moment_s)
    for size_s, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if age_s >= size_s:
            return f"{age_s / size_s:,.0f} {unit}"
    return f"{age_s:.0f} s"


def _spec(text: str, store: Path, data: str | None) -> FeatureSpec:
    """A feature's spec: from its own file where a path is named, else from the store."""
    from ...featstore import FeatureSpec, Store

    file = _file_of(text)
    if file is not None:
        return FeatureSpec.read(file)
    dataset, slash, name = text.rpartition("/")
    return Store(store).feature(name, dataset if slash else data).spec


def _file_of(text: str) -> Path | None:
    """The file of a feature that is named by a path; None for one of the store."""
    path = Path(text)
    if path.suffix == ".json":
        return path
    outside = (path / "feature.json").is_file() or path.is_absolute() or text.startswith(".")
    return path / "feature.json" if outside else None


def _entries(fields: list[Change]) -> list[dict[str, Any]]:
    return [{"field": name, "old": old, "new": new} for name, old, new in fields]


def _print_diff(old: FeatureSpec, new: FeatureSpec, fields: list[Change], described: list[Change]) -> None:
    if fields:
        title = f"{old.folder} -> {new.folder}"
        out_table(["field", "old", "new"], _cells(fields), title=title, left=3, words={1, 2})
    else:
        out(f"{old.folder} and {new.folder} are the same feature: their fingerprint is {old.fingerprint}")
        if old.name != new.name:
            out(f"only the names differ, {old.name} -> {new.name}, and a name is not part of the identity")
    if described:
        title = "not part of the identity: where it came from, and with which libraries"
        out_table(["described", "old", "new"], _cells(described), title=title, left=3, words={1, 2})


def _cells(fields: list[Change]) -> list[list[str]]:
    return [[name, *_shown(old, new)] for name, old, new in fields]


def _shown(*values: Any) -> list[str]:
    """Values as JSON, text without quotes; digests by their first digits where those tell them apart."""
    texts = [
        v if isinstance(v, str) and v else "(none)" if v is None else json.dumps(v, ensure_ascii=False) for v in values
    ]
    short = [text[:12] + "…" if _is_digest(text) else text for text in texts]
    return short if len(set(short)) == len(set(texts)) else texts


def _is_digest(text: str) -> bool:
    return len(text) >= 32 and not set(text) - set(string.hexdigits)
