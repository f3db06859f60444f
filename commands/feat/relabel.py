"""`cer-feat relabel`: other labels, splits or samples for a dataset, without embedding anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cer_fusion.commands.console import escape, out, out_json, say
from cer_fusion.commands.options import DEFAULT_STORE, DatasetName, Json, Root, StorePath


def relabel(
    manifest: Annotated[Path, typer.Argument(help="The manifest that becomes the dataset's.")],
    store: StorePath = DEFAULT_STORE,
    dataset: DatasetName = None,
    root: Root = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    as_json: Json = False,
) -> None:
    """Make a manifest the dataset's: its labels, splits and groups count from now on, and no row changes.

    Samples that are new have no rows until the next cer-feat extract; rows of samples that are gone stay unused.

    Example: cer-feat relabel rafdb.csv --store features
    """
    from cer_fusion.featstore import Manifest, Store

    opened = Store(store)
    name = opened.dataset(dataset or manifest.stem.replace(".", "_"))
    new = Manifest.read(manifest).at(root)
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
