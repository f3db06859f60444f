"""`cer-feat import`: take another tool's rows into the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .. import options as opt
from ..console import escape, out_json, progress_bar, say
from ..data import manifest_and_dataset, tell_change

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ...featstore.exchange.foreign_files import ForeignRows


@opt.forms(
    listed=opt.Form(
        "names are in Parquet and in tables of face tools, and those of a folder's samples are its files'", ("names",)
    ),
    keyed=opt.Form("is for .npz, HDF5 and .pt files", ("names_key",)),
    chosen=opt.Form("is for .npz, HDF5 and .pt files, and tables of face tools", ("rows_key",)),
    tabled=opt.Form("is for tables of face tools", ("face", "first_frame", "fps")),
    pooled=opt.Form("is for a folder of one .npy a sample", ("frames",)),
)  # fmt: skip
def import_(
    ctx: typer.Context,
    rows: Annotated[
        Path,
        typer.Argument(
            help=".npy, .npz, .pt, HDF5, Parquet of cer-feat export, a folder of one .npy a sample; CSV of OpenFace, "
            "Py-Feat or blendshapes, one or a folder of them."
        ),
    ],
    name: Annotated[str, typer.Option("--as", help="What the feature is called.")],
    names: Annotated[
        Path | None,
        typer.Option(
            "--names",
            help="Text file, one name a row: ids, paths, file names or stems.",
            show_default="what the file itself says, or file_names.txt beside it",
        ),
    ] = None,
    rows_key: Annotated[
        list[str] | None,
        opt.several(
            "--rows-key",
            help="Which array of a file with several, or which columns of a table (au_intensity, gaze, …); a,b makes "
            "each a block.",
            show_default="the only 2-D float array; all blocks of a table",
        ),
    ] = None,
    names_key: Annotated[
        str | None,
        typer.Option("--names-key", help="Which array holds the names.", show_default="the only text array that fits"),
    ] = None,
    frames: Annotated[
        Literal["mean", "max"] | None, typer.Option("--frames", help="How to pool a folder's frame-level files.")
    ] = None,
    face: Annotated[
        Literal["error", "best"],
        typer.Option("--face", help="Several faces in a frame of a table: an error, or the one its tool is surest of."),
    ] = "error",
    first_frame: Annotated[
        int | None,
        typer.Option(
            "--first-frame",
            min=0,
            help="The number of a video's first frame in a table.",
            show_default="OpenFace's 1, Py-Feat's 0",
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            "--fps", min=0.001, help="Frames a second, of a table with time stamps alone.", show_default=False
        ),
    ] = None,
    data: opt.Data = None,
    store: opt.StorePath = opt.DEFAULT_STORE,
    dataset: opt.DatasetName = None,
    root: opt.Root = None,
    share_repeats: Annotated[
        bool, typer.Option(help="Give a sample without a row the row of an identical picture.")
    ] = True,
    blank: Annotated[
        Literal["error", "drop", "keep"],
        typer.Option(help="Rows of one number throughout, as for a face not found: an error, drop, or keep them."),
    ] = "error",
    extra: Annotated[
        Literal["error", "drop"], typer.Option(help="Names that no sample has: an error, or drop their rows.")
    ] = "error",
    replace_manifest: opt.ReplaceManifest = False,
    as_json: opt.Json = False,
) -> None:
    """Import embeddings of another tool; they are marked foreign and identified by their content.

    Example: cer-feat import hse.npy --names file_names.txt --as hse --data ferplus.csv

    Example: cer-feat import openface/ --as aus --rows-key au_intensity,au_presence --data abaw.csv
    """
    from ...featstore import Store, import_rows
    from ...featstore.exchange.foreign_files import read_foreign, recognise

    if names is not None and names_key is not None:
        raise typer.BadParameter("give the names as a file or as a key, not both", param_hint="--names-key")
    form = recognise(rows)
    opt.only(
        ctx, listed=form not in ("parquet", "sample folder", "face table"), keyed=form in ("npz", "hdf5", "torch"),
        chosen=form in ("npz", "hdf5", "torch", "face table"), tabled=form == "face table",
        pooled=form == "sample folder",
    )  # fmt: skip
    with progress_bar() as step:
        step("reading", 0, None, rows.name)
        keys = rows_key or []
        if form == "torch":
            found = _read_torch(rows, names=names, rows_keys=keys, names_key=names_key)
        else:
            found = read_foreign(
                rows, names=names, rows_keys=keys, names_key=names_key, frames=frames, face=face,
                first_frame=first_frame, fps=fps,
            )  # fmt: skip
    _tell_read(rows, found)
    manifest, dataset_name = manifest_and_dataset(data, store, dataset=dataset, root=root)
    opened = Store.create(store)
    tell_change(opened, dataset_name, manifest, replace_manifest=replace_manifest)
    with progress_bar() as step:
        step("importing", 0, None, name)
        report = import_rows(
            found.blocks,
            found.names,
            manifest,
            opened,
            dataset=dataset_name,
            name=name,
            source=rows.name,
            described=found.described,
            failed=found.failed,
            share_repeats=share_repeats,
            blank=blank,
            extra=extra,
            replace_manifest=replace_manifest,
            need_pictures=root is not None,
        )
    say(
        f"[bold]{escape(report.feature)}[/]: {report.samples:,} samples, {report.matched:,} matched by "
        f"{report.matched_by}, {report.shared:,} shared with an identical picture"
    )
    if report.extra:
        say(f"[yellow]left out {len(report.extra):,} rows[/] of names that no sample has: {_few(report.extra)}")
    if report.blank:
        done = "left out" if blank == "drop" else "kept"
        say(f"[yellow]{done} {len(report.blank):,} rows of one number throughout[/]: {_few(report.blank)}")
    for note in report.notes:
        say(f"[yellow]note:[/] {escape(note)}")
    if report.failed:
        folder = opened.path / dataset_name / report.feature
        say(
            f"[yellow]{len(report.failed):,} samples in quarantine[/], at which the tool failed: "
            f"{escape(folder / 'quarantine.csv')}"
        )
    failed = set(report.failed)
    absent = [name for name in report.missing if name not in failed]
    if absent:
        say(f"[yellow]{len(absent):,} samples have no row[/], first: {escape(', '.join(absent[:3]))}")
    if report.unread:
        first, reason = next(iter(report.unread.items()))
        say(
            f"[yellow]{len(report.unread):,} of {report.samples:,} pictures could not be read[/] under "
            f"{escape(manifest.root)} (first: {escape(first)}: {escape(reason)}): whether they repeat others, and leak "
            f"from one split into another, cannot be seen for them; say where they are with --root and import again"
        )
    if as_json:
        out_json(vars(report))


def _few(names: Sequence[str]) -> str:
    return escape(", ".join(names[:3]) + (", …" if len(names) > 3 else ""))


def _tell_read(path: Path, found: ForeignRows) -> None:
    blocks = ", ".join(
        f"{block} {' x '.join(f'{size:,}' for size in rows.shape) or 'one number,'} {rows.dtype}"
        for block, rows in found.blocks.items()
    )
    say(
        f"read {escape(path)} as {escape(found.form)}: {escape(blocks)}; "
        f"{len(found.names):,} names from {escape(found.names_from)}"
        + (f"; the tool failed at {len(found.failed):,} more" if found.failed else "")
    )


def _read_torch(path: Path, *, names: Path | None, rows_keys: Sequence[str], names_key: str | None) -> ForeignRows:
    """Rows that PyTorch saved, as NumPy arrays, without running any code from the file.

    A `.pt` file holds an (n, d) tensor, `{name: (d,) tensor}`, or `{'features': (n, d) tensor, 'names': [...]}`.
    featstore knows no torch and backbones knows no store, so the two meet here.

    Raises
    ------
    CheckpointError
        If the file is damaged, or holds code instead of tensors.
    FormatError, RowsError
        If what it holds is not rows with names.
    """
    content = _opened(path)
    arrays, texts = _sorted_out(content)
    if not arrays:
        from ...featstore.errors import FormatError

        raise FormatError(f"{path} holds no tensors of rows; it holds {_held(content)}")
    one_a_name = len(arrays) > 0 and all(_is_row(array) for array in arrays.values()) and not texts
    if isinstance(content, Mapping) and one_a_name and not rows_keys:
        return _one_a_name(path, arrays, names)
    return _keyed(path, arrays, texts, names, rows_keys, names_key)


def _opened(path: Path) -> Any:
    """What the file holds: tensors (or records of tensors), containers, numbers, text."""
    from ...backbones.weights.checkpoint import read_safetensors, read_torch, sniff

    form = sniff(path)
    if form == "safetensors":
        return read_safetensors(path)
    return read_torch(path, form).content


def _sorted_out(content: Any) -> tuple[dict[str, npt.NDArray[Any]], dict[str, list[str]]]:
    """Arrays and lists of text by their keys; a tensor alone is called `rows`."""
    entries = content if isinstance(content, Mapping) else {"rows": content}
    arrays, texts = {}, {}
    for key, value in entries.items():
        array = _as_array(value)
        if array is not None:
            arrays[str(key)] = array
        elif isinstance(value, list | tuple) and value and all(isinstance(text, str) for text in value):
            texts[str(key)] = list(value)
    return arrays, texts


def _as_array(value: Any) -> npt.NDArray[Any] | None:
    import torch

    from ...backbones.weights.unpickle import ArrayRecord, TensorRecord

    tensor = value.tensor() if isinstance(value, TensorRecord | ArrayRecord) else value
    if not isinstance(tensor, torch.Tensor):
        return None
    if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        tensor = tensor.float()  # NumPy has no bfloat16; float32 holds each of its numbers exactly
    array: npt.NDArray[Any] = tensor.contiguous().numpy()
    return array


def _one_a_name(path: Path, arrays: dict[str, npt.NDArray[Any]], names: Path | None) -> ForeignRows:
    import numpy as np

    from ...featstore.errors import FormatError, RowsError
    from ...featstore.exchange.foreign_files import ForeignRows

    if names is not None:
        raise FormatError(f"{path} holds one tensor a name: its keys are the names, leave --names out")
    width = next(iter(arrays.values())).shape[-1]
    for key, array in arrays.items():
        if array.shape[-1] != width:
            raise RowsError(
                f"all tensors must have the width of the first, {next(iter(arrays))!r} with {width}, however: "
                f"{key!r} has {array.shape[-1]}, in {path}"
            )
    rows: np.ndarray[Any, Any] = np.stack([array.reshape(-1) for array in arrays.values()])  # (d,) or (1, d) -> (d,)
    return ForeignRows(
        form="PyTorch file of one tensor a name", blocks={"rows": rows}, names=list(arrays), names_from="its keys"
    )


def _keyed(
    path: Path,
    arrays: dict[str, npt.NDArray[Any]],
    texts: dict[str, list[str]],
    names: Path | None,
    rows_keys: Sequence[str],
    names_key: str | None,
) -> ForeignRows:
    from ...featstore.exchange.foreign_files import (
        ForeignRows,
        block_names,
        choose_names,
        choose_rows,
        read_names,
    )
    from ...featstore.exchange.foreign_formats import Entry

    entries = {key: Entry.of(array.shape, array.dtype) for key, array in arrays.items()}
    entries |= {key: Entry(shape=(len(listed),), kind="t", dtype="text") for key, listed in texts.items()}
    keys = choose_rows(entries, rows_keys, str(path))
    if names is None:
        key = choose_names(entries, names_key, entries[keys[0]].shape[0], str(path))
        listed, names_from = texts[key], f"its entry {key!r}"
    else:
        listed, names_from = read_names(names), str(names)
    called = block_names(keys)
    return ForeignRows(
        form="PyTorch file",
        blocks={called[key]: arrays[key] for key in keys},
        names=listed,
        names_from=names_from,
        described={"arrays": keys},
    )


def _is_row(array: npt.NDArray[Any]) -> bool:
    return array.dtype.kind == "f" and (array.ndim == 1 or (array.ndim == 2 and array.shape[0] == 1))


def _held(content: Any) -> str:
    if isinstance(content, Mapping):
        shown = ", ".join(f"{key!r} ({type(value).__name__})" for key, value in list(content.items())[:6])
        return shown or "an empty dictionary"
    return f"a {type(content).__name__}"
