"""Rows that PyTorch saved, turned into NumPy arrays without running any code from the file.

featstore knows no torch and backbones knows no store, so the two meet here: `backbones` opens the file, and what it
holds goes to featstore as plain arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from cer_fusion.featstore.exchange.foreign_files import ForeignRows


def read_torch(
    path: Path, *, names: Path | None = None, rows_keys: Sequence[str] = (), names_key: str | None = None
) -> ForeignRows:
    """Open a `.pt` file: an (n, d) tensor, `{name: (d,) tensor}`, or `{'features': (n, d) tensor, 'names': [...]}`.

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
        from cer_fusion.featstore.errors import FormatError

        raise FormatError(f"{path} holds no tensors of rows; it holds {_held(content)}")
    one_a_name = len(arrays) > 0 and all(_is_row(array) for array in arrays.values()) and not texts
    if isinstance(content, Mapping) and one_a_name and not rows_keys:
        return _one_a_name(path, arrays, names)
    return _keyed(path, arrays, texts, names, rows_keys, names_key)


def _opened(path: Path) -> Any:
    """What the file holds: tensors (or records of tensors), containers, numbers, text."""
    from cer_fusion.backbones.checkpoint import read_safetensors, read_torch, sniff

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
    from cer_fusion.backbones.unpickle import ArrayRecord, TensorRecord

    tensor = value.tensor() if isinstance(value, TensorRecord | ArrayRecord) else value
    if not isinstance(tensor, torch.Tensor):
        return None
    if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        tensor = tensor.float()  # NumPy has no bfloat16; float32 holds each of its numbers exactly
    array: npt.NDArray[Any] = tensor.contiguous().numpy()
    return array


def _one_a_name(path: Path, arrays: dict[str, npt.NDArray[Any]], names: Path | None) -> ForeignRows:
    import numpy as np
    from cer_fusion.featstore.errors import FormatError, RowsError
    from cer_fusion.featstore.exchange.foreign_files import ForeignRows

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
    from cer_fusion.featstore.exchange.foreign_files import (
        ForeignRows,
        block_names,
        choose_names,
        choose_rows,
        read_names,
    )
    from cer_fusion.featstore.exchange.foreign_numpy import Entry

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
