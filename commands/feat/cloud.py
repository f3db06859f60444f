"""`cer-feat push`, `pull`, `cache`: stores in buckets, features on the Hub. What is to leave is said first."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import leaving
from .. import options as opt
from ..console import escape, out, out_json, progress_bar, say, size_text
from ..data import load_view
from ..tables import out_table

if TYPE_CHECKING:
    from ...featstore.exchange.pushing import PullPlan, PushPlan, Transfer

Url = Annotated[
    str, typer.Argument(metavar="URL", help="s3://BUCKET/FOLDER, file:///FOLDER, gs://BUCKET/FOLDER or az://….")
]
Chosen = Annotated[
    list[str] | None,
    opt.several("--features", "-f", help="Features: vit,manet@3f9c.", show_default="all"),
]
ReplaceManifest = Annotated[
    bool,
    typer.Option("--replace-manifest", help="Let one manifest replace another that says something else of a sample."),
]


@opt.forms(
    sending=opt.Form("asks nothing, as --dry-run sends nothing", ("yes",)),
    bucket=opt.Form("is for buckets: on the Hub the history keeps what was there", ("replace_manifest",)),
    hub=opt.Form(
        "is for the Hub, hf://datasets/USER/NAME, and this is a bucket",
        ("public", "licence", "with_ids", "with_paths", "split", "missing"),
    ),
)
def push(
    ctx: typer.Context,
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="s3://BUCKET/FOLDER, file:///FOLDER, gs://…, az://…; hf://datasets/USER/NAME."
        ),
    ],
    store: opt.StorePath = opt.DEFAULT_STORE,
    data: opt.StoredData = None,
    features: Chosen = None,
    replace_manifest: ReplaceManifest = False,
    split: Annotated[str | None, typer.Option("--split", help="To the Hub: only samples of this split.")] = None,
    missing: opt.Missing = "error",
    public: leaving.Public = False,
    licence: leaving.Licence = None,
    with_ids: Annotated[bool, typer.Option("--with-ids", help="To the Hub: sample ids and groups too.")] = False,
    with_paths: Annotated[
        bool, typer.Option("--with-paths", help="To the Hub: the pictures' paths too, as the manifest has them.")
    ] = False,
    yes: leaving.Yes = False,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Put a store into a bucket: shards first, documents last; nothing there is replaced or removed.

    Run it again after a kill or a cut line: what is there is not sent again. Credentials, region and endpoint come from
    the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL).

    hf://datasets/USER/NAME is the Hugging Face Hub: features as Parquet files that the library datasets reads, with
    label names and splits; private unless --public, without sample ids and paths unless asked. The token is that of
    huggingface_hub: hf auth login, or HF_TOKEN.

    Example: cer-feat push --store features s3://bucket/faces

    Example: cer-feat push --store features hf://datasets/user/faces --with-paths
    """
    from ...featstore import Store
    from ...featstore.exchange import pushing
    from ...kit.hub import is_hub

    opt.only(ctx, sending=not dry_run, bucket=not is_hub(url), hub=is_hub(url))
    if is_hub(url):
        _push_features(
            url, store, data, features or [], split, missing, public=public, licence=licence,
            with_ids=with_ids, with_paths=with_paths, yes=yes, dry_run=dry_run, as_json=as_json,
        )  # fmt: skip
        return
    opened = Store(store)
    plan = pushing.plan_push(opened, url, dataset=data, features=features or [], replace_manifest=replace_manifest)
    for line in _leaving(plan):
        say(line)
    if not (plan.is_empty or dry_run or yes):
        leaving.ask()
    if not dry_run and not plan.is_empty:
        with progress_bar() as step:
            pushing.push(opened, plan, progress=step)
    _tell(pushing.Transfer.of(plan), "sent", "sends", dry_run=dry_run, as_json=as_json)


def pull(
    url: Url,
    store: opt.StorePath = opt.DEFAULT_STORE,
    data: opt.StoredData = None,
    features: Chosen = None,
    root: opt.Root = None,
    replace_manifest: ReplaceManifest = False,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Take a store, or some features of it, from a bucket; every shard is checked against the digest in its name.

    Run it again after a kill or a cut line: what is here is not fetched again. Pictures are in no bucket; --root says
    where they are.

    Example: cer-feat pull s3://bucket/faces --store features --features manet
    """
    from ...featstore.exchange import pushing
    from ...kit.hub import is_hub

    if is_hub(url):
        raise typer.BadParameter(
            f"{url} holds features as Parquet files, and a store is pulled from a bucket: read them with "
            "datasets.load_dataset, or download a file that has sample ids and take it with cer-feat import",
            param_hint="URL",
        )
    plan = pushing.plan_pull(
        store,
        url,
        dataset=data,
        features=features or [],
        root=root,
        replace_manifest=replace_manifest,
    )
    _tell_coming(plan)
    if not dry_run:
        with progress_bar() as step:
            pushing.pull(store, plan, progress=step)
    _tell(pushing.Transfer.of(plan), "took", "takes", dry_run=dry_run, as_json=as_json)


def cache(
    delete: Annotated[
        str | None, typer.Option("--delete", metavar="URL", help="Remove what is kept of this store, or of all.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--cache", envvar="CER_CACHE", help="The cache.", show_default="in the user's own")
    ] = None,
    as_json: opt.Json = False,
) -> None:
    """List the shards of buckets that are kept on this machine for `Store.open`, or remove them.

    Example: cer-feat cache --delete s3://bucket/faces
    """
    from ...featstore.exchange.cached import cache_folder, cached_stores

    found = cached_stores(folder)
    gone = [one for one in found if delete in ("all", one.url)]
    if delete is not None and not gone and (found or delete != "all"):
        known = ", ".join(one.url for one in found) or "nothing"
        raise typer.BadParameter(f"{delete} is not in {cache_folder(folder)}, which has {known}", param_hint="--delete")
    for one in gone:
        shutil.rmtree(one.folder)
    if as_json:
        out_json({"stores": [{**vars(one), "removed": one in gone} for one in found]})
        return
    say(f"cache: [bold]{escape(cache_folder(folder))}[/] (CER_CACHE)")
    rows = [[one.url, one.folder.name, f"{one.shards:,}", size_text(one.nbytes)] for one in gone or found]
    if rows:
        out_table(["store", "folder", "shards", "size"], rows, left=2, words={0})
    what = f"removed {len(gone):,} stores" if gone else "" if found else "nothing is kept"
    if what:
        out(what)


def _leaving(plan: PushPlan) -> list[str]:
    """What a push sends, in words."""
    if plan.is_empty:
        return [f"all of it is in [bold]{escape(plan.url)}[/] already: nothing is sent"]
    lines = [
        f"to [bold]{escape(plan.url)}[/]: {plan.shards:,} shards ({plan.rows:,} rows, {size_text(plan.nbytes)}) and "
        f"{len(plan.documents):,} documents ({size_text(plan.document_bytes)}); {plan.already:,} shards are there"
    ]
    for one in plan.datasets:
        labels = ", ".join(f"{label} ({len(one.to_send[label]):,} shards)" for label in one.features)
        lines.append(f"  [bold]{escape(one.dataset)}[/]: {escape(labels or 'no features')}")
        if any(one.to_send.values()):
            lines.append("    shards hold: rows, [bold]sample ids[/], digests of pictures, and which could not be read")
        if one.next is None:
            lines.append("    its documents are there")
            continue
        if one.standing == "behind" and not one.sends_manifest:
            lines.append("    the bucket has a newer manifest, or one of more samples, which stays")
        elif one.sends_manifest:
            words = [
                "sample ids",
                "paths",
                *one.inside,
                *(["names of what pictures were made from"] if one.origin else []),
            ]
            without = [word for word in ("labels", "splits", "groups") if word not in one.inside]
            lines.append(
                f"    the manifest of {one.samples:,} samples holds: [bold]{', '.join(words)}[/]"
                + (f"; no {', no '.join(without)}" if without else "")
            )
        lines.append("    each feature.json holds: how it was made, and the file names of its weights")
    named = sorted({folder for one in plan.datasets for folder in one.tells_of})
    where = (
        f"[yellow]folders of this machine are named[/]: {escape(', '.join(named))}" if named else "nor where they lie"
    )
    lines.append(f"  no picture and no weights are sent{'; ' if named else ', '}{where}")
    return lines


def _push_features(
    url: str, store: Path, data: str | None, features: list[str], split: str | None, missing: opt.Missing, *,
    public: bool, licence: str | None, with_ids: bool, with_paths: bool, yes: bool, dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write the features beside, as they are to be on the Hub, and send them."""
    from ...featstore.exchange.hub import features_parcel
    from ...kit.hub import staged

    place = leaving.place_of(url, "dataset")
    view, dataset, opened = load_view(store, data, features, missing, split)
    paths = None
    if with_paths:
        path_of = {sample.sample_id: sample.path for sample in opened.manifest(dataset).samples}
        paths = [path_of[sample_id] for sample_id in view.ids]
    with staged() as folder:
        with progress_bar() as step:
            parcel = features_parcel(
                view, folder, place, dataset=dataset, licence=licence, paths=paths, ids=with_ids, progress=step
            )
        asked = [
            *(["sample ids and groups"] if with_ids else []),
            *(["paths of the pictures"] if with_paths else []),
        ]
        without = [
            *([] if with_ids else ["sample ids", "groups"]), *([] if with_paths else ["paths"]), "pictures",
            "names of this machine or its users",
        ]  # fmt: skip
        inside = [
            f"{len(view):,} rows of {escape(', '.join(view.blocks))} with labels and splits; names of dataset, splits, "
            "classes and features",
            *([f"[bold]{' and '.join(asked)}[/], as was asked"] if asked else []),
            f"no {', no '.join(without)}",
        ]
        leaving.to_hub(place, parcel, inside, public=public, yes=yes, dry_run=dry_run, as_json=as_json)


def _tell_coming(plan: PullPlan) -> None:
    for one in plan.datasets:
        labels = ", ".join(f"{label} ({len(one.to_take[label]):,} shards)" for label in one.features)
        say(f"from {escape(plan.url)}: [bold]{escape(one.dataset)}[/], {escape(labels or 'no features')}")
        if one.manifest is not None:
            say(
                f"  its manifest of {len(one.manifest):,} samples; pictures are expected in {escape(one.manifest.root)}"
            )


def _tell(done: Transfer, verb: str, would: str, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        out_json({**vars(done), "dry_run": dry_run})
        return
    out(
        f"{f'this {would}' if dry_run else verb} {done.shards:,} shards, {done.rows:,} rows, {size_text(done.nbytes)}; "
        f"{done.already:,} shards were there: {', '.join(done.features) or 'no features'}"
    )
