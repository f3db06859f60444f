"""`cer-feat relabel`: other labels, splits or samples for a dataset, without embedding anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import escape, out, out_json, say
from commands.options import DEFAULT_STORE, DatasetName, Json, Root, StorePath

if TYPE_CHECKING:
    from featstore import Manifest


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
    from featstore import Manifest, Store

    opened = Store(store)
    name = opened.dataset(dataset or manifest.stem.replace(".", "_"))
    new = Manifest.read(manifest, root=root)
    changes = _changes(opened.readable_manifest(name), new)
    if not dry_run:
        opened.put_manifest(name, new)
    if as_json:
        out_json({"dataset": name, "samples": len(new), **changes, "dry_run": dry_run})
        return
    what = [f"{count:,} {kind.replace('_', ' ')}" for kind, count in changes.items() if count]
    verb = "would become" if dry_run else "is now"
    out(f"{manifest} {verb} the manifest of {name}, {len(new):,} samples: {', '.join(what) or 'nothing changed'}")
    if changes["added"]:
        say(f"embed the new samples with: cer-feat extract --backbone … --data {escape(name)} --store {escape(store)}")


def _changes(old: Manifest | None, new: Manifest) -> dict[str, Any]:
    """How many samples came, went, or changed, by column."""
    before = {sample.sample_id: sample for sample in old.samples} if old is not None else {}
    pairs = [(before[s.sample_id], s) for s in new.samples if s.sample_id in before]
    return {
        "added": len(new) - len(pairs),
        "removed": len(before) - len(pairs),
        "other_labels": sum(a.label != b.label for a, b in pairs),
        "other_splits": sum(a.split != b.split for a, b in pairs),
        "other_groups": sum(a.group != b.group for a, b in pairs),
        "other_paths": sum(a.path != b.path for a, b in pairs),
    }
