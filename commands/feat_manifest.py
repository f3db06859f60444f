"""`cer-feat manifest`: list a dataset's samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.console import escape, out_json, out_table, progress_bar, say
from commands.options import Json, Seed

if TYPE_CHECKING:
    from featstore import Manifest


def manifest(
    kind: Annotated[str, typer.Argument(help="csv, ferplus, folder, rafdb-basic or rafdb-compound.")],
    root: Annotated[Path, typer.Argument(help="The dataset's folder, zip file or CSV.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The manifest to write.")],
    classes: Annotated[
        str | None, typer.Option(help="Class set: abaw7, rafdb_compound11, basic8, …", show_default=False)
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="ferplus: compound7 (default) or basic8.", show_default=False)
    ] = None,
    votes: Annotated[
        Path | None,
        typer.Option(help="ferplus basic8: write the annotators' votes too, for cer-feat finetune --soft-labels."),
    ] = None,
    pictures: Annotated[
        str | None,
        typer.Option(help="rafdb: aligned (default) or original; csv: folder of the pictures.", show_default=False),
    ] = None,
    id_column: Annotated[str | None, typer.Option(help="csv: column of the ids.", show_default=False)] = None,
    path_column: Annotated[str | None, typer.Option(help="csv: column of the paths.", show_default=False)] = None,
    label_column: Annotated[str | None, typer.Option(help="csv: column of the labels.", show_default=False)] = None,
    split_column: Annotated[str | None, typer.Option(help="csv: column of the splits.", show_default=False)] = None,
    group_column: Annotated[
        str | None, typer.Option(help="csv: column of the groups (videos, subjects).", show_default=False)
    ] = None,
    repeats: Annotated[
        str,
        typer.Option(
            help="Pictures that occur more than once: report, first (keep the first), or ignore (do not look)."
        ),
    ] = "report",
    hold_out: Annotated[
        float | None, typer.Option(help="Share of an unsplit dataset that becomes the test split.", show_default=False)
    ] = None,
    sample: Annotated[
        int | None, typer.Option(help="Keep about N samples, evenly over classes and splits.", show_default=False)
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Build a manifest: sample_id, path, label, split, group.

    Example: cer-feat manifest rafdb-compound RAF-DB -o rafdb.csv
    """
    from featstore.adapters import build
    from featstore.splitting import hold_out as split_off
    from featstore.splitting import thin

    if repeats not in ("report", "first", "ignore"):
        raise typer.BadParameter("must be report, first or ignore", param_hint="--repeats")
    if votes is not None and (kind, labels) != ("ferplus", "basic8"):
        raise typer.BadParameter("only ferplus with --labels basic8 has votes", param_hint="--votes")
    options = {
        "classes": classes, "labels": labels, "pictures": pictures, "id_column": id_column, "path_column": path_column,
        "label_column": label_column, "split_column": split_column, "group_column": group_column,
    }  # fmt: skip
    adapted = build(kind, root, **{name: value for name, value in options.items() if value is not None})
    listed = adapted.manifest
    for reason, count in adapted.left_out.items():
        say(f"left out: {count:,} × {escape(reason)}")
    if repeats != "ignore":
        listed = _look_for_repeats(listed, drop=repeats == "first")
    if hold_out is not None:
        listed = split_off(listed, hold_out, seed=seed)
    if sample is not None:
        listed = thin(listed, sample, seed=seed)
    listed.write(output)
    say(f"wrote [bold]{escape(output)}[/]: {len(listed):,} samples, classes {escape(listed.classes.name)}")
    if votes is not None:
        from featstore.adapters.ferplus import write_votes

        say(f"wrote [bold]{escape(votes)}[/]: the votes of {write_votes(root, listed, votes):,} samples")
    _print_counts(listed, as_json)


def _look_for_repeats(listed: Manifest, *, drop: bool) -> Manifest:
    """Say which pictures occur more than once; they leak when they stand in two splits."""
    from featstore import pictures
    from featstore.splitting import keep_first

    with progress_bar() as step:
        done = 0

        def count(n: int) -> None:
            nonlocal done
            done += n
            step("hashing", done, len(listed))

        digests, failed = pictures.digests(listed, progress=count)
    if failed:
        first = next(iter(failed))
        say(f"[yellow]{len(failed):,} pictures cannot be read[/], first: {escape(first)} ({escape(failed[first])})")
    groups = pictures.repeats(listed, digests)
    if not groups:
        return listed
    extra = sum(len(group) - 1 for group in groups)
    leaks = len(pictures.across_splits(listed, groups))
    say(
        f"[yellow]{len(groups):,} pictures occur more than once[/] ({extra:,} repeats), "
        f"{leaks:,} of them in more than one split"
    )
    if not drop:
        say("  keep the first of each with --repeats first; a picture in train and test makes a score too good")
        return listed
    say(f"  kept the first of each: {len(listed):,} → {len(listed) - extra:,} samples")
    return keep_first(listed, groups)


def _print_counts(listed: Manifest, as_json: bool) -> None:
    counts = {split: listed.select(split).counts() for split in listed.splits}
    if as_json:
        out_json({"classes": listed.classes.name, "samples": len(listed), "counts": counts})
        return
    columns = ["class", *(split or "(no split)" for split in counts)]
    rows = [[label, *(counts[split][label] for split in counts)] for label in listed.classes.labels]
    unlabelled = {split: sum(not s.label for s in listed.select(split).samples) for split in counts}
    if any(unlabelled.values()):
        rows.append(["(no label)", *unlabelled.values()])
    rows.append(["all", *(len(listed.select(split)) for split in counts)])
    out_table(columns, rows)
