"""The list of samples: which picture, which label, which split, which group."""

from __future__ import annotations

import contextlib
import csv
import functools
import gc
import io
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from featstore import document, files
from featstore.class_sets import ClassSet, custom
from featstore.errors import ClassSetError, FormatError, ManifestError, nearest

COLUMNS = ("sample_id", "path", "label", "split", "group")
FORMAT, FORMAT_VERSION = "cer-manifest", 1
log = logging.getLogger(__name__)


class Sample(NamedTuple):
    """One row of a manifest (a named tuple: a manifest may hold a million of them)."""

    sample_id: str
    """Unique in the manifest; what rows of features are joined on."""
    path: str
    """The picture, relative to the manifest's root; may lead into a zip file (`faces.zip/a/1.png`)."""
    label: str = ""
    """Class name, or empty for a sample without a label."""
    split: str = ""
    """`train`, `valid`, `test` or any word; empty if the data is not split."""
    group: str = ""
    """Video or subject; rows of one group never stand in two splits. Empty: the sample stands alone."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Samples in order, the classes their labels are from, and the folder their paths start at.

    Raises
    ------
    ManifestError
        For repeated or empty ids, labels outside the class set, and groups that stand in two splits.
    """

    samples: tuple[Sample, ...]
    classes: ClassSet
    root: Path
    where: str = field(default="manifest", compare=False)
    """What error messages call this manifest."""
    lines: tuple[int, ...] = field(default=(), compare=False, repr=False)
    """Line of each sample in the file it was read from."""

    def __post_init__(self) -> None:
        _check_samples(self)

    def __len__(self) -> int:
        return len(self.samples)

    @functools.cached_property
    def ids(self) -> tuple[str, ...]:
        """Sample ids in manifest order."""
        return tuple(sample.sample_id for sample in self.samples)

    @functools.cached_property
    def split_of_each(self) -> tuple[str, ...]:
        """Split of each sample."""
        return tuple(sample.split for sample in self.samples)

    @functools.cached_property
    def group_of_each(self) -> tuple[str, ...]:
        """Group of each sample; its own id where it has none."""
        return tuple(sample.group or sample.sample_id for sample in self.samples)

    @functools.cached_property
    def y(self) -> npt.NDArray[np.int64]:
        """Class index of each sample, shape (n,); -1 where there is no label."""
        position = {label: i for i, label in enumerate(self.classes.labels)}
        found = np.array([position.get(sample.label, -1) for sample in self.samples], dtype=np.int64)
        found.flags.writeable = False
        return found

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that occur, in order of first appearance."""
        return tuple(dict.fromkeys(self.split_of_each))

    def counts(self, split: str | None = None) -> dict[str, int]:
        """Samples per class, in class order."""
        found = Counter(s.label for s in self.samples if split is None or s.split == split)
        return {label: found[label] for label in self.classes.labels}

    def select(self, split: str | None) -> Manifest:
        """The samples of one split, in order; all of them for None."""
        if split is None:
            return self
        if split not in self.splits:
            raise ManifestError(f"no sample of {self.where} is in split {split!r}; {nearest(split, self.splits)}")
        return self.keep([found == split for found in self.split_of_each])

    def keep(self, mask: Iterable[bool]) -> Manifest:
        """The samples whose mask is true, in order."""
        chosen = [i for i, wanted in enumerate(mask) if wanted]
        return replace(
            self,
            samples=tuple(self.samples[i] for i in chosen),
            lines=tuple(self.lines[i] for i in chosen) if self.lines else (),
        )

    @classmethod
    def read(cls, path: Path | str, *, root: Path | str | None = None) -> Manifest:
        """Read a manifest CSV and, if there is one, the JSON file beside it (classes in order, picture root).

        Parameters
        ----------
        path : Path
            CSV with a header; `sample_id` and `path` are required, `label`, `split` and `group` optional.
        root : Path, optional
            Where the pictures' paths start; overrides the JSON file. Without either: the folder of the CSV.

        Raises
        ------
        ManifestError
            With file and line.
        """
        path = Path(path)
        samples, lines = _read_rows(path)
        classes, stored_root = _read_companion(path)
        if classes is None:
            classes = custom(sorted({s.label for s in samples} - {""}))
            if classes.labels:
                log.info("%s has no class list beside it: classes are its labels in alphabetical order", path)
        return cls(
            samples=samples,
            classes=classes,
            root=Path(root) if root is not None else stored_root or path.parent,
            where=str(path),
            lines=lines,
        )

    def write(self, path: Path | str) -> None:
        """Write the CSV and, beside it, the JSON file with the class order and the picture root."""
        path = Path(path)
        companion = path.with_suffix(".json")
        if companion.exists():
            document.read(companion, FORMAT, FORMAT_VERSION)  # never overwrite somebody else's file
        files.make_folder(path.parent)
        classes = {"name": self.classes.name, "labels": list(self.classes.labels), "first_id": self.classes.first_id}
        body = {"classes": classes, "root": _portable(self.root, path.parent)}
        document.write(companion, FORMAT, FORMAT_VERSION, body)
        files.replace(path, self.to_csv().encode())

    def to_csv(self) -> str:
        """The CSV text, with `\\n` line ends."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(self.samples)
        return out.getvalue()


def _portable(root: Path, folder: Path) -> str:
    """The root relative to the manifest's folder when it lies inside, so that both can move together."""
    root, folder = root.absolute(), folder.absolute()
    return os.path.relpath(root, folder) if root.is_relative_to(folder) else str(root)


def _read_companion(path: Path) -> tuple[ClassSet | None, Path | None]:
    companion = path.with_suffix(".json")
    if not companion.exists():
        return None, None
    body = document.read(companion, FORMAT, FORMAT_VERSION)
    try:
        entry = body["classes"]
        classes = ClassSet(name=entry["name"], labels=tuple(entry["labels"]), first_id=entry["first_id"])
        return classes, path.parent / body["root"]
    except (KeyError, TypeError) as error:
        raise FormatError(f"{companion} lacks a field of a {FORMAT}: {error}") from None


def _read_rows(path: Path) -> tuple[tuple[Sample, ...], tuple[int, ...]]:
    table = read_table(path, required=COLUMNS[:2], optional=COLUMNS[2:])
    if not table.rows:
        raise ManifestError(f"{path} has a header but no samples: there is nothing to embed or to learn from")
    blank = [""] * len(table.rows)
    columns = [table.column(name) or blank for name in COLUMNS]
    make = functools.partial(tuple.__new__, Sample)  # Sample._make without the check that zip does
    with _many_objects():
        return tuple(map(make, zip(*columns, strict=True))), tuple(table.lines)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A CSV file's rows of equal length, and the line that each ends on."""

    header: list[str]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str] | None:
        """The cells of a column; None if there is no such column."""
        if name not in self.header:
            return None
        at = self.header.index(name)
        return [row[at].strip() for row in self.rows]


def read_table(path: Path, *, required: Sequence[str], optional: Sequence[str] = (), others: bool = False) -> Table:
    """Read a CSV file with a header; BOM, CRLF and blank lines are handled, ragged rows refused.

    Raises
    ------
    ManifestError
        With file and line; also for columns that are not known, unless `others` allows them.
    """
    reader = csv.reader(io.StringIO(_text(path), newline=""))
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        with _many_objects():
            for row in reader:
                if row and any(map(str.strip, row)):
                    rows.append(row)
                    lines.append(reader.line_num)
    except csv.Error as error:
        raise ManifestError(f"{path}:{reader.line_num}: not valid CSV: {error}") from None
    if not rows:
        raise ManifestError(f"{path} is empty: expected a header such as {','.join(COLUMNS)}")
    header = [cell.strip() for cell in rows[0]]
    _check_header(header, path, required, (*required, *optional), others)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise ManifestError(f"{path}:{line}: expected {len(header)} fields, however: {len(row)}")
    return Table(header=header, rows=rows[1:], lines=lines[1:])


@contextlib.contextmanager
def _many_objects() -> Iterator[None]:
    """Keep the garbage collector from walking over a growing million of objects again and again; none is garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ManifestError(f"no manifest {path}\n  make one with: cer-feat manifest KIND ROOT -o {path}") from None
    except IsADirectoryError:
        raise ManifestError(f"{path} is a folder, a manifest is a CSV file: cer-feat manifest folder {path}") from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8 text (byte {error.start}): save it as CSV UTF-8") from None


def _check_header(header: list[str], path: Path, required: Sequence[str], known: Sequence[str], others: bool) -> None:
    if len(set(header)) != len(header):
        raise ManifestError(f"{path}:1: a column stands twice: {', '.join(header)}")
    for name in required:
        if name not in header:
            raise ManifestError(
                f"{path}:1: no column {name!r} in the header ({', '.join(header)})\n"
                f"  map other names with: cer-feat manifest csv {path} --id-column … --path-column …"
            )
    if not others:
        for name in header:
            if name not in known:
                raise ManifestError(f"{path}:1: unknown column {name!r}; {nearest(name, known)}")


def _check_samples(manifest: Manifest) -> None:
    """Look for each fault over whole columns first, which is quick, and for the place only where there is one."""
    samples = manifest.samples
    ids = [sample.sample_id for sample in samples]
    if len(set(ids)) != len(ids):
        first: dict[str, int] = {}
        for i, sample_id in enumerate(ids):
            if first.setdefault(sample_id, i) != i:
                other = _place(manifest, first[sample_id])
                raise ManifestError(f"{_place(manifest, i)}: sample_id {sample_id!r} stands twice, first at {other}")
    for i, sample in enumerate(samples):
        if not sample.sample_id or not sample.path:
            raise ManifestError(f"{_place(manifest, i)}: sample_id and path must not be empty")
        if not sample.sample_id.isprintable():
            raise ManifestError(f"{_place(manifest, i)}: sample_id {sample.sample_id!r} holds control characters")
    unknown = {sample.label for sample in samples} - {"", *manifest.classes.labels}
    for i, sample in enumerate(samples if unknown else ()):
        if sample.label in unknown:
            try:
                manifest.classes.index(sample.label)
            except ClassSetError as error:
                raise ManifestError(f"{_place(manifest, i)}: {error}") from None
    _check_groups(manifest)


def _check_groups(manifest: Manifest) -> None:
    first: dict[str, int] = {}
    for i, sample in enumerate(manifest.samples):
        if not sample.group:
            continue
        seen = manifest.samples[first.setdefault(sample.group, i)]
        if seen.split != sample.split:
            raise ManifestError(
                f"{_place(manifest, i)}: group {sample.group!r} stands in two splits, {seen.split!r} and "
                f"{sample.split!r} (first at {_place(manifest, first[sample.group])})\n"
                f"  a video or subject in two splits leaks; give all its rows one split"
            )


def _place(manifest: Manifest, i: int) -> str:
    return f"{manifest.where}:{manifest.lines[i]}" if manifest.lines else f"{manifest.where}, sample {i}"
