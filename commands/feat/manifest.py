"""`cer-feat manifest`: list a dataset's samples, and work with such lists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cer_fusion.commands.console import escape, say
from cer_fusion.commands.feat.manifest_tools.check import check
from cer_fusion.commands.feat.manifest_tools.filter import filter_
from cer_fusion.commands.feat.manifest_tools.relabel import relabel
from cer_fusion.commands.feat.manifest_tools.split import split
from cer_fusion.commands.feat.manifest_tools.talk import Output, counting, tell_left_out, tell_missing, write
from cer_fusion.commands.feat.manifest_tools.union import merge, unity
from cer_fusion.commands.options import Json, Seed
from cer_fusion.commands.outputs import Overwrite, check_outputs
from typer.core import TyperGroup

if TYPE_CHECKING:
    from cer_fusion.featstore import Manifest

_LABELS, _ROWS, _OWN = "Labels", "Which samples", "Some kinds only"
_DEFAULT = "build"


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


@app.command(_DEFAULT)
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
        str | None,
        typer.Option(
            help="Map the labels onto a class set by what they mean: abaw7, unity8, basic7, …",
            show_default=False,
            rich_help_panel=_LABELS,
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Class set that the labels are of: abaw7, rafdb_compound11, basic8, …; or your own, a,b,c.",
            show_default=False,
            rich_help_panel=_LABELS,
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="ferplus: compound7 (default) or basic8.",
            show_default=False,
            rich_help_panel=_LABELS,
        ),
    ] = None,
    votes: Annotated[
        Path | None,
        typer.Option(
            help="ferplus basic8: write the annotators' votes too, for cer-feat finetune --soft-labels.",
            rich_help_panel=_LABELS,
        ),
    ] = None,
    pictures: Annotated[
        str | None,
        typer.Option(
            help="rafdb, raf-ce: aligned (default) or original; csv, parquet: folder of the pictures.",
            show_default=False,
            rich_help_panel=_OWN,
        ),
    ] = None,
    partition: Annotated[
        str | None,
        typer.Option(
            help="raf-ce: the split of each number in its partition file.",
            show_default="0=train,1=test,2=valid",
            rich_help_panel=_OWN,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="csv, parquet: path=…,label=…,split=…,group=…,id=…",
            show_default=False,
            rich_help_panel=_OWN,
        ),
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(help="csv: column of the ids.", show_default=False, rich_help_panel=_OWN)
    ] = None,
    path_column: Annotated[
        str | None, typer.Option(help="csv: column of the paths.", show_default=False, rich_help_panel=_OWN)
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="csv: column of the labels.", show_default=False, rich_help_panel=_OWN)
    ] = None,
    split_column: Annotated[
        str | None, typer.Option(help="csv: column of the splits.", show_default=False, rich_help_panel=_OWN)
    ] = None,
    group_column: Annotated[
        str | None,
        typer.Option(help="csv: column of the groups (videos, subjects).", show_default=False, rich_help_panel=_OWN),
    ] = None,
    first_frame: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="frames: the number of a video's first frame in the file names; ids count from 1.",
            show_default="1, and a frame 0 is refused",
            rich_help_panel=_OWN,
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            help="Of texts that are not UTF-8, and of an archive's names where it does not say: cp1252, gbk, …",
            show_default=False,
            rich_help_panel=_OWN,
        ),
    ] = None,
    missing: Annotated[
        str,
        typer.Option(help="Samples whose pictures are not there: keep (and say so), or drop.", rich_help_panel=_ROWS),
    ] = "keep",
    repeats: Annotated[
        str,
        typer.Option(
            help="Pictures that occur more than once: report, first (keep the first), or ignore (do not look).",
            rich_help_panel=_ROWS,
        ),
    ] = "report",
    hold_out: Annotated[
        float | None,
        typer.Option(
            help="Share of an unsplit dataset that becomes the test split.", show_default=False, rich_help_panel=_ROWS
        ),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            help="Keep about N samples, evenly over classes and splits.", show_default=False, rich_help_panel=_ROWS
        ),
    ] = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Build a manifest: sample_id, path, label, split, group. The word build may be left out before KIND.

    Example: cer-feat manifest rafdb-compound RAF-DB -o rafdb.csv
    """
    from cer_fusion.featstore.manifests import adapters
    from cer_fusion.featstore.manifests.splitting import hold_out as split_off
    from cer_fusion.featstore.manifests.splitting import thin

    if repeats not in ("report", "first", "ignore"):
        raise typer.BadParameter("must be report, first or ignore", param_hint="--repeats")
    if missing not in ("keep", "drop"):
        raise typer.BadParameter("must be keep or drop", param_hint="--missing")
    if votes is not None and (kind, labels) != ("ferplus", "basic8"):
        raise typer.BadParameter("only ferplus with --labels basic8 has votes", param_hint="--votes")
    options: dict[str, Any] = {
        "classes": classes, "labels": labels, "pictures": pictures, "partition": partition, "columns": columns,
        "id_column": id_column, "path_column": path_column, "label_column": label_column,
        "split_column": split_column, "group_column": group_column, "first_frame": first_frame, "encoding": encoding,
    }  # fmt: skip
    check_outputs({"--output": [output, output.with_suffix(".json")], "--votes": votes}, overwrite=overwrite)
    if adapters.takes(kind, "archive"):
        options |= {"archive": output.with_suffix(".pictures.zip"), "overwrite": overwrite}
    given = {name: value for name, value in options.items() if value is not None}
    adapted = adapters.build(kind, root, map_to=map_to, **given)
    listed = adapted.manifest
    for note in adapted.notes:
        say(escape(note))
    tell_left_out(adapted.left_out)
    absent = set(adapted.missing)
    tell_missing({s.sample_id: s.path for s in listed.samples if s.sample_id in absent}, listed.root)
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
        from cer_fusion.featstore.manifests.adapters.ferplus import write_votes

        count = write_votes(root, listed, votes, encoding=encoding, overwrite=overwrite)
        say(f"wrote [bold]{escape(votes)}[/]: the votes of {count:,} samples")
    write(
        listed, output, as_json, overwrite=overwrite,
        left_out=adapted.left_out, missing=list(adapted.missing), notes=list(adapted.notes),
    )  # fmt: skip


def _without(listed: Manifest, absent: set[str]) -> Manifest:
    from cer_fusion.featstore.errors import ManifestError

    kept = listed.keep([sample.sample_id not in absent for sample in listed.samples])
    if not len(kept):
        raise ManifestError(f"all {len(listed):,} pictures of {listed.where} are missing: nothing is left")
    say(f"  dropped: {len(listed):,} → {len(kept):,} samples")
    return kept


def _look_for_repeats(listed: Manifest, *, drop: bool, told: set[str]) -> tuple[Manifest, list[list[int]]]:
    """Say which pictures occur more than once (they leak when they stand in two splits); where those stay, if any."""
    from cer_fusion.featstore.manifests.splitting import keep_first
    from cer_fusion.featstore.pictures import pictures

    with counting("hashing", len(listed)) as count:
        digests, failed = pictures.digests(listed, progress=count)
    failed = {sample_id: reason for sample_id, reason in failed.items() if sample_id not in told}
    if failed:
        first = next(iter(failed))
        say(f"[yellow]{len(failed):,} pictures cannot be read[/], first: {escape(first)} ({escape(failed[first])})")
    groups = pictures.repeats(listed, digests)
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


app.command("unity")(unity)
app.command("check")(check)
app.command("split")(split)
app.command("merge")(merge)
app.command("filter")(filter_)
app.command("relabel")(relabel)
