"""The list of samples: which picture, which label, which split, which group."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...kit.table import Cell, Table, facts_html, shortened
from ...kit.text import is_utf8, many_objects
from ..errors import ClassSetError, FeatstoreError, ManifestError, nearest
from ..pictures.archives import inside_archive
from ..rows import files
from ..rows.keys import Keys, keys_of, keys_of_first_cells, sums_to_text
from .class_sets import ClassSet, found_classes
from .columns import IntArray, Kinds, Numbers, Samples, Texts, Words, quoted
from .csv_table import (
    id_notes,
    looks_rounded,
    parse_table,
    plain_columns,
    read_groups,
    read_labels,
    read_numbers,
    read_splits,
)
from .parquet_table import is_parquet, parquet_columns
from .sample import Sample as Sample
from .sidecar import (
    BLOCK_ROWS,
    Blocks,
    Sidecar,
    read_sealed_sidecar,
    read_source,
    read_with_sidecar,
    write_new_with_sidecar,
    write_with_sidecar,
)
from .targets import checked_numbers, is_target, known_texts

COLUMNS = ("sample_id", "path", "label", "split", "group")
_KINDS: Kinds = {name: Texts if name in COLUMNS[:2] else Words for name in COLUMNS}
SHOWN = 5
"""Samples that a notebook shows of a manifest."""
_CONTROLS = ("Cc", "Cf", "Cs", "Zl", "Zp")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Samples in order, the classes their labels are from, and the folder their paths start at.

    Raises
    ------
    ManifestError
        For repeated or empty ids, labels outside the class set, and groups that stand in two splits.
    """

    samples: Sequence[Sample]
    """In order: any sequence of them, kept as `Samples`."""
    classes: ClassSet
    root: Path
    origin: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What made the pictures, where that is known, as JSON values: for people and programs, no part of any identity."""
    where: str = field(default="manifest", compare=False)
    """What error messages call this manifest."""
    lines: Sequence[int] = field(default=(), compare=False, repr=False)
    """Line of each sample in the file it was read from; empty where there is no file."""
    source: str = field(default="", init=False, compare=False, repr=False)
    """Of a manifest as it was read, and no other: `Sidecar.source_of` its files."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        object.__setattr__(self, "samples", Samples.of(self.samples))
        _check_samples(self)
        if self.table.further:
            object.__setattr__(self, "samples", _with_numbers(self))

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def _facts(self) -> dict[str, str]:
        groups = self.table.groups.counts()
        named = sum(count for group, count in groups.items() if group)
        return {
            "classes": shortened(f"{name} {count:,}" for name, count in self.counts().items()),
            "splits": self._split_counts,
            "groups": f"{len(set(groups) - {''}):,} of {named:,} samples" if named else "none",
            "pictures": str(self.root),
            **({"columns": shortened(self.table.further)} if self.table.further else {}),
        }

    @property
    def _split_counts(self) -> str:
        return shortened(f"{name or 'none'} {n:,}" for name, n in self.table.splits.counts().items())

    def __repr__(self) -> str:
        """Return one line; the samples are left to whoever asks for them."""
        known = f"{len(self):,} samples, {len(self.classes.labels)} classes"
        return f"<Manifest: {known}; {self._split_counts}; {self.where}>"

    def _repr_html_(self) -> str:
        first = [tuple(Cell(text) for text in sample) for sample in self.samples[:SHOWN]]
        notes = () if len(self) <= SHOWN else (f"The first {SHOWN} of {len(self):,} samples.",)
        table = Table(title="Samples", header=COLUMNS, rows=tuple(first), notes=notes)
        return facts_html(f"Manifest: {len(self):,} samples", self._facts(), table)

    @property
    def table(self) -> Samples:
        """The samples as columns."""
        assert isinstance(self.samples, Samples)
        return self.samples

    @property
    def further(self) -> dict[str, npt.NDArray[np.float64]]:
        """Title of a column of numbers to these, (n,), NaN where nothing is known: `au.12`, `va.valence`, `time_s`."""
        return {title: numbers.values for title, numbers in self.table.further.items()}

    def with_further(self, columns: Mapping[str, npt.ArrayLike]) -> Manifest:
        """The same samples with these columns of numbers, (n,) each, in place of those that they have."""
        found = {title: Numbers(np.asarray(numbers, np.float64)) for title, numbers in columns.items()}
        for title, numbers in found.items():
            if len(numbers) != len(self):
                raise ManifestError(
                    f"{self.where}: column {title!r} must have a number for each of {len(self):,} samples, however: "
                    f"{len(numbers):,}"
                )
        return replace(self, samples=self.table.but(further=found))

    def without_targets(self) -> Manifest:
        """The same samples without action units, valence and arousal, which then are in a table apart."""
        further = {title: one for title, one in self.table.further.items() if not is_target(title)}
        return replace(self, samples=self.table.but(further=further))

    def known_texts(self) -> list[str]:
        """Say of how many samples columns of numbers know something: `2 action units of 3 of 4 samples (au.1, …)`."""
        return known_texts(self.further)

    @functools.cached_property
    def ids(self) -> tuple[str, ...]:
        """Sample ids in manifest order."""
        return tuple(self.table.ids)

    @functools.cached_property
    def ids_digest(self) -> str:
        """sha256 in hex of the ids in their order, by which samples are dealt into shards and parts."""
        return self.table.ids.sha256()

    @functools.cached_property
    def split_of_each(self) -> tuple[str, ...]:
        """Split of each sample."""
        return tuple(self.table.splits)

    @functools.cached_property
    def group_of_each(self) -> tuple[str, ...]:
        """Group of each sample; its own id where it has none."""
        return tuple(group or name for group, name in zip(self.table.groups, self.ids, strict=True))

    @functools.cached_property
    def y(self) -> npt.NDArray[np.int64]:
        """Class index of each sample, shape (n,); -1 where there is no label."""
        position = {label: i for i, label in enumerate(self.classes.labels)}
        found = self.table.labels.numbered(lambda label: position.get(label, -1))
        found.flags.writeable = False
        return found

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that occur, in order of first appearance."""
        return tuple(self.table.splits.counts())

    def at(self, root: Path | str | None) -> Manifest:
        """The same samples with paths that start at `root`; itself for None.

        Raises
        ------
        ManifestError
            If there is nothing at that place.
        """
        if root is None:
            return self
        moved = replace(self, root=_existing(root))
        object.__setattr__(moved, "source", self.source)
        return moved

    def counts(self, split: str | None = None) -> dict[str, int]:
        """Samples per class, in class order."""
        labels = self.table.labels
        if split is not None:
            labels = labels.take(np.flatnonzero(self.table.splits.numbered(lambda word: word == split)))
        found = labels.counts()
        return {label: found[label] for label in self.classes.labels}

    def select(self, split: str | None) -> Manifest:
        """The samples of one split, in order; all of them for None."""
        if split is None:
            return self
        if split not in self.splits:
            known = nearest(split, self.splits) if any(self.splits) else "no sample has a split"
            raise ManifestError(f"no sample of {self.where} is in split {split!r}; {known}")
        return self.keep(self.table.splits.numbered(lambda word: word == split) == 1)

    def keep(self, mask: Iterable[bool]) -> Manifest:
        """The samples whose mask is true, in order."""
        return self.rows(where_true(mask, len(self)))

    def rows(self, at: IntArray) -> Manifest:
        """The samples at these positions, in this order."""
        lines = tuple(map(self.lines.__getitem__, at.tolist())) if self.lines else ()
        return replace(self, samples=self.table.take(at), lines=lines)

    @classmethod
    def read(cls, path: Path | str, *, root: Path | str | None = None, forget_splits: bool = False) -> Manifest:
        """Read a manifest and, if there is one, the JSON file beside it (classes in order, picture root).

        Parameters
        ----------
        path : Path
            CSV with a header, or a Parquet file (which needs pyarrow); `sample_id` and `path` are required, `label`,
            `split` and `group` optional, and so are columns of numbers (`cer_fusion.featstore.manifests.targets`).
        root : Path, optional
            Where the pictures' paths start; overrides the JSON file. Without either: the folder of the CSV.
        forget_splits : bool
            Leave every sample without a split, to split anew; then no group can stand in two.

        Raises
        ------
        ManifestError
            With file and line.
        """
        fields, source = _read_fields(Path(path), root)
        if forget_splits:
            found = fields["samples"]
            fields["samples"] = found.but(splits=Words.blank(len(found)))
        read = cls(**fields)
        if not forget_splits:
            object.__setattr__(read, "source", source)
        return read

    @classmethod
    def read_with_crossing(
        cls, path: Path | str, *, root: Path | str | None = None
    ) -> tuple[Manifest, dict[str, tuple[str, ...]]]:
        """Read a manifest even if groups stand in two splits, to look at what is wrong with it.

        Returns
        -------
        Manifest
            Samples of such groups have no group in it.
        dict
            Each such group and the splits that it stands in.
        """
        fields, _ = _read_fields(Path(path), root)
        table = fields["samples"]
        pairs = np.stack([table.groups.numbers, table.splits.numbers], axis=1)
        splits: dict[str, dict[str, None]] = {}
        different, first = np.unique(pairs, axis=0, return_index=True)
        for group, split in different[np.argsort(first)].tolist():
            if table.groups.words[group]:
                splits.setdefault(table.groups.words[group], {})[table.splits.words[split]] = None
        crossing = {group: tuple(found) for group, found in splits.items() if len(found) > 1}
        if crossing:
            fields["samples"] = table.but(groups=table.groups.renamed(dict.fromkeys(crossing, "")))
        return cls(**fields), crossing

    def write(self, path: Path | str, *, sealed: bool = False, overwrite: bool = True) -> None:
        """Write the CSV and, beside it, the JSON file with the class order and the picture root.

        Parameters
        ----------
        path : Path
            Of the CSV; the JSON file has its name with another ending.
        sealed : bool
            Bind the CSV to the JSON file, as a store does: a CSV that was changed or damaged later is then refused.
            Without it people may edit the CSV.
        overwrite : bool
            Replace a manifest that is there; without it, either file that is there is left as it is.

        Raises
        ------
        OutputExistsError
            Without `overwrite`, if either name is taken.
        """
        path = Path(path)
        if path.suffix.lower() in (".parquet", ".pq"):
            raise ManifestError(f"{path}: manifests are written as CSV: write it to {path.with_suffix('.csv')}")
        files.make_folder(path.parent)
        header, *blocks = self._csv_blocks()
        data = b"".join([header, *blocks])
        root = _portable(self.root, path.parent)
        beside = Sidecar(classes=self.classes, root=root, origin=self.origin)
        if sealed and len(blocks) > 1:
            sums = sums_to_text(self.table.ids)
            where = Blocks.of(header, blocks, len(self), self.ids_digest, sums, tuple(self.table.further))
            beside = replace(beside, blocks=where, source=self.source)
        del blocks
        if overwrite:
            write_with_sidecar(path, data, beside, sealed=sealed)
        else:
            write_new_with_sidecar(path, data, beside)

    def to_csv(self) -> str:
        """The CSV text, with `\\n` line ends."""
        return b"".join(self._csv_blocks()).decode()

    def _csv_blocks(self) -> Iterator[bytes]:
        """The CSV's header, and its samples, `BLOCK_ROWS` at a time."""
        yield _header(self.table.further)
        yield from self.table.csv_blocks(BLOCK_ROWS)


@dataclass(frozen=True, kw_only=True)
class SealedManifest:
    """The large manifest of a dataset in a store, of which some samples can be read without the others."""

    path: Path
    sidecar: Sidecar

    @classmethod
    def open(cls, path: Path) -> SealedManifest | None:
        """Open a store's CSV; None of one that is read whole: a small one, or one of an older release."""
        sidecar = read_sealed_sidecar(path)
        return None if sidecar is None else cls(path=path, sidecar=sidecar)

    def is_made_from(self, file: Path, root: Path | str | None) -> bool:
        """Whether reading this manifest's file, with pictures below `root`, would give the same."""
        source = read_source(file) if self.sidecar.source else None
        if source is None or source[0] != self.sidecar.source:
            return False
        return os.path.realpath(file.parent / source[1] if root is None else root) == os.path.realpath(self.root)

    def __len__(self) -> int:
        return self.blocks.samples

    @property
    def blocks(self) -> Blocks:
        """Where its samples stand."""
        assert self.sidecar.blocks is not None
        return self.sidecar.blocks

    @property
    def ids_digest(self) -> str:
        """As that of a `Manifest`."""
        return self.blocks.ids_sha256

    @property
    def ids_sums(self) -> str:
        """What hashes of the ids add up to."""
        return self.blocks.ids_sums

    def keys(self, samples: range) -> Keys:
        """Hashes of the ids of the samples at these positions, (2, n); raises FormatError as `rows` does."""
        numbers = range(samples.start // BLOCK_ROWS, -(-samples.stop // BLOCK_ROWS))
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            found = np.concatenate([np.empty((2, 0), np.uint64), *pool.map(self._keys_of_block, numbers)], axis=1)
        first = numbers.start * BLOCK_ROWS
        return found[:, samples.start - first : samples.stop - first]

    def _keys_of_block(self, number: int) -> Keys:
        plain = keys_of_first_cells(self.blocks.read(self.path, number))
        if plain is not None:
            return plain
        start = number * BLOCK_ROWS
        return keys_of(self.rows(np.arange(start, min(start + BLOCK_ROWS, len(self)))).table.ids)

    @property
    def where(self) -> str:
        """What error messages call it."""
        return str(self.path)

    @property
    def root(self) -> Path:
        """Where the paths of the pictures start."""
        return self.path.parent / self.sidecar.root

    def rows(self, at: IntArray) -> Manifest:
        """The samples at these ascending positions; only the blocks that they stand in are read.

        Raises
        ------
        FormatError
            If these are not the bytes that were sealed.
        """
        header = _header(self.blocks.columns)
        number_of = at // BLOCK_ROWS
        found = []
        for number in np.unique(number_of).tolist():
            samples, _ = _parse_rows(header + self.blocks.read(self.path, number), self.path)
            found.append(samples.take(at[number_of == number] - number * BLOCK_ROWS))
        return Manifest(
            samples=Samples.joined(found),
            classes=self.sidecar.classes,
            root=self.root,
            origin=self.sidecar.origin,
            where=self.where,
        )


def _header(further: Iterable[str]) -> bytes:
    return (",".join((*COLUMNS, *map(quoted, further))) + "\n").encode()


def where_true(mask: Iterable[bool], count: int) -> npt.NDArray[np.int64]:
    """Return the positions at which a mask of so many samples is true.

    Raises
    ------
    FeatstoreError
        If it is not one truth value for each of them: positions would be read as a mask, a short mask as a part.
    """
    given = np.asarray(mask if hasattr(mask, "__len__") else list(mask))
    if given.shape != (count,) or (count and given.dtype != bool):
        found = f"shape {given.shape}, dtype {given.dtype}"
        raise FeatstoreError(
            f"a mask must be one truth value for each of {count:,} samples, however: {found}\n"
            "  of positions: mask = np.isin(np.arange(n), positions)"
        )
    return np.flatnonzero(given).astype(np.int64, copy=False)


def has_controls(text: str) -> bool:
    """True for a text that holds control or invisible characters, line separators, or bytes that are not UTF-8."""
    return not text.isprintable() and any(unicodedata.category(letter) in _CONTROLS for letter in text)


def _portable(root: Path, folder: Path) -> str:
    """The root relative to the manifest's folder when it lies inside, so that both can move together."""
    root, folder = root.absolute(), folder.absolute()
    if not is_utf8(str(root)):
        raise ManifestError(f"the pictures' folder {str(root)!r} has a name that is not UTF-8: rename it")
    return os.path.relpath(root, folder) if root.is_relative_to(folder) else str(root)


def _read_fields(path: Path, root: Path | str | None) -> tuple[dict[str, Any], str]:
    """What a manifest is made of, not yet checked, and what it was read from if it is a large one."""
    data, sidecar = read_with_sidecar(path)
    samples, lines = _parse_rows(data, path)
    if sidecar is None or not sidecar.csv_sha256:  # people may have written it
        samples = _as_meant(samples, lines, path, None if sidecar is None else sidecar.classes)
    if sidecar is not None:
        classes = sidecar.classes
    else:
        classes = found_classes(samples.labels)
        if classes.labels:
            log.info("%s has no class list beside it: classes are its labels in alphabetical order", path)
    stored_root = path.parent / sidecar.root if sidecar is not None else path.parent
    source = ""
    if len(samples) > BLOCK_ROWS:
        if sidecar is not None and sidecar.csv_sha256:
            source = sidecar.source
        else:
            source = Sidecar.source_of(hashlib.sha256(data).hexdigest(), sidecar)
    return {
        "samples": samples,
        "classes": classes,
        "root": Path(root) if root is not None else stored_root,
        "origin": {} if sidecar is None else sidecar.origin,
        "where": str(path),
        "lines": lines,
    }, source


def _as_meant(samples: Samples, lines: Sequence[int], path: Path, declared: ClassSet | None) -> Samples:
    """Samples as whoever wrote the table means their cells; what is not taken literally is told."""
    labels, notes = read_labels(samples.labels, declared, lines, ours=declared is not None)
    splits, groups = samples.splits, samples.groups
    if declared is None:  # a list beside the CSV is of ours, and so are the words in it
        splits, of_splits = read_splits(splits, lines, others=False)
        groups, of_groups = read_groups(groups, lines)
        notes += [*of_splits, *of_groups, *id_notes(samples.ids, lines)]
    for note in notes:
        log.warning("%s: %s", path, note)
    return samples.but(labels=labels, splits=splits, groups=groups)


def _existing(root: Path | str) -> Path:
    """A root that was named: a folder, an archive, or a place inside one."""
    root = Path(root)
    if not root.exists() and inside_archive(root) is None:
        raise ManifestError(
            f"there is nothing at {root}, where the paths of the pictures are to start\n"
            f"  name their folder or archive with --root"
        )
    return root


def _parse_rows(data: bytes, path: Path) -> tuple[Samples, Sequence[int]]:
    if is_parquet(data):
        columns, _ = parquet_columns(data, path, _KINDS, required=COLUMNS[:2])
        if not len(columns["path"]):
            raise ManifestError(f"{path} has columns but no samples: there is nothing to embed or to learn from")
        return _of_columns(columns), ()
    plain = plain_columns(data, _KINDS, COLUMNS[:2])
    if plain is not None:
        samples = _of_columns(plain)
        return samples, range(2, len(samples) + 2)
    table = parse_table(data, path, required=COLUMNS[:2], optional=COLUMNS[2:], typed=True)
    if not table.rows:
        raise ManifestError(f"{path} has a header but no samples: there is nothing to embed or to learn from")
    with many_objects():
        cells = {name: table.column(name) or () for name in table.header}
        found: dict[str, Any] = {name: _KINDS[name].of(cells[name]) for name in COLUMNS if name in cells}
        for title in cells.keys() - set(COLUMNS):
            found[title], note = read_numbers(Words.of(cells[title]), title, path, table.lines)
            if note:
                log.warning("%s: %s", path, note)
        return _of_columns(found), tuple(table.lines)


def _of_columns(columns: Mapping[str, Any]) -> Samples:
    """The samples that these columns hold; those that are not there are empty."""
    ids, paths = (columns[name] for name in COLUMNS[:2])
    labels, splits, groups = (columns.get(name) or Words.blank(len(ids)) for name in COLUMNS[2:])
    further = {name: columns[name] for name in columns if name not in COLUMNS}
    return Samples(ids, paths, labels, splits, groups, further)


def _with_numbers(manifest: Manifest) -> Samples:
    """The samples with their columns of numbers in order, once these have been checked."""
    table = manifest.table
    further = checked_numbers(
        table.further, manifest.classes.labels, where=manifest.where, place=lambda i: _place(manifest, i)
    )
    return table.but(further=further)


def _check_samples(manifest: Manifest) -> None:
    """Look for each fault over whole columns first, which is quick, and for the place only where there is one."""
    table = manifest.table
    repeat = table.ids.first_repeat()
    if repeat is not None:
        i, first = repeat
        sample_id, other = table.ids[i], _place(manifest, first)
        hint = "\n  a spreadsheet rounded it: import ids as text there" if looks_rounded(sample_id) else ""
        raise ManifestError(f"{_place(manifest, i)}: sample_id {sample_id!r} stands twice, first at {other}{hint}")
    empty = [at for column in (table.ids, table.paths) if (at := column.first_empty()) is not None]
    if empty:
        raise ManifestError(f"{_place(manifest, min(empty))}: sample_id and path must not be empty")
    if not table.ids.whole().isprintable():
        for i, sample_id in enumerate(table.ids):
            if has_controls(sample_id) and is_utf8(sample_id):
                raise ManifestError(f"{_place(manifest, i)}: sample_id {sample_id!r} holds control characters")
    for name, column in zip(COLUMNS, table.columns, strict=True):
        at, wrong = next(column.odd(), (-1, ""))
        if at >= 0 and not is_utf8(wrong):
            raise ManifestError(
                f"{_place(manifest, at)}: {name} {wrong!r} holds bytes that are no UTF-8 text\n"
                f"  rename the file, for a whole folder: convmv -f cp1252 -t utf-8 -r --notest FOLDER"
            )
        if at >= 0:
            raise ManifestError(
                f"{_place(manifest, at)}: {name} {wrong!r} begins or ends with a blank, which no file brings back: "
                f"strip it"
            )
    known = {"", *manifest.classes.labels}
    for label in table.labels.counts():  # those that no sample has any more are none of its labels
        if label not in known:
            i = next(i for i, found in enumerate(table.labels) if found == label)
            try:
                manifest.classes.index(label)
            except ClassSetError as error:
                raise ManifestError(f"{_place(manifest, i)}: {error}") from None
    _check_groups(manifest)


def _check_groups(manifest: Manifest) -> None:
    table = manifest.table
    groups, splits = table.groups.numbers, table.splits.numbers
    _, first = np.unique(groups, return_index=True)
    of_group = np.zeros(len(table.groups.words), np.int64)
    of_group[groups[first]] = first
    named = table.groups.numbered(bool).astype(bool)
    crossing = np.flatnonzero(named & (splits != splits[of_group[groups]])) if len(groups) else first
    if len(crossing):
        i = int(crossing[0])
        seen = int(of_group[groups[i]])
        raise ManifestError(
            f"{_place(manifest, i)}: group {table.groups[i]!r} stands in two splits, {table.splits[seen]!r} and "
            f"{table.splits[i]!r} (first at {_place(manifest, seen)})\n"
            f"  a video or subject in two splits leaks; give all its rows one split"
        )


def _place(manifest: Manifest, i: int) -> str:
    return f"{manifest.where}:{manifest.lines[i]}" if manifest.lines else f"{manifest.where}, sample {i}"
