"""Options that several commands share, and what is taken when they are left out."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from cer_fusion.commands.console import PROGRESS_VARIABLE, escape, say

if TYPE_CHECKING:
    from cer_fusion.featstore import Manifest, Store, View

StorePath = Annotated[
    Path, typer.Option("--store", "-s", envvar="CER_STORE", help="The feature store's folder.", show_default=True)
]
DEFAULT_STORE = Path("features")
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Seed = Annotated[int, typer.Option("--seed", help="What every random choice is drawn from.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps, or auto (says what it chose).")]
Data = Annotated[
    str | None,
    typer.Option("--data", "-d", help="A manifest CSV, or the name of a dataset in the store.", show_default=False),
]


def _no_file(data: str | None) -> str | None:
    """Refuse a file where a dataset of the store is named."""
    if data is not None and (data.lower().endswith(".csv") or Path(data).name != data):
        name = Path(data).stem.replace(".", "_")
        raise typer.BadParameter(
            f"{data} is a file, and a dataset of the store is named here: --data {name}\n"
            "a file's samples become a dataset's with cer-feat extract, import or relabel"
        )
    return data


StoredData = Annotated[
    str | None,
    typer.Option("--data", "-d", help="A dataset in the store.", show_default=False, callback=_no_file),
]
DatasetName = Annotated[
    str | None,
    typer.Option("--dataset", help="Name in the store.", show_default="the manifest file's name"),
]
Root = Annotated[
    Path | None,
    typer.Option("--root", help="Where the pictures' paths start.", show_default="as the manifest says"),
]
ReplaceManifest = Annotated[
    bool,
    typer.Option(
        "--replace-manifest",
        help="Let the manifest take the place of the dataset's even if it removes samples or lists other pictures.",
    ),
]
Missing = Annotated[str, typer.Option("--missing", help="Samples without a row: error, or drop them.")]
Features = Annotated[
    str | None,
    typer.Option("--features", "-f", help="Features or blocks, comma-separated: vit,manet.local.", show_default=False),
]

Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        help="What rows may take: 2GB, 500MB. Beyond it they are read from the store piece by piece.",
        show_default="half of what is available",
    ),
]


def split_list(text: str | None) -> list[str]:
    """A comma-separated option as a list."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def numbers(text: str | None, option: str) -> list[float]:
    """A comma-separated option as numbers."""
    try:
        return [float(part) for part in split_list(text)]
    except ValueError:
        raise typer.BadParameter(f"expected numbers such as 0.1,1,10, however: {text!r}", param_hint=option) from None


def key_values(entries: list[str] | None, option: str) -> dict[str, Any]:
    """Repeated `key=value` options; values are JSON where they can be, `1,2,3` is a list of numbers, else text."""
    found: dict[str, Any] = {}
    for entry in entries or []:
        key, equals, text = entry.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"expected key=value, however: {entry!r}", param_hint=option)
        found[key.strip()] = _value(text)
    return found


def _value(text: str) -> Any:
    with contextlib.suppress(ValueError):
        return json.loads(text)
    with contextlib.suppress(ValueError):
        several = json.loads(f"[{text}]")
        if several and all(isinstance(one, int | float) for one in several):
            return several
    return text


def memory_budget(text: str | None) -> float:
    """Bytes that `--memory` allows; by default half of what is available, or any number where nobody knows."""
    from cer_fusion.commands.machine import memory_available

    if text is None:
        available = memory_available()
        return float("inf") if available is None else available / 2
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)i?B?\s*", text, re.IGNORECASE)
    if not match:
        raise typer.BadParameter(f"expected a size such as 2GB or 500MB, however: {text!r}", param_hint="--memory")
    return float(match[1]) * {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}[match[2].lower()]


def manifest_and_dataset(
    data: str | None, store: Path, *, dataset: str | None, root: Path | None
) -> tuple[Manifest, str]:
    """The manifest that `--data` names (a file, or a dataset in the store), and the dataset's name."""
    from cer_fusion.featstore import Manifest, Store
    from cer_fusion.featstore.manifests.sidecar import in_store

    if data is not None and (Path(data).suffix or Path(data).is_file()):
        file = Path(data)
        name = file.absolute().parent.name if in_store(file) else file.stem.replace(".", "_")
        return Manifest.read(file).at(root), dataset or name
    opened = Store(store)
    name = opened.dataset(data)
    if data is None:
        say(f"dataset: [bold]{escape(name)}[/], the only one in {escape(store)}")
    return opened.manifest(name).at(root), dataset or name


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
    if os.environ.get(PROGRESS_VARIABLE) == "lines":  # a worker: the one that it works for has said it
        return
    if change.text:
        say(
            f"dataset [bold]{escape(dataset)}[/]: {change.before:,} samples before, {change.after:,} now: "
            f"{escape(change.text)}"
        )
    elif change.unreadable:
        say(f"[yellow]what changes in dataset {escape(dataset)} is not known:[/] {escape(change.unreadable)}")


def features_of(store: Store, dataset: str, features: str | None) -> list[str]:
    """The features asked for; by default every feature of the dataset, and says so."""
    from cer_fusion.featstore import FeatstoreError

    chosen = split_list(features)
    if chosen:
        return chosen
    known = store.usable_features(dataset)
    if not known:
        raise FeatstoreError(
            f"dataset {dataset!r} in {store.path} has no features yet\n"
            f"  make one with: cer-feat extract --backbone … --data {dataset} --store {store.path}"
        )
    names = [f.name for f in known]
    chosen = [f.name if names.count(f.name) == 1 else f.label for f in known]
    say(f"features: [bold]{escape(', '.join(chosen))}[/], all there are")
    return chosen


def load_view(
    store: Path, data: str | None, features: str | None, missing: str, split: str | None = None
) -> tuple[View, str, Store]:
    """A mapped view of what was asked for, the dataset's name, and the store they are from."""
    from cer_fusion.featstore import Store

    opened = Store(store)
    dataset = opened.dataset(data)
    if data is None:
        say(f"dataset: [bold]{escape(dataset)}[/], the only one in {escape(store)}")
    chosen = features_of(opened, dataset, features)
    view = opened.view(chosen, dataset=dataset, split=split, missing=missing_choice(missing), mapped=True)
    return view, dataset, opened


def missing_choice(text: str) -> Literal["error", "drop"]:
    """What `--missing` says, checked."""
    if text == "error":
        return "error"
    if text == "drop":
        return "drop"
    raise typer.BadParameter(f"must be 'error' or 'drop', however: {text!r}", param_hint="--missing")


def names_a_file(data: str) -> bool:
    """Whether `--data` names a manifest's file and no dataset of the store, as `manifest_and_dataset` reads it."""
    return bool(Path(data).suffix) or Path(data).is_file()
