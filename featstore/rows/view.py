"""Several features of one dataset, joined on `sample_id`, in manifest order."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...kit.errors import listing, needed
from ...kit.table import facts_html, shortened
from ..errors import FeatstoreError, IncompleteError, UnknownBlockError, nearest
from ..manifests.class_sets import ClassSet
from ..manifests.manifest import Manifest, where_true
from ..manifests.targets import TIME, shares_of, targets_of, units_of
from . import files
from .feature import Feature
from .index import RowIndex
from .mapped import MappedBlock, MappedDataset, MappedFiles, ReadDataset
from .shard import ShardHeader, read_into, read_segment

if TYPE_CHECKING:
    import pandas
    import polars

FloatArray = npt.NDArray[np.float32]
BlockRows = FloatArray | MappedBlock
_SHARDS = 16
"""Shards that a thread loads, one after the other, before it looks for more."""
_told: set[Path] = set()
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """Rows of n samples from one or more features, and what is known about the samples."""

    ids: tuple[str, ...] = field(repr=False)
    """n sample ids, in manifest order."""
    y: npt.NDArray[np.int64] = field(repr=False)
    """Class index of each sample, shape (n,); -1 where there is no label."""
    class_set: ClassSet
    """The classes that `y` points into."""
    splits: tuple[str, ...] = field(repr=False)
    """Split of each sample."""
    groups: tuple[str, ...] = field(repr=False)
    """Group of each sample; its own id where it has none."""
    blocks: Mapping[str, BlockRows] = field(repr=False)
    """Block name (`vit`, `manet.local`) to (n, d) float32 rows, in the order the features were asked for."""
    fingerprints: Mapping[str, str]
    """Feature name to fingerprint."""
    further: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict, repr=False)
    """The manifest's columns of numbers, (n,) each, NaN where nothing is known: `au.12`, `va.valence`, `time_s`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", _Named(self.blocks))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in order."""
        return self.class_set.labels

    @property
    def widths(self) -> dict[str, int]:
        """Block name to number of columns, in order."""
        return {name: rows.shape[1] for name, rows in self.blocks.items()}

    @property
    def targets(self) -> dict[str, npt.NDArray[np.float64]] | None:
        """What is known beside classes, by task: `au` (n, a) in the order of `units`, `va` (n, 2); None without any."""
        return targets_of(self.further) or None

    @property
    def units(self) -> tuple[int, ...] | None:
        """FACS numbers of the action units of which something is known; None without any."""
        return units_of(self.further) or None

    @property
    def time_s(self) -> npt.NDArray[np.float64] | None:
        """(n,) seconds of each frame in its video, NaN where not known; None where the manifest has no such column."""
        return self.further.get(TIME)

    @property
    def votes(self) -> npt.NDArray[np.float64] | None:
        """(n, k) share of each class in the annotators' votes, NaN of samples without; None without such columns."""
        return shares_of(self.further, self.classes)

    def join(self) -> FloatArray:
        """All blocks side by side, (n, sum of widths) float32, in block order."""
        out = np.empty((len(self), sum(self.widths.values())), dtype=np.float32)
        start = 0
        for rows in self.blocks.values():
            out[:, start : start + rows.shape[1]] = rows
            start += rows.shape[1]
        return out

    def take(self, mask: Sequence[bool] | npt.NDArray[np.bool_]) -> View:
        """The samples whose mask is true; mapped blocks stay mapped, loaded ones are copied.

        Raises
        ------
        FeatstoreError
            If the mask is not a truth value for each sample, such as positions are not.
        """
        chosen = where_true(mask, len(self))
        return View(
            ids=tuple(self.ids[i] for i in chosen),
            y=self.y[chosen],
            class_set=self.class_set,
            splits=tuple(self.splits[i] for i in chosen),
            groups=tuple(self.groups[i] for i in chosen),
            blocks={
                name: rows.take(chosen) if isinstance(rows, MappedBlock) else rows[chosen]
                for name, rows in self.blocks.items()
            },
            fingerprints=self.fingerprints,
            further={title: numbers[chosen] for title, numbers in self.further.items()},
        )

    def to_pandas(self) -> pandas.DataFrame:
        """Return a pandas DataFrame, a row a sample, indexed by `sample_id`.

        Its columns are ``label`` (a categorical in the order of the classes; missing where there is none), ``split``,
        ``group``, the manifest's columns of numbers, such as ``au.12`` (float64), and a float32 column ``<block>_<i>``
        a number, named as `cer-feat export --format csv` names them.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        frames = needed("pandas", "a DataFrame of a view", extra="frames")
        self._refuse_names()
        known = {
            "label": frames.Categorical.from_codes(self.y, categories=list(self.classes)),
            "split": list(self.splits),
            "group": list(self.groups),
            **self.further,
        }
        index = frames.Index(list(self.ids), name="sample_id")
        names = [f"{block}_{i}" for block, width in self.widths.items() for i in range(width)]
        numbers = frames.DataFrame(self.join(), index=index, columns=names, copy=False)
        made: pandas.DataFrame = frames.concat([frames.DataFrame(known, index=index), numbers], axis=1)
        return made

    def to_polars(self) -> polars.DataFrame:
        """Return a polars DataFrame: ``sample_id``, ``label`` (null where there is none), ``split``, ``group``, the
        manifest's columns of numbers (null where not known), and of each block one of float32 arrays of its width.

        Raises
        ------
        MissingExtraError
            If polars is not installed.
        """
        frames = needed("polars", "a polars DataFrame of a view", extra="frames")
        self._refuse_names()
        columns = {name: frames.Series(name, texts, dtype=frames.String) for name, texts in self._texts().items()}
        for name, numbers in self.further.items():
            columns[name] = frames.Series(name, numbers, dtype=frames.Float64).fill_nan(None)
        for name, rows in self.blocks.items():
            kind = frames.Array(frames.Float32, rows.shape[1])
            columns[name] = frames.Series(name, np.ascontiguousarray(rows), dtype=kind)
        made: polars.DataFrame = frames.DataFrame(columns)
        return made

    def to_arrow(self) -> Any:
        """Return a pyarrow Table of the columns that `cer-feat export --format parquet` writes: ``sample_id``,
        ``label`` (null where there is none), ``split``, ``group``, the manifest's columns of numbers (null where not
        known), and a fixed-size list of float32 a block.

        Raises
        ------
        MissingExtraError
            If pyarrow is not installed.
        """
        arrow = needed("pyarrow", "an Arrow table of a view", extra="parquet")
        self._refuse_names()
        columns = {name: arrow.array(texts, arrow.string()) for name, texts in self._texts().items()}
        for name, numbers in self.further.items():
            columns[name] = arrow.array(numbers, arrow.float64(), mask=np.isnan(numbers))
        for name, rows in self.blocks.items():
            flat = np.ascontiguousarray(rows, dtype=np.float32).reshape(-1)  # (n, d) -> (n * d)
            columns[name] = arrow.FixedSizeListArray.from_arrays(arrow.array(flat), rows.shape[1])
        return arrow.table(columns)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Hand the rows over by Arrow's C stream interface, as polars, DuckDB and pyarrow ask for them."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def _texts(self) -> dict[str, list[str | None]]:
        labels = [self.classes[y] if y >= 0 else None for y in self.y]
        return {"sample_id": [*self.ids], "label": labels, "split": [*self.splits], "group": [*self.groups]}

    def _refuse_names(self) -> None:
        if taken := {"sample_id", "label", "split", "group", *self.further} & set(self.blocks):
            raise FeatstoreError(
                f"a block is called {min(taken)!r}, as a column of every table is\n  name the feature otherwise: "
                "cer-feat rename"
            )

    def _facts(self) -> dict[str, str]:
        found = {
            "blocks": shortened(f"{name} {width:,}" for name, width in self.widths.items()),
            "classes": shortened(self.classes),
            "splits": shortened(f"{name or 'none'} {count:,}" for name, count in Counter(self.splits).items()),
            "features": shortened(f"{name.partition('@')[0]}@{one[:12]}" for name, one in self.fingerprints.items()),
        }
        unlabelled = int((self.y < 0).sum())
        return found | ({"without label": f"{unlabelled:,}"} if unlabelled else {})

    def __repr__(self) -> str:
        facts = self._facts()
        return f"<View: {len(self):,} samples, {facts['blocks']}; {facts['splits']}; {len(self.classes)} classes>"

    def _repr_html_(self) -> str:
        return facts_html(f"View: {len(self):,} samples", self._facts())


class _Named(dict[str, BlockRows]):
    """Blocks by name, which tell the names that there are when one is asked for that is not."""

    def __missing__(self, name: object) -> BlockRows:
        raise UnknownBlockError(f"no block {name!r} in this view; {nearest(str(name), self)}")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One feature of a view, and which of its blocks (None: all)."""

    key: str
    """What the view calls the feature."""
    feature: Feature
    block: str | None = None


def build_view(
    manifest: Manifest, requests: Sequence[Request], *, drop_missing: bool, mapped: bool, verify: bool, where: str
) -> View:
    """Join features on `sample_id`; see `Store.view`."""
    indexes = [request.feature.index(only=manifest.table.ids) for request in requests]
    rows = [index.rows_of(manifest.table.ids) for index in indexes]
    keep = np.ones(len(manifest), dtype=bool)
    for request, index, found in zip(requests, indexes, rows, strict=True):
        present = found >= 0
        if not present.all() and not drop_missing:
            raise _incomplete(manifest, present, request, index, where)
        keep &= present
    if not keep.any():
        raise IncompleteError(f"no sample of {manifest.where} has rows in all of: {', '.join(r.key for r in requests)}")
    chosen = manifest if keep.all() else manifest.keep(keep)
    blocks: dict[str, BlockRows] = {}
    for request, index, found in zip(requests, indexes, rows, strict=True):
        shard, row = index.locate(found[keep])
        used, shard = np.unique(shard, return_inverse=True)
        headers = [index.headers[number] for number in used]  # superseded shards may be compacted away any time
        maps = MappedFiles(headers) if mapped and not _is_read(request.feature) else None
        names = [request.block] if request.block else list(request.feature.spec.blocks)
        for name in names:
            key = request.key if len(request.feature.spec.blocks) == 1 else f"{request.key}.{name}"
            dataset = f"blocks/{name}"
            if mapped:
                there = ReadDataset(headers, dataset) if maps is None else MappedDataset(headers, dataset, maps)
                blocks[key] = MappedBlock(there, shard, row)
            else:
                blocks[key] = load_rows(headers, dataset, shard, row, verify=verify)
    return View(
        ids=chosen.ids,
        y=chosen.y,
        class_set=chosen.classes,
        splits=chosen.split_of_each,
        groups=chosen.group_of_each,
        blocks=blocks,
        fingerprints={request.key: request.feature.spec.fingerprint for request in requests},
        further=chosen.further,
    )


def _is_read(feature: Feature) -> bool:
    """Whether rows are read instead of mapped, which is said once for each dataset."""
    kind = files.network_kind(feature.folder)
    if kind is not None and feature.folder.parent not in _told:
        _told.add(feature.folder.parent)
        log.warning(
            "%s is on a network file system (%s): rows are read instead of mapped, since a shard that another machine "
            "removes would end this process; a copy on a disk of this machine is faster",
            feature.folder.parent,
            kind,
        )
    return kind is not None


def _incomplete(
    manifest: Manifest, present: npt.NDArray[np.bool_], request: Request, index: RowIndex, where: str
) -> IncompleteError:
    absent = [manifest.ids[i] for i in np.flatnonzero(~present).tolist()]
    bad = [f"{sample_id} ({index.quarantined[sample_id][1]})" for sample_id in absent if sample_id in index.quarantined]
    lines = [
        f"{len(absent)} of {len(manifest)} samples have no row in {request.feature.label!r} (first: {listing(absent)})",
        f"  in store: {where}",
    ]
    if bad:
        lines.append(f"  {len(bad)} of them are in quarantine: {listing(bad)}")
    unread = [i for i in absent if i in index.quarantined and not index.quarantined[i][0]]
    if unread:
        lines.append(f"  {len(unread)} of these could not be read then: the same cer-feat extract tries them again")
    disputed = [sample_id for sample_id in absent if sample_id in index.disputed]
    if disputed:
        lines.append(
            f"  {len(disputed)} of them stand in two shards, made from different pictures ({listing(disputed)}): "
            f"a shard was copied here from elsewhere"
        )
    if len(bad) < len(absent):
        lines.append(f"  finish it by running the same cer-feat extract (or import) again for {request.feature.name!r}")
    lines.append("  or leave such samples out, by name: missing='drop' (--missing drop)")
    return IncompleteError("\n".join(lines))


def load_rows(
    headers: Sequence[ShardHeader],
    dataset: str,
    shard: npt.NDArray[np.int64],
    row: npt.NDArray[np.int64],
    *,
    verify: bool = True,
) -> npt.NDArray[np.float32]:
    """Read rows of shards as one float32 array (n, d).

    Parameters
    ----------
    headers : sequence of ShardHeader
    dataset : str
        `blocks/<name>`.
    shard, row : int64 arrays of shape (n,)
        Position in `headers`, and row in that shard, of each row wanted.
    verify : bool
        Check every chunk that is read against its digest.

    Raises
    ------
    DamagedShardError
    """
    out = np.empty((len(row), headers[0].segments[dataset].shape[1]), dtype=np.float32)

    order = np.argsort(shard, kind="stable")
    ends = np.searchsorted(shard[order], np.arange(1, len(headers) + 1))

    def load_shard(number: int) -> None:
        header = headers[number]
        at = order[ends[number - 1] if number else 0 : ends[number]]
        if not len(at):
            return
        rows = row[at]
        in_order = at[-1] - at[0] == len(at) - 1 and bool((np.diff(rows) == 1).all())
        whole = in_order and len(at) == header.rows
        if whole and header.segments[dataset].dtype == out.dtype.str:
            read_into(header, dataset, out[at[0] : at[-1] + 1], verify=verify)
        else:
            stored: npt.NDArray[Any] = read_segment(header, dataset, verify=verify)
            out[at] = stored[rows]

    def load_shards(numbers: range) -> None:
        for number in numbers:
            load_shard(number)

    some = [range(first, min(first + _SHARDS, len(headers))) for first in range(0, len(headers), _SHARDS)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        list(pool.map(load_shards, some))
    return out
