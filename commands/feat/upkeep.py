"""`cer-feat rename`, `rm`, `verify`, `gc`, `compact`: keep a store tidy, sound and small."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import options as opt
from ..console import FAILED, agreed, escape, out, out_json, progress_bar, say, size_text
from ..tables import out_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...featstore import Feature, Manifest, Store
    from ...featstore.pictures.pictures import Source
    from ...featstore.upkeep.compaction import CompactReport
    from ...featstore.upkeep.garbage import Garbage
    from ...featstore.upkeep.names import Named
    from ...fusion.keeping.runs import RunConfig


What = "A feature: manet, manet@3f9c, DATASET/manet; or DATASET/ for all of a dataset."
KeptRuns = Annotated[Path, typer.Option("--runs", help="Folder of kept runs, to say which of them it concerns.")]


def rename(
    old: Annotated[str, typer.Argument(metavar="OLD", help=What)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The new name, without a fingerprint or a dataset.")],
    data: opt.StoredData = None,
    store: opt.StorePath = opt.DEFAULT_STORE,
    runs: KeptRuns = Path("runs"),
    as_json: opt.Json = False,
) -> None:
    """Give a feature, or a dataset, another name; no row and no fingerprint changes.

    Example: cer-feat rename manet manet_unity --data faces

    Example: cer-feat rename faces/ rafdb
    """
    from ...featstore import Store
    from ...featstore.upkeep import names

    opened = Store(store)
    one = names.named(opened, old, data)
    concerned = _concerned(runs, opened, one)
    done = names.rename(opened, one, new)
    if as_json:
        out_json({"old": one.label, "new": done.label, "runs": list(map(str, concerned))})
    else:
        out(f"{one.label} is {done.label} now")
    if done.feature is not None:
        namesakes = [other.label for other in opened.opened_features(done.dataset)[0] if other.name == new]
        if len(namesakes) > 1:
            say(f"[yellow]{escape(new)} alone names none of them now[/]: {escape(', '.join(namesakes))}")
    if concerned and one.feature is None:
        say(f"{_counted(concerned)} the dataset {escape(one.dataset)}: give them --data {escape(new)}")
    elif concerned:
        say(f"{_counted(concerned)} {escape(one.label)}: they find it by its fingerprint, as before")


@opt.forms(removing=opt.Form("asks nothing, as --dry-run removes nothing", ("yes",)))
def rm(
    ctx: typer.Context,
    what: Annotated[list[str], typer.Argument(metavar="WHAT", help=What, callback=opt.each)],
    data: opt.StoredData = None,
    store: opt.StorePath = opt.DEFAULT_STORE,
    runs: KeptRuns = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether all that may go.")] = False,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Take features, or whole datasets, out of the store, after saying what goes and which runs learned from it.

    Pictures, weights and runs stay. The bytes stay too, for readers that have them open: cer-feat gc --delete frees
    them, an hour later.

    Example: cer-feat rm manet@3f9c --data faces

    Example: cer-feat rm faces/ --yes
    """
    from ...featstore import Store
    from ...featstore.upkeep import names

    opt.only(ctx, removing=not dry_run)
    for kept in filter(_is_kept, what):
        raise typer.BadParameter(f"{kept} was kept by cer-fuse, and is in no store: cer-fuse rm {kept}")
    opened = Store(store)
    chosen = {one.label: one for one in (names.named(opened, text, data) for text in what)}
    whole = {one.dataset for one in chosen.values() if one.feature is None}
    going = [one for one in chosen.values() if one.feature is None or one.dataset not in whole]
    told = [_going(opened, one, _concerned(runs, opened, one)) for one in going]
    if not (dry_run or yes) and not agreed("may all that go?", "whether all that may go"):
        say("nothing was removed")
        raise typer.Exit(FAILED)
    for one in [] if dry_run else going:
        names.put_away(one)
    nbytes = sum(entry["nbytes"] for entry in told)
    if as_json:
        out_json({"removed": told, "nbytes": nbytes, "dry_run": dry_run})
        return
    labels = ", ".join(one.label for one in going)
    out(f"{'would take' if dry_run else 'took'} {labels} out of {opened.path}: {size_text(nbytes)}")
    if not dry_run:
        say("its bytes still take room: free it in an hour with [bold]cer-feat gc --delete[/], or at once with --now")


def _is_kept(text: str) -> bool:
    """Whether a text names a run's folder or a file, which no feature is called."""
    return (Path(text) / "run.json").is_file() or (text.endswith(".json") and Path(text).is_file())


def _going(store: Store, one: Named, concerned: dict[Path, RunConfig]) -> dict[str, Any]:
    """Say what goes with a feature or a dataset, and what cannot be done any more then."""
    features = [one.feature] if one.feature else store.opened_features(one.dataset)[0]
    nbytes = sum(path.stat().st_size for path in one.folder.rglob("*") if path.is_file())
    rows = {feature.label: _rows(feature) for feature in features}
    say(f"[bold]{escape(one.label)}[/]: {size_text(nbytes)}")
    if one.feature is None:
        say(f"  the manifest of {len(store.manifest(one.dataset)):,} samples: labels, splits, groups")
    for feature in features:
        foreign = feature.spec.identity.get("architecture") == "foreign"
        again = "[yellow]imported: only another import brings them back[/]" if foreign else "extract makes them again"
        count = rows[feature.label]
        say(f"  {'damaged' if count is None else f'{count:,}'} rows of {escape(feature.label)}; {again}")
    if concerned:
        say(f"  [yellow]{_counted(concerned)} them[/]: {escape(', '.join(map(str, concerned)))}; they answer no more")
    return {"name": one.label, "rows": rows, "nbytes": nbytes, "runs": list(map(str, concerned))}


def _rows(feature: Feature) -> int | None:
    """How many rows its shards hold; None where that cannot be read."""
    from ...featstore import FeatstoreError

    try:
        return sum(header.rows for header in feature.headers())
    except FeatstoreError:
        return None


def _counted(concerned: dict[Path, RunConfig]) -> str:
    return f"{len(concerned):,} kept {'run learned' if len(concerned) == 1 else 'runs learned'} from"


def _concerned(folder: Path, store: Store, one: Named) -> dict[Path, RunConfig]:
    """The kept runs that learned from a feature, or from anything of a dataset, of this store."""
    from ...fusion.keeping.runs import runs_in

    def concerns(run: RunConfig) -> bool:
        of_feature = one.feature is None or one.feature.spec.fingerprint in run.fingerprints.values()
        return of_feature and run.dataset == one.dataset and Path(run.store).resolve() == store.path.resolve()

    return {path: run for path, run in runs_in(folder).items() if concerns(run)}


def _sound_in(videos: Path) -> Callable[[Manifest], Source]:
    """What reads the sound around a manifest's frames; what is wrong with a video is told of each of its frames."""
    from ...frames import FramesError, FrameSound

    class Told(FrameSound):
        def digest(self, path: str) -> str:
            try:
                return super().digest(path)
            except FramesError as error:
                raise OSError(f"cannot be compared: {str(error).partition(chr(10))[0]}") from None

    return lambda manifest: Told(manifest.root, videos, 1.0)


@opt.forms(images=opt.Form("says where the sound is that --images compares", ("videos",)))
def verify(
    ctx: typer.Context,
    store: opt.StorePath = opt.DEFAULT_STORE,
    data: opt.StoredData = None,
    images: Annotated[bool, typer.Option("--images", help="Also compare every picture with its row's digest.")] = False,
    videos: opt.Videos = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set damaged shards aside, mend feature.json; nothing is deleted.")
    ] = False,
    as_json: opt.Json = False,
) -> None:
    """Read every byte of the store and compare it with its digests; exit status 1 if something is wrong.

    Rows of sound are compared with the videos that --videos names, and else told as not compared.

    Example: cer-feat verify --images --store features
    """
    opt.only(ctx, images=images)
    from ...featstore import Store
    from ...featstore import verify as run_verify

    sound = None if videos is None else _sound_in(videos)
    with progress_bar() as step:
        report = run_verify(Store(store), dataset=data, images=images, repair=repair, progress=step, sound=sound)
    if as_json:
        out_json({**vars(report), "problems": [vars(p) for p in report.problems]})
    else:
        for problem in report.problems:
            out(f"{problem.where}\n  {problem.what}")
        looked = f"{report.shards:,} shards, {report.rows:,} rows, {size_text(report.nbytes)}"
        looked += f", {report.pictures:,} pictures" if images else ""
        out(f"{looked}: {len(report.problems):,} problems" if report.problems else f"{looked}: all as written")
    for label in report.not_compared:
        say(f"[yellow]{escape(label)} was made from sound, which was not compared[/]: name the videos with --videos")
    for path in report.mended:
        say(f"wrote {escape(path)} anew; the damaged one is beside it as damaged-{escape(path.name)}")
    if report.set_aside:
        say(f"set aside {len(report.set_aside)} shards; run the same cer-feat extract again to bring their rows back")
    if report.problems:
        raise typer.Exit(FAILED)


def gc(
    store: opt.StorePath = opt.DEFAULT_STORE,
    data: opt.StoredData = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it, for good; without, it is only listed.")] = False,
    unlisted: Annotated[
        bool, typer.Option("--unlisted", help="Also shards none of whose samples is in the manifest any more.")
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Also shards superseded within the last hour, which readers may have open.")
    ] = False,
    as_json: opt.Json = False,
) -> None:
    """List what the store no longer needs, or remove it with --delete; no view changes.

    Superseded shards, damaged ones whose rows are back, and what killed writers left. Younger than an hour, they stay.

    Example: cer-feat gc --delete --store features
    """
    from ...featstore import Store
    from ...featstore.upkeep.garbage import find_garbage, remove_garbage

    opened = Store(store)
    found = find_garbage(opened, dataset=data, unlisted=unlisted, now=now)
    known = {item.path for item in found}
    everything = found if now else find_garbage(opened, dataset=data, unlisted=unlisted, now=True)
    waiting = [item for item in everything if item.path not in known]
    nbytes = sum(item.nbytes for item in found)
    if delete:
        with progress_bar() as step:
            remove_garbage(found, progress=step)
    if as_json:
        items = [{"path": str(item.path), "nbytes": item.nbytes, "why": item.why} for item in found]
        out_json({"garbage": items, "nbytes": nbytes, "removed": delete, "waiting": len(waiting)})
        return
    _print_garbage(found, opened.path)
    if found:
        out(f"{'removed' if delete else 'would remove'} {len(found):,} files, {size_text(nbytes)}")
        if not delete:
            say("nothing was removed: add [bold]--delete[/] to do it")
    else:
        out("nothing to remove")
    if waiting:
        more = size_text(sum(item.nbytes for item in waiting))
        say(
            f"{len(waiting):,} more shards ({more}) gave way to others within the last hour, and readers may have them "
            f"open: come back later, or add [bold]--now[/]"
        )


@opt.forms(
    done=opt.Form("removes old shards, and --dry-run changes nothing", ("now",)),
)
def compact(
    ctx: typer.Context,
    feature: Annotated[
        str | None, typer.Argument(help="A feature's name, or name@fingerprint.", show_default="all of the dataset")
    ] = None,
    data: opt.StoredData = None,
    store: opt.StorePath = opt.DEFAULT_STORE,
    shard_rows: Annotated[int, typer.Option("--shard-rows", min=1, help="Samples per shard.")] = 2048,
    drop_unlisted: Annotated[
        bool, typer.Option("--drop-unlisted", help="Leave out rows of samples that are not in the manifest.")
    ] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Remove the old shards at once: nobody is reading this feature.")
    ] = False,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Rewrite a feature's small or partly superseded shards as full ones, in manifest order; no view changes.

    The old shards stay for readers that have them open, until cer-feat gc --delete removes them, an hour later.

    Example: cer-feat compact manet --store features
    """
    from ...featstore import Store
    from ...featstore.errors import DamagedShardError
    from ...featstore.upkeep.compaction import compact as run_compact

    opt.only(ctx, done=not dry_run)
    opened = Store(store)
    dataset = opened.dataset(data)
    manifest = opened.manifest(dataset)
    entries, left = [], 0
    for found in opened.usable_features(dataset) if feature is None else [opened.feature(feature, dataset)]:
        try:
            with progress_bar() as step:
                report = run_compact(
                    found,
                    manifest,
                    shard_rows=shard_rows,
                    drop_unlisted=drop_unlisted,
                    dry_run=dry_run,
                    progress=step,
                )
        except DamagedShardError as error:
            if feature is not None:
                raise
            left += 1
            say(f"[bold red]{escape(found.label)} is left alone:[/] {escape(str(error))}")
            continue
        freed = _remove_replaced(found, manifest, report, drop_unlisted) if now and not dry_run else 0
        entries.append({**vars(report), "replaced": [path.name for path in report.replaced], "freed": freed})
        if not as_json:
            _print_compact(report, freed, dry_run=dry_run, drop_unlisted=drop_unlisted)
    if as_json:
        out_json({"features": [{**entry, "dry_run": dry_run} for entry in entries]})
    elif not entries and not left:
        out(f"dataset {dataset} has no features")
    if left:
        raise typer.Exit(FAILED)


def _print_garbage(found: list[Garbage], root: Path) -> None:
    rows = [[item.path.relative_to(root), item.why, size_text(item.nbytes)] for item in found]
    if rows:
        out_table(["file", "why", "size"], rows, left=2, words={1})


def _remove_replaced(feature: Feature, manifest: Manifest, report: CompactReport, drop_unlisted: bool) -> int:
    from ...featstore.upkeep.garbage import feature_garbage, remove_garbage

    found = feature_garbage(feature, manifest, unlisted=drop_unlisted, now=True)
    return remove_garbage([item for item in found if item.path in report.replaced])


def _print_compact(report: CompactReport, freed: int, *, dry_run: bool, drop_unlisted: bool) -> None:
    about = "about " if dry_run and report.written else ""
    after = f"{report.shards_after:,} shards ({about}{size_text(report.nbytes_after)})"
    if report.written:
        verb = "would become" if dry_run else "became"
        out(f"{report.feature}: {report.shards_before:,} shards ({size_text(report.nbytes_before)}) {verb} {after}")
    else:
        out(f"{report.feature}: already compact, {after}")
    if report.unlisted:
        what = "left out" if drop_unlisted else "kept behind the others; leave them out with --drop-unlisted"
        say(f"{report.unlisted:,} entries are of samples that are not in the manifest: {what}")
    if report.by_others:
        say(f"{report.by_others:,} entries were replaced by another run meanwhile, and stay where it put them")
    if freed:
        say(f"removed the old shards: {size_text(freed)} freed")
    elif report.replaced and not dry_run:
        unlisted = " --unlisted" if drop_unlisted and report.unlisted else ""
        say(
            f"{len(report.replaced):,} old shards still take room, since readers may have them open: free it in an "
            f"hour with [bold]cer-feat gc{unlisted} --delete[/], or at once with [bold]cer-feat compact … --now[/]"
        )
