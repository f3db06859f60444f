"""`cer-feat diff`: what tells two features apart."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cer_fusion.commands.console import FAILED, out, out_json, out_table
from cer_fusion.commands.forms import Form, forms, only
from cer_fusion.commands.options import DEFAULT_STORE, Json, StoredData, StorePath

if TYPE_CHECKING:
    from cer_fusion.featstore import FeatureSpec
    from cer_fusion.featstore.rows.spec import Change

_SHOWN_DIGITS = 12


@forms(
    always=("as_json",),
    stored=Form("is for features of a store, and both are named by their paths", ("store",)),
    unnamed=Form("is for features without a dataset's name or a path, and none is", ("data",)),
)
def diff(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(metavar="A", help="manet, manet@3f9c, DATASET/FEATURE, or a feature's folder.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The same, in any store.")],
    data: StoredData = None,
    store: StorePath = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Say which fields tell two features apart, old (A) and new (B).

    Exit status 0 if they are one and the same, whatever they are called; 1 if they differ.

    Example: cer-feat diff manet@3f9c manet@a01b --store features
    """
    from cer_fusion.featstore.rows.spec import changes, differences

    inside = [text for text in (a, b) if _file_of(text) is None]
    only(ctx, stored=inside, unnamed=any("/" not in text for text in inside))
    old, new = (_spec(text, store, data) for text in (a, b))
    equal = old.fingerprint == new.fingerprint
    fields = differences(old, new)
    described = changes(old.described, new.described)
    if as_json:
        sides = {side: _side(spec) for side, spec in (("a", old), ("b", new))}
        changed = {"differences": _entries(fields), "described": _entries(described)}
        out_json({**sides, "equal": equal, "names_equal": old.name == new.name, **changed})
    else:
        _print_diff(old, new, fields, described)
    if not equal:
        raise typer.Exit(FAILED)


def _spec(text: str, store: Path, data: str | None) -> FeatureSpec:
    """A feature's spec: from its own file where a path is named, else from the store."""
    from cer_fusion.featstore import FeatureSpec, Store

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


def _side(spec: FeatureSpec) -> dict[str, str]:
    return {"feature": spec.folder, "name": spec.name, "fingerprint": spec.fingerprint}


def _print_diff(old: FeatureSpec, new: FeatureSpec, fields: list[Change], described: list[Change]) -> None:
    if fields:
        out_table(["field", "old", "new"], _cells(fields), title=f"{old.folder} -> {new.folder}", left=3)
    else:
        out(f"{old.folder} and {new.folder} are the same feature: their fingerprint is {old.fingerprint}")
        if old.name != new.name:
            out(f"only the names differ, {old.name} -> {new.name}, and a name is not part of the identity")
    if described:
        title = "not part of the identity: where it came from, and with which libraries"
        out_table(["described", "old", "new"], _cells(described), title=title, left=3)


def _cells(fields: list[Change]) -> list[list[str]]:
    return [[name, *_shown(old, new)] for name, old, new in fields]


def _shown(*values: Any) -> list[str]:
    """Values as JSON, text without quotes; digests by their first digits where those tell them apart."""
    texts = [
        v if isinstance(v, str) and v else "(none)" if v is None else json.dumps(v, ensure_ascii=False) for v in values
    ]
    short = [text[:_SHOWN_DIGITS] + "…" if _is_digest(text) else text for text in texts]
    return short if len(set(short)) == len(set(texts)) else texts


def _is_digest(text: str) -> bool:
    return len(text) >= 32 and not set(text) - set(string.hexdigits)
