"""`cer-feat manifest`: list a dataset's samples, and work with such lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from cer_fusion.commands import options as opt
from cer_fusion.commands.console import escape, say
from cer_fusion.commands.feat.manifest_tools import (
    Output,
    check,
    filter_,
    merge,
    relabel,
    repeats_of,
    split,
    tell_left_out,
    unity,
    write,
)
from cer_fusion.commands.outputs import check_outputs
from typer.core import TyperGroup

if TYPE_CHECKING:
    from cer_fusion.featstore import Manifest

_DEFAULT = "build"
_MISSING_SHOWN = 10
"""Missing pictures that are named; --json names all."""


def _panel(name: str) -> Callable[..., Any]:
    """Options of a panel of the help page; without a default to tell, unless said."""

    def option(help_text: str, show_default: bool | str = False, **more: Any) -> Any:
        return typer.Option(help=help_text, show_default=show_default, rich_help_panel=name, **more)

    return option


_labels, _rows, _own = _panel("Labels"), _panel("Which samples"), _panel("Some kinds only")


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
        str | None, _labels("Map the labels onto a class set by what they mean: abaw7, unity8, basic7, …")
    ] = None,
    classes: Annotated[
        str | None,
        _labels("Class set that the labels are of: abaw7, rafdb_compound11, basic8, …; or your own, a,b,c."),
    ] = None,
    labels: Annotated[str | None, _labels("ferplus: compound7 (default) or basic8.")] = None,
    votes: Annotated[
        Path | None, _labels("ferplus basic8: write the annotators' votes too, for cer-feat finetune --soft-labels.")
    ] = None,
    pictures: Annotated[
        str | None, _own("rafdb, raf-ce: aligned (default) or original; csv, parquet: folder of the pictures.")
    ] = None,
    partition: Annotated[
        str | None,
        _own("raf-ce: the split of each number in its partition file.", show_default="0=train,1=test,2=valid"),
    ] = None,
    columns: Annotated[str | None, _own("csv, parquet: path=…,label=…,split=…,group=…,id=…")] = None,
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
    from cer_fusion.featstore.manifests import adapters
    from cer_fusion.featstore.manifests.splitting import hold_out as split_off
    from cer_fusion.featstore.manifests.splitting import thin

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
        from cer_fusion.featstore.manifests.adapters.ferplus import write_votes

        count = write_votes(root, listed, votes, encoding=encoding, overwrite=overwrite)
        say(f"wrote [bold]{escape(votes)}[/]: the votes of {count:,} samples")
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


app.command("unity")(unity)
app.command("check")(check)
app.command("split")(split)
app.command("merge")(merge)
app.command("filter")(filter_)
app.command("relabel")(relabel)
