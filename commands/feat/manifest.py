"""`cer-feat manifest`: list a dataset's samples, and make manifests from manifests that are there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from .. import options as opt
from ..console import FAILED, escape, out, out_json, progress_bar, say
from ..outputs import check_outputs
from ..tables import out_table
from ..usage import Whole

if TYPE_CHECKING:
    from ...featstore import Manifest
    from ...featstore.manifests.checking import Look, ManifestReport

_DEFAULT = "build"
_SHARES = ["train=0.8", "valid=0.1", "test=0.1"]
_MISSING_SHOWN = 10
"""Missing pictures that are named; --json names all."""


def _panel(name: str) -> Callable[..., Any]:
    """Options of a panel of the help page; without a default to tell, unless said."""

    return lambda help_text, *names, show_default=False, **more: typer.Option(
        *names, help=help_text, show_default=show_default, rich_help_panel=name, **more
    )


def _several(name: str, panel: str, help_text: str, show_default: bool | str = False, *, pairs: bool = False) -> Any:
    """As `_panel`, of several values."""
    return opt.several(name, pairs=pairs, help=help_text, show_default=show_default, rich_help_panel=panel)


_OWN, _PARTITION = "Some kinds only", "0=train,1=test,2=valid"
_COLUMNS = "csv, parquet: path=…,label=…,split=…,group=…,id=…; targets=none leaves columns of numbers out."
_TARGETS = "raf-ce, affwild2, csv, parquet: units and affect in a table for --targets, instead of in the manifest."
_labels, _rows, _own = _panel("Labels"), _panel("Which samples"), _panel(_OWN)


class KindsAndTools(TyperGroup):
    """Takes `KIND ROOT …` as `build KIND ROOT …`: any first word that is no command is a kind."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command before a kind."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=KindsAndTools,
    no_args_is_help=True,
    subcommand_metavar="KIND ROOT -o FILE | COMMAND …",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


@app.callback()
def manifest() -> None:
    """List a dataset's samples (sample_id, path, label, split, group), or work with such lists.

    KIND: affectnet, affwild2, csv, fer2013, ferplus, folder, frames,
    parquet, raf-ce, rafdb-basic, rafdb-compound. Several datasets: unity.
    The options of a kind: cer-feat manifest KIND --help

    Example: cer-feat manifest rafdb-compound RAF-DB -o rafdb.csv
    """


@app.command(_DEFAULT, cls=Whole)
def build(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="affectnet, affwild2, csv, fer2013, ferplus, folder, frames, parquet, raf-ce, rafdb-basic or "
            "rafdb-compound.",
        ),
    ],
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="The dataset's folder, zip file, tar file or table.")],
    output: Output,
    map_to: Annotated[
        str | None, _labels("Map the labels onto a class set by what they mean: abaw7, unity8, basic7, …")
    ] = None,
    classes: Annotated[
        list[str] | None,
        _several("--classes", "Labels", "Class set that the labels are of: abaw7, basic8, …; or your own, a,b,c."),
    ] = None,
    labels: Annotated[str | None, _labels("ferplus: compound7 (default) or basic8.")] = None,
    votes: Annotated[
        Path | None, _labels("ferplus: write the annotators' votes too, to learn from with --soft-labels.")
    ] = None,
    beside: Annotated[Path | None, _labels(_TARGETS, "--targets")] = None,
    pictures: Annotated[
        str | None, _own("rafdb, raf-ce: aligned (default) or original; csv, parquet: folder of the pictures.")
    ] = None,
    partition: Annotated[
        list[str] | None,
        _several("--partition", _OWN, "raf-ce: the split of each number in its file.", _PARTITION, pairs=True),
    ] = None,
    columns: Annotated[
        list[str] | None,
        _several("--columns", _OWN, _COLUMNS, pairs=True),
    ] = None,
    id_column: Annotated[str | None, _own("csv: column of the ids.")] = None,
    path_column: Annotated[str | None, _own("csv: column of the paths.")] = None,
    label_column: Annotated[str | None, _own("csv: column of the labels.")] = None,
    split_column: Annotated[str | None, _own("csv: column of the splits.")] = None,
    group_column: Annotated[str | None, _own("csv: column of the groups (videos, subjects).")] = None,
    first_frame: Annotated[
        int | None,
        _own(
            "frames: the number of a video's first frame in the file names; ids count from 1.",
            min=0,
            show_default="1, and a frame 0 is refused",
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        _own("Of texts that are not UTF-8, and of an archive's names where it does not say: cp1252, gbk, …"),
    ] = None,
    missing: Annotated[
        Literal["keep", "drop"],
        _rows("Samples whose pictures are not there: keep, and say so, or drop.", show_default=True),
    ] = "keep",
    repeats: Annotated[
        Literal["report", "first", "ignore"],
        _rows("Pictures that occur more than once: told, the first kept, or not looked for.", show_default=True),
    ] = "report",
    hold_out: Annotated[float | None, _rows("Share of an unsplit dataset that becomes the test split.")] = None,
    sample: Annotated[int | None, _rows("Keep about N samples, evenly over classes and splits.")] = None,
    overwrite: opt.Overwrite = False,
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
) -> None:
    """Build a manifest: sample_id, path, label, split, group. The word build may be left out before KIND.

    Example: cer-feat manifest rafdb-compound RAF-DB -o rafdb.csv
    """
    from ...featstore.manifests import adapters
    from ...featstore.manifests.splitting import hold_out as split_off
    from ...featstore.manifests.splitting import thin

    if votes is not None and kind != "ferplus":
        raise typer.BadParameter("only ferplus has votes", param_hint="--votes")
    if beside is not None and (kind not in adapters.KINDS or adapters.KINDS[kind].targets is None):
        able = ", ".join(name for name, one in adapters.KINDS.items() if one.targets is not None)
        raise typer.BadParameter(f"{kind} has no targets beside classes; {able} have", param_hint="--targets")
    options: dict[str, Any] = {
        "classes": opt.joined(classes), "labels": labels, "pictures": pictures, "partition": opt.joined(partition),
        "columns": opt.joined(columns),
        "id_column": id_column, "path_column": path_column, "label_column": label_column,
        "split_column": split_column, "group_column": group_column, "first_frame": first_frame, "encoding": encoding,
    }  # fmt: skip
    check_outputs(
        {"--output": [output, output.with_suffix(".json")], "--votes": votes, "--targets": beside}, overwrite=overwrite
    )
    if adapters.takes(kind, "archive"):
        options |= {"archive": output.with_suffix(".pictures.zip"), "overwrite": overwrite}
    given = {name: value for name, value in options.items() if value is not None}
    adapted = adapters.build(kind, root, map_to=map_to, **given)
    listed = adapted.manifest
    for note in adapted.notes:
        say(escape(note))
    tell_left_out(adapted.left_out)
    absent = set(adapted.missing)
    _tell_missing({s.sample_id: s.path for s in listed.samples if s.sample_id in absent}, listed.root)
    if missing == "drop" and absent:
        listed = _without(listed, absent)
    repeated: list[list[int]] = []
    if repeats != "ignore":
        listed, repeated = _look_for_repeats(listed, drop=repeats == "first", told=absent)
    if hold_out is not None:
        listed = split_off(listed, hold_out, seed=seed, together=repeated)
    if sample is not None:
        listed = thin(listed, sample, seed=seed)
    if votes is not None:
        from ...featstore.manifests.adapters.ferplus import write_votes

        count = write_votes(root, listed, votes, labels=labels or "compound7", encoding=encoding, overwrite=overwrite)
        say(f"wrote [bold]{escape(votes)}[/]: the votes of {count:,} samples")
    if beside is not None and (write_beside := adapters.KINDS[kind].targets) is not None:
        count = write_beside(root, listed, beside, overwrite=overwrite, **given)
        say(f"wrote [bold]{escape(beside)}[/]: targets of {count:,} of {len(listed):,} samples")
        listed = listed.without_targets()
    write(
        listed, output, as_json, overwrite=overwrite,
        left_out=adapted.left_out, missing=list(adapted.missing), notes=list(adapted.notes),
    )  # fmt: skip


def _tell_missing(missing: Mapping[str, str], root: Path) -> None:
    """Name samples whose pictures are not there, and say what to do.

    Parameters
    ----------
    missing : dict of sample_id to path
    root : Path
        Where the paths start.
    """
    if not missing:
        return
    say(f"[yellow]{len(missing):,} pictures are missing[/] under {escape(root)}:")
    for sample_id, path in list(missing.items())[:_MISSING_SHOWN]:
        say(f"  {escape(sample_id)}: {escape(path)}")
    if len(missing) > _MISSING_SHOWN:
        say(f"  … and {len(missing) - _MISSING_SHOWN:,} more; --json names all")
    say("  put them there (an archive may not be unpacked whole), or leave these samples out with --missing drop")


def _without(listed: Manifest, absent: set[str]) -> Manifest:
    from ...featstore.errors import ManifestError

    kept = listed.keep([sample.sample_id not in absent for sample in listed.samples])
    if not len(kept):
        raise ManifestError(f"all {len(listed):,} pictures of {listed.where} are missing: nothing is left")
    say(f"  dropped: {len(listed):,} → {len(kept):,} samples")
    return kept


def _look_for_repeats(listed: Manifest, *, drop: bool, told: set[str]) -> tuple[Manifest, list[list[int]]]:
    """Say which pictures occur more than once (they leak when they stand in two splits); where those stay, if any."""
    from ...featstore.manifests.splitting import keep_first
    from ...featstore.pictures import pictures

    groups, failed = repeats_of(listed)
    failed = {sample_id: reason for sample_id, reason in failed.items() if sample_id not in told}
    if failed:
        first = next(iter(failed))
        say(f"[yellow]{len(failed):,} pictures cannot be read[/], first: {escape(first)} ({escape(failed[first])})")
    if not groups:
        return listed, []
    extra = sum(len(group) - 1 for group in groups)
    leaks = len(pictures.across_splits(listed, groups))
    say(
        f"[yellow]{len(groups):,} pictures occur more than once[/] ({extra:,} repeats), "
        f"{leaks:,} of them in more than one split"
    )
    if not drop:
        say("  keep the first of each with --repeats first; a picture in train and test makes a score too good")
        return listed, groups
    say(f"  kept the first of each: {len(listed):,} → {len(listed) - extra:,} samples")
    return keep_first(listed, groups), []


File = Annotated[Path, typer.Argument(help="A manifest.", metavar="FILE")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The manifest to write.")]
Files = Annotated[list[Path], typer.Argument(help="Two manifests or more.", metavar="FILE")]


def check(
    file: File,
    root: opt.Root = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every picture whole, not only its header: finds those cut short.")
    ] = False,
    as_json: opt.Json = False,
) -> None:
    """Read every picture and tell what is wrong; exit status 1 if something is.

    Faults: pictures that are missing or none, pictures in two splits or with two labels, groups in two splits, classes
    that are never in train. Told besides: repeats within a split, class balance, sizes and modes of the pictures.

    Example: cer-feat manifest check rafdb.csv
    """
    from ...featstore.manifests.checking import check_manifest

    with progress_bar() as step:
        report = check_manifest(
            file, root=root, looking=_decode if decode else _look,
            progress=lambda done, total: step("checking", done, total),
        )  # fmt: skip
    if as_json:
        out_json(report.to_json())
    else:
        _tell_counts(report.manifest, False)
        _tell(report)
    if any(report.faults()):
        raise typer.Exit(FAILED)


def filter_(
    file: File,
    conditions: Annotated[
        list[str],
        typer.Argument(
            help="split=train, label!=Neutral, group=01,02, path=*.png; has-label, no-label (also -split, -group); "
            "readable; distinct (the first of each picture).",
            metavar="CONDITION",
        ),
    ],
    output: Output,
    classes: Annotated[
        Literal["asked", "all", "present"],
        typer.Option(
            help="Classes that stay declared: asked (all but those that a label condition removed), all, or present "
            "(those with samples)."
        ),
    ] = "asked",
    root: opt.Root = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Keep the samples that fulfil every condition.

    A declared class without samples counts as 0 in macro F1: it is told whether such classes stay.

    Example: cer-feat manifest filter faces.csv split=train,valid label!=Neutral distinct -o part.csv
    """
    from ...featstore import Manifest
    from ...featstore.manifests.changes import keep_where

    check_output(output, overwrite=overwrite)
    listed = Manifest.read(file, root=root)
    with _counting("hashing", len(listed)) as count:
        kept = keep_where(listed, conditions, classes=classes, progress=count)
    say(f"kept {len(kept):,} of {len(listed):,} samples")
    gone = [label for label in listed.classes.labels if label not in kept.classes.labels]
    if gone:
        say(f"no class any more: {escape(', '.join(gone))}; {len(kept.classes.labels)} classes are left")
    remedy = "leave such classes out with --classes present"
    write(kept, output, as_json, overwrite=overwrite, remedy=remedy, no_class_any_more=gone)


def relabel(
    file: File,
    output: Output,
    map_to: Annotated[
        str | None,
        typer.Option(
            help="Class set: abaw7, unity8, basic7, …; labels go where they mean the same.", show_default=False
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option("--map", help='JSON table of your own: {"Happy": "Happiness", "Other": null}; null leaves out.'),
    ] = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Give the samples labels of another class set; those without a counterpart are left out and counted.

    (`cer-feat use-manifest` gives a dataset in a store the labels of a manifest.)

    Example: cer-feat manifest relabel affectnet.csv --map-to unity8 -o unity.csv
    """
    from ...featstore import Manifest, class_set
    from ...featstore.manifests.changes import classes_of, read_renaming, renamed

    check_output(output, overwrite=overwrite)
    listed = Manifest.read(file)
    if map_to is None and table is None:
        raise typer.BadParameter("name a class set, or a table with --map", param_hint="--map-to")
    goes_to = None if table is None else read_renaming(table, listed.classes)
    named = None if map_to is None else class_set(map_to)
    target = named if goes_to is None else classes_of(goes_to, named)
    assert target is not None, "one of the two was given"
    done, left_out = renamed(listed, target, goes_to)
    tell_left_out(left_out)
    write(done, output, as_json, overwrite=overwrite, left_out=left_out)


def split(
    file: File,
    output: Output,
    shares: Annotated[
        list[str] | None,
        opt.several("--shares", pairs=True, help="Each split and its share.", show_default=",".join(_SHARES)),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Forget the splits that are there.")] = False,
    repeats: Annotated[
        Literal["together", "ignore"],
        typer.Option(help="Samples of the same picture: together in one split, or not looked for."),
    ] = "together",
    root: opt.Root = None,
    seed: opt.Seed = 0,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Split a manifest: the same share of every class, whole groups, no picture on two sides.

    Example: cer-feat manifest split faces.csv --shares train=0.8,test=0.2 -o split.csv
    """
    from ...featstore import Manifest
    from ...featstore.errors import ManifestError
    from ...featstore.manifests.splitting import split_by_shares

    check_output(output, overwrite=overwrite)
    listed = Manifest.read(file, root=root, forget_splits=again)
    if listed.splits != ("",):
        raise ManifestError(
            f"{file} is split already: {', '.join(filter(None, listed.splits))}\n  forget these splits with --again"
        )
    together, failed = repeats_of(listed) if repeats == "together" else ([], {})
    if failed:
        say(
            f"[yellow]{len(failed):,} pictures cannot be read[/]: whether they repeat others is not known "
            f"(--repeats ignore does not look)"
        )
    if together:
        say(f"{len(together):,} pictures occur more than once: the samples of each stay together")
    done = split_by_shares(listed, _shares(shares or _SHARES), together=together, seed=seed)
    write(done, output, as_json, overwrite=overwrite)
    for part in done.splits:
        empty = [label for label, count in done.select(part).counts().items() if not count and done.counts()[label]]
        if empty:
            told = f"split {escape(part)} has no sample of {escape(', '.join(empty))}"
            say(f"[yellow]note: {told}[/]: too few groups for its share")


def merge(
    files: Files,
    output: Output,
    prefix: Annotated[
        bool, typer.Option("--prefix", help="Begin ids and groups with their manifest's name: rafdb/train_00001.")
    ] = False,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Join manifests that have the same classes.

    Example: cer-feat manifest merge first.csv second.csv -o both.csv
    """
    from ...featstore.manifests.changes import merge as join

    check_output(output, overwrite=overwrite)
    write(join(_named(files), prefix=prefix), output, as_json, overwrite=overwrite)


def unity(
    files: Files,
    output: Output,
    map_to: Annotated[
        str, typer.Option(help="Class set that all labels are mapped onto by what they mean.")
    ] = "unity8",
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Unite manifests of different datasets on one class set: the paper's Unity is AffectNet and RAF-DB on eight.

    Ids begin with their manifest's name. Samples of other classes are left out and counted.

    Example: cer-feat manifest unity affectnet.csv rafdb_basic.csv -o unity.csv
    """
    from ...featstore import class_set
    from ...featstore.manifests.changes import union

    check_output(output, overwrite=overwrite)
    manifests = _named(files)
    united = union(manifests, class_set(map_to))
    for name, left_out in united.left_out.items():
        tell_left_out(left_out, of=name)
    write(united.manifest, output, as_json, overwrite=overwrite, sources=united.counts, left_out=united.left_out)
    if not as_json:
        labels = united.manifest.classes.labels
        rows = [[label, *(counts[label] for counts in united.counts.values())] for label in labels]
        rows.append(["all", *(sum(counts.values()) for counts in united.counts.values())])
        rows.append(["left out", *(sum(left_out.values()) for left_out in united.left_out.values())])
        out_table(["class", *united.counts], rows, title="Samples by source", named="source")


def write(listed: Manifest, output: Path, as_json: bool, *, overwrite: bool, remedy: str = "", **more: Any) -> None:
    """Write a manifest, and tell its samples per class and split; `more` goes into the JSON.

    Declared classes without any sample are named, with a remedy.
    """
    listed.write(output, overwrite=overwrite)
    say(f"wrote [bold]{escape(output)}[/]: {len(listed):,} samples, classes {escape(listed.classes.name)}")
    for text in listed.known_texts():
        say(f"  with {escape(text)}")
    empty = [label for label, count in listed.counts().items() if not count]
    if empty and len(empty) < len(listed.classes.labels):
        say(
            f"[yellow]no sample of {escape(', '.join(empty))}[/], which stay declared: a class without samples counts "
            f"as 0 in macro F1{'; ' + remedy if remedy else ''}"
        )
    _tell_counts(listed, as_json, **more)


def tell_left_out(left_out: Mapping[str, int], of: str = "") -> None:
    """Say what a manifest does not hold, and why."""
    for reason, count in left_out.items():
        say(f"left out{f' of {escape(of)}' if of else ''}: {count:,} × {escape(reason)}")


def repeats_of(listed: Manifest) -> tuple[list[list[int]], dict[str, str]]:
    """Positions of the samples of each picture that occurs more than once, and why pictures cannot be read."""
    from ...featstore.pictures import pictures

    with _counting("hashing", len(listed)) as count:
        digests, failed = pictures.digests(listed, progress=count)
    return pictures.repeats(listed, digests), failed


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse a manifest that cannot be written as asked: its CSV, and the JSON file beside it."""
    check_outputs({"--output": [output, output.with_suffix(".json")]}, overwrite=overwrite)


def _named(files: Sequence[Path]) -> dict[str, Manifest]:
    """Read manifests under the names of their files, which must differ."""
    from ...featstore import Manifest

    names = [path.stem.replace(".", "_") for path in files]
    if len(files) < 2 or len(set(names)) != len(names):
        raise typer.BadParameter(
            f"expected two manifests or more, with different file names, however: {', '.join(map(str, files))}",
            param_hint="FILE",
        )
    return {name: Manifest.read(path) for name, path in zip(names, files, strict=True)}


def _tell_counts(listed: Manifest, as_json: bool, **more: Any) -> None:
    """Print samples per class and split."""
    counts = {split: listed.select(split).counts() for split in listed.splits}
    if as_json:
        out_json({"classes": listed.classes.name, "samples": len(listed), "counts": counts, **more})
        return
    columns = ["class", *(split or "(no split)" for split in counts)]
    rows = [[label, *(counts[split][label] for split in counts)] for label in listed.classes.labels]
    unlabelled = {split: sum(not s.label for s in listed.select(split).samples) for split in counts}
    if any(unlabelled.values()):
        rows.append(["(no label)", *unlabelled.values()])
    rows.append(["all", *(len(listed.select(split)) for split in counts)])
    out_table(columns, rows, named="split")


@contextlib.contextmanager
def _counting(stage: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar that is told how many more are done."""
    with progress_bar() as step:
        done = 0

        def count(n: int) -> None:
            nonlocal done
            done += n
            step(stage, done, total)

        yield count


def _shares(entries: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in entries:
        name, _, share = part.partition("=")
        try:
            if name.strip() in found:
                raise ValueError
            found[name.strip()] = float(share)
        except ValueError:
            raise typer.BadParameter(
                f"expected such as train=0.8,test=0.2, however: {','.join(entries)!r}", param_hint="--shares"
            ) from None
    return found


def _tell(report: ManifestReport) -> None:
    for what, found in (("sizes", report.sizes), ("modes", report.modes)):
        if found:
            shown = ", ".join(f"{value} ({count:,})" for value, count in list(found.items())[:6])
            out(f"{what}: {shown}{f', … ({len(found):,} in all)' if len(found) > 6 else ''}")
    for note in report.notes():
        say(f"note: {escape(note)}")
    faults = list(report.faults())
    for fault in faults:
        out(f"fault: {fault}")
    if not faults:
        out(f"{report.manifest.where}: no faults in {len(report.manifest):,} samples")


def _look(data: bytes) -> Look:
    from ...backbones.picture import picture_header
    from ...featstore.manifests.checking import Look

    return Look(*picture_header(data))


def _decode(data: bytes) -> Look:
    from ...backbones.picture import open_picture

    open_picture(data)
    return _look(data)


app.command("unity", cls=Whole)(unity)
app.command("check", cls=Whole)(check)
app.command("split", cls=Whole)(split)
app.command("merge", cls=Whole)(merge)
app.command("filter", cls=Whole)(filter_)
app.command("relabel", cls=Whole)(relabel)
