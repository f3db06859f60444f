"""The list of samples: which picture, which label, which split, which group."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from featstore import document, files
from featstore.class_sets import ClassSet, custom
from featstore.errors import ClassSetError, FormatError, ManifestError, nearest

COLUMNS = ("sample_id", "path", "label", "split", "group")
FORMAT, FORMAT_VERSION = "cer-manifest", 1
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One row of a manifest."""

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

    @property
    def ids(self) -> tuple[str, ...]:
        """Sample ids in manifest order."""
        return tuple(sample.sample_id for sample in self.samples)

    @property
    def y(self) -> npt.NDArray[np.int64]:
        """Class index of each sample, shape (n,); -1 where there is no label."""
        position = {label: i for i, label in enumerate(self.classes.labels)}
        return np.array([position.get(sample.label, -1) for sample in self.samples], dtype=np.int64)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that occur, in order of first appearance."""
        return tuple(dict.fromkeys(sample.split for sample in self.samples))

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
        return self.keep([sample.split == split for sample in self.samples])

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
            samples=tuple(samples),
            classes=classes,
            root=Path(root) if root is not None else stored_root or path.parent,
            where=str(path),
            lines=tuple(lines),
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
        writer.writerows((s.sample_id, s.path, s.label, s.split, s.group) for s in self.samples)
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


def _read_rows(path: Path) -> tuple[list[Sample], list[int]]:
    samples, lines = [], []
    for line, row in read_table(path, required=("sample_id", "path"), optional=("label", "split", "group")):
        samples.append(Sample(**row))
        lines.append(line)
    if not samples:
        raise ManifestError(f"{path} has a header but no samples: there is nothing to embed or to learn from")
    return samples, lines


def read_table(
    path: Path, *, required: Sequence[str], optional: Sequence[str] = (), others: bool = False
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, row) of a CSV file; BOM, CRLF and blank lines are handled, ragged rows refused.

    Raises
    ------
    ManifestError
        With file and line; also for columns that are not known, unless `others` allows them.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ManifestError(
            f"no such manifest: {path}\n  make one with: cer-feat manifest KIND ROOT -o {path}"
        ) from None
    except IsADirectoryError:
        raise ManifestError(f"{path} is a folder, a manifest is a CSV file: cer-feat manifest folder {path}") from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8 text (byte {error.start}): save it as CSV UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = next((row for row in reader if any(cell.strip() for cell in row)), None)
        if header is None:
            raise ManifestError(f"{path} is empty: expected a header such as {','.join(COLUMNS)}")
        header = [cell.strip() for cell in header]
        _check_header(header, path, required, (*required, *optional), others)
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise ManifestError(f"{path}:{reader.line_num}: expected {len(header)} fields, however: {len(row)}")
            yield reader.line_num, {name: cell.strip() for name, cell in zip(header, row, strict=True)}
    except csv.Error as error:
        raise ManifestError(f"{path}:{reader.line_num}: not valid CSV: {error}") from None


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
    labels = set(manifest.classes.labels)
    first: dict[str, int] = {}
    split_of: dict[str, int] = {}
    for i, sample in enumerate(manifest.samples):
        where = _place(manifest, i)
        if not sample.sample_id or not sample.path:
            raise ManifestError(f"{where}: sample_id and path must not be empty")
        if not sample.sample_id.isprintable():
            raise ManifestError(f"{where}: sample_id {sample.sample_id!r} holds control characters")
        if sample.sample_id in first:
            other = _place(manifest, first[sample.sample_id])
            raise ManifestError(f"{where}: sample_id {sample.sample_id!r} stands twice, first at {other}")
        first[sample.sample_id] = i
        if sample.label and sample.label not in labels:
            try:
                manifest.classes.index(sample.label)
            except ClassSetError as error:
                raise ManifestError(f"{where}: {error}") from None
        if sample.group:
            seen = manifest.samples[split_of.setdefault(sample.group, i)]
            if seen.split != sample.split:
                raise ManifestError(
                    f"{where}: group {sample.group!r} stands in two splits, {seen.split!r} and {sample.split!r} "
                    f"(first at {_place(manifest, split_of[sample.group])})\n"
                    f"  a video or subject in two splits leaks; give all its rows one split"
                )


def _place(manifest: Manifest, i: int) -> str:
    return f"{manifest.where}:{manifest.lines[i]}" if manifest.lines else f"{manifest.where}, sample {i}"
