"""How the manifest commands name manifests, show progress, and tell what they wrote."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cer_fusion.commands.console import escape, out_json, out_table, progress_bar, say
from cer_fusion.commands.outputs import check_outputs

if TYPE_CHECKING:
    from cer_fusion.featstore import Manifest

File = Annotated[Path, typer.Argument(help="A manifest.", metavar="FILE")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The manifest to write.")]
SHOWN = 10
"""Missing pictures that are named; --json names all."""


def read_named(files: Sequence[Path]) -> dict[str, Manifest]:
    """Read manifests under the names of their files, which must differ."""
    from cer_fusion.featstore import Manifest

    names = [path.stem.replace(".", "_") for path in files]
    if len(files) < 2 or len(set(names)) != len(names):
        raise typer.BadParameter(
            f"expected two manifests or more, with different file names, however: {', '.join(map(str, files))}",
            param_hint="FILE",
        )
    return {name: Manifest.read(path) for name, path in zip(names, files, strict=True)}


@contextlib.contextmanager
def counting(stage: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar that is told how many more are done."""
    with progress_bar() as step:
        done = 0

        def count(n: int) -> None:
            nonlocal done
            done += n
            step(stage, done, total)

        yield count


def tell_left_out(left_out: Mapping[str, int], of: str = "") -> None:
    """Say what a manifest does not hold, and why."""
    for reason, count in left_out.items():
        say(f"left out{f' of {escape(of)}' if of else ''}: {count:,} × {escape(reason)}")


def tell_without(listed: Manifest, remedy: str = "") -> None:
    """Say which declared classes have no sample at all."""
    empty = [label for label, count in listed.counts().items() if not count]
    if empty and len(empty) < len(listed.classes.labels):
        say(
            f"[yellow]no sample of {escape(', '.join(empty))}[/], which stay declared: a class without samples counts "
            f"as 0 in macro F1{'; ' + remedy if remedy else ''}"
        )


def tell_missing(missing: Mapping[str, str], root: Path) -> None:
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
    for sample_id, path in list(missing.items())[:SHOWN]:
        say(f"  {escape(sample_id)}: {escape(path)}")
    if len(missing) > SHOWN:
        say(f"  … and {len(missing) - SHOWN:,} more; --json names all")
    say("  put them there (an archive may not be unpacked whole), or leave these samples out with --missing drop")


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse a manifest that cannot be written as asked: its CSV, and the JSON file beside it."""
    check_outputs({"--output": [output, output.with_suffix(".json")]}, overwrite=overwrite)


def write(listed: Manifest, output: Path, as_json: bool, *, overwrite: bool, remedy: str = "", **more: Any) -> None:
    """Write a manifest, and tell its samples per class and split; `more` goes into the JSON."""
    listed.write(output, overwrite=overwrite)
    say(f"wrote [bold]{escape(output)}[/]: {len(listed):,} samples, classes {escape(listed.classes.name)}")
    tell_without(listed, remedy)
    tell_counts(listed, as_json, **more)


def tell_counts(listed: Manifest, as_json: bool, **more: Any) -> None:
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
    out_table(columns, rows)
