"""`cer-feat ls`, `show` and `verify`: look at a store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cer_fusion.commands.console import FAILED, escape, out, out_json, out_table, progress_bar, say, size_text
from cer_fusion.commands.options import DEFAULT_STORE, Json, StoredData, StorePath

if TYPE_CHECKING:
    from cer_fusion.featstore import Feature, Manifest, Store


def ls(store: StorePath = DEFAULT_STORE, as_json: Json = False) -> None:
    """List the features of a store: rows, completeness, size, age.

    Example: cer-feat ls --store features
    """
    from cer_fusion.featstore import Store
    from cer_fusion.featstore.store import lacks_manifest

    opened = Store(store)
    known = {*opened.datasets(), *(path.name for path in opened.path.iterdir() if lacks_manifest(path))}
    entries = [entry for dataset in sorted(known) for entry in _of_dataset(opened, dataset)]
    for entry in entries:
        if "unusable" in entry:
            label = "/".join(filter(None, (entry["dataset"], entry["feature"])))
            say(f"[bold red]{escape(label)} cannot be used:[/] {escape(entry['unusable'])}")
    if as_json:
        out_json(entries)
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
    out_table(["dataset", "feature", "blocks", "dtype", "rows", "quarantine", "size", "age"], rows, left=4)


def _of_dataset(opened: Store, dataset: str) -> list[dict[str, Any]]:
    """Its features; where something is damaged, what that is, and the others all the same."""
    from cer_fusion.featstore import FeatstoreError

    try:
        manifest = opened.manifest(dataset)
        features, unopened = opened.opened_features(dataset)
    except (FeatstoreError, OSError) as error:
        return [{"dataset": dataset, "feature": None, "samples": None, "unusable": str(error)}]
    entries: list[dict[str, Any]] = []
    for feature in features:
        try:
            entries.append({"dataset": dataset, **_summary(feature, manifest)})
        except (FeatstoreError, OSError) as error:
            unopened[feature.label] = error
    for label, why in unopened.items():
        entries.append({"dataset": dataset, "feature": label, "samples": len(manifest), "unusable": str(why)})
    none = {"dataset": dataset, "feature": None, "samples": len(manifest)}
    return sorted(entries, key=lambda entry: entry["feature"]) or [none]


def show(
    feature: Annotated[str, typer.Argument(help="A feature's name, or name@fingerprint.")],
    data: StoredData = None,
    store: StorePath = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Show what a feature is: everything that fixes its numbers, and where its weights came from.

    Example: cer-feat show manet --store features
    """
    from cer_fusion.featstore import Store

    opened = Store(store)
    found = opened.feature(feature, data)
    summary = _summary(found, opened.manifest(data))
    entry = {**summary, "identity": dict(found.spec.identity), "described": dict(found.spec.described)}
    if as_json:
        out_json(entry)
        return
    for key, value in _lines(entry):
        out(f"{key:<32} {value}")


def verify(
    store: StorePath = DEFAULT_STORE,
    data: StoredData = None,
    images: Annotated[bool, typer.Option("--images", help="Also compare every picture with its row's digest.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set damaged shards aside, mend feature.json; nothing is deleted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read every byte of the store and compare it with its digests; exit status 1 if something is wrong.

    Example: cer-feat verify --images --store features
    """
    from cer_fusion.featstore import Store
    from cer_fusion.featstore import verify as run_verify

    with progress_bar() as step:
        report = run_verify(Store(store), dataset=data, images=images, repair=repair, progress=step)
    if as_json:
        out_json({**vars(report), "problems": [vars(p) for p in report.problems]})
    else:
        for problem in report.problems:
            out(f"{problem.where}\n  {problem.what}")
        looked = f"{report.shards:,} shards, {report.rows:,} rows, {size_text(report.nbytes)}"
        looked += f", {report.pictures:,} pictures" if images else ""
        out(f"{looked}: {len(report.problems):,} problems" if report.problems else f"{looked}: all as written")
    for path in report.mended:
        say(f"wrote {escape(path)} anew; the damaged one is beside it as damaged-{escape(path.name)}")
    if report.set_aside:
        say(f"set aside {len(report.set_aside)} shards; run the same cer-feat extract again to bring their rows back")
    if report.problems:
        raise typer.Exit(FAILED)


def _summary(feature: Feature, manifest: Manifest) -> dict[str, Any]:
    index = feature.index()
    ids = set(manifest.ids)
    paths = feature.shard_paths()
    return {
        "feature": feature.label,
        "fingerprint": feature.spec.fingerprint,
        "blocks": dict(feature.spec.blocks),
        "dtype": feature.spec.dtype,
        "samples": len(ids),
        "rows": sum(sample_id in index.place for sample_id in ids),
        "quarantined": sum(sample_id in index.quarantined for sample_id in ids),
        "shards": len(paths),
        "nbytes": sum(path.stat().st_size for path in paths),
        "newest_s": max((path.stat().st_mtime for path in paths), default=0.0),
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
