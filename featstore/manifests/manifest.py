"""The list of samples: which picture, which label, which split, which group."""

from __future__ import annotations

import csv
import functools
import io
import logging
import operator
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...kit.table import Cell, Table, facts_html, shortened
from ...kit.text import many_objects
from ..errors import ClassSetError, ManifestError, nearest
from ..pictures.archives import inside_archive
from ..rows import files
from .class_sets import ClassSet, found_classes
from .csv_table import (
    id_notes,
    looks_rounded,
    parse_table,
    read_groups,
    read_labels,
    read_splits,
)
from .sidecar import (
    Sidecar,
    read_with_sidecar,
    write_new_with_sidecar,
    write_with_sidecar,
)

COLUMNS = ("sample_id", "path", "label", "split", "group")
SHOWN = 5
"""Samples that a notebook shows of a manifest."""
_CONTROLS = ("Cc", "Cf", "Cs", "Zl", "Zp")
log = logging.getLogger(__name__)


class Sample(NamedTuple):
    """One row of a manifest (a named tuple: a manifest may hold a million of them)."""

    sample_id: str
    """Unique in the manifest; what rows of features are joined on."""
    path: str
    """The picture, relative to the manifest's root; may lead into a zip or tar file (`faces.zip/a/1.png`)."""
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
    origin: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What made the pictures, where that is known, as JSON values: for people and programs, no part of any identity."""
    where: str = field(default="manifest", compare=False)
    """What error messages call this manifest."""
    lines: tuple[int, ...] = field(default=(), compare=False, repr=False)
    """Line of each sample in the file it was read from."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        _check_samples(self)

    def __len__(self) -> int:
        return len(self.samples)

    def _facts(self) -> dict[str, str]:
        named = sum(bool(sample.group) for sample in self.samples)
        groups = len({sample.group for sample in self.samples} - {""})
        return {
            "classes": shortened(f"{name} {count:,}" for name, count in self.counts().items()),
            "splits": shortened(f"{name or 'none'} {n:,}" for name, n in Counter(self.split_of_each).items()),
            "groups": f"{groups:,} of {named:,} samples" if groups else "none",
            "pictures": str(self.root),
        }

    def __repr__(self) -> str:
        """Return one line; the samples are left to whoever asks for them."""
        splits = self._facts()["splits"]
        return f"<Manifest: {len(self):,} samples, {len(self.classes.labels)} classes; {splits}; {self.where}>"

    def _repr_html_(self) -> str:
        first = [tuple(Cell(text) for text in sample) for sample in self.samples[:SHOWN]]
        notes = () if len(self) <= SHOWN else (f"The first {SHOWN} of {len(self):,} samples.",)
        table = Table(title="Samples", header=COLUMNS, rows=tuple(first), notes=notes)
        return facts_html(f"Manifest: {len(self):,} samples", self._facts(), table)

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

    def at(self, root: Path | str | None) -> Manifest:
        """The same samples with paths that start at `root`; itself for None.

        Raises
        ------
        ManifestError
            If there is nothing at that place.
        """
        return self if root is None else replace(self, root=_existing(root))

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
    def read(cls, path: Path | str, *, root: Path | str | None = None, forget_splits: bool = False) -> Manifest:
        """Read a manifest CSV and, if there is one, the JSON file beside it (classes in order, picture root).

        Parameters
        ----------
        path : Path
            CSV with a header; `sample_id` and `path` are required, `label`, `split` and `group` optional.
        root : Path, optional
            Where the pictures' paths start; overrides the JSON file. Without either: the folder of the CSV.
        forget_splits : bool
            Leave every sample without a split, to split anew; then no group can stand in two.

        Raises
        ------
        ManifestError
            With file and line.
        """
        fields = _read_fields(Path(path), root)
        if forget_splits:
            fields["samples"] = tuple(sample._replace(split="") for sample in fields["samples"])
        return cls(**fields)

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
        fields = _read_fields(Path(path), root)
        splits: dict[str, dict[str, None]] = {}
        for sample in fields["samples"]:
            if sample.group:
                splits.setdefault(sample.group, {})[sample.split] = None
        crossing = {group: tuple(found) for group, found in splits.items() if len(found) > 1}
        if crossing:
            fields["samples"] = tuple(s._replace(group="") if s.group in crossing else s for s in fields["samples"])
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
        files.make_folder(path.parent)
        data = self.to_csv().encode()
        root = _portable(self.root, path.parent)
        beside = Sidecar(classes=self.classes, root=root, origin=self.origin)
        if overwrite:
            write_with_sidecar(path, data, beside, sealed=sealed)
        else:
            write_new_with_sidecar(path, data, beside)

    def to_csv(self) -> str:
        """The CSV text, with `\\n` line ends."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(self.samples)
        return out.getvalue()


def has_controls(text: str) -> bool:
    """True for a text that holds control or invisible characters, line separators, or bytes that are not UTF-8."""
    return not text.isprintable() and any(unicodedata.category(letter) in _CONTROLS for letter in text)


def _portable(root: Path, folder: Path) -> str:
    """The root relative to the manifest's folder when it lies inside, so that both can move together."""
    root, folder = root.absolute(), folder.absolute()
    if not _is_utf8(str(root)):
        raise ManifestError(f"the pictures' folder {str(root)!r} has a name that is not UTF-8: rename it")
    return os.path.relpath(root, folder) if root.is_relative_to(folder) else str(root)


def _read_fields(path: Path, root: Path | str | None) -> dict[str, Any]:
    """What a manifest is made of, not yet checked."""
    data, sidecar = read_with_sidecar(path)
    samples, lines = _parse_rows(data, path)
    if sidecar is None or not sidecar.csv_sha256:  # people may have written it
        samples = _as_meant(samples, lines, path, None if sidecar is None else sidecar.classes)
    if sidecar is not None:
        classes = sidecar.classes
    else:
        classes = found_classes(s.label for s in samples)
        if classes.labels:
            log.info("%s has no class list beside it: classes are its labels in alphabetical order", path)
    stored_root = path.parent / sidecar.root if sidecar is not None else path.parent
    return {
        "samples": samples,
        "classes": classes,
        "root": Path(root) if root is not None else stored_root,
        "origin": {} if sidecar is None else sidecar.origin,
        "where": str(path),
        "lines": lines,
    }


def _as_meant(
    samples: tuple[Sample, ...], lines: tuple[int, ...], path: Path, declared: ClassSet | None
) -> tuple[Sample, ...]:
    """Samples as whoever wrote the table means their cells; what is not taken literally is told."""
    labels, notes = read_labels([s.label for s in samples], declared, lines, ours=declared is not None)
    splits, groups = [s.split for s in samples], [s.group for s in samples]
    if declared is None:  # a list beside the CSV is of ours, and so are the words in it
        splits, of_splits = read_splits(splits, lines, others=False)
        groups, of_groups = read_groups(groups, lines)
        notes += [*of_splits, *of_groups, *id_notes([s.sample_id for s in samples], lines)]
    for note in notes:
        log.warning("%s: %s", path, note)
    return tuple(
        s if (s.label, s.split, s.group) == cells else s._replace(label=cells[0], split=cells[1], group=cells[2])
        for s, cells in zip(samples, zip(labels, splits, groups, strict=True), strict=True)
    )


def _existing(root: Path | str) -> Path:
    """A root that was named: a folder, an archive, or a place inside one."""
    root = Path(root)
    if not root.exists() and inside_archive(root) is None:
        raise ManifestError(
            f"there is nothing at {root}, where the paths of the pictures are to start\n"
            f"  name their folder or archive with --root"
        )
    return root


def _parse_rows(data: bytes, path: Path) -> tuple[tuple[Sample, ...], tuple[int, ...]]:
    table = parse_table(data, path, required=COLUMNS[:2], optional=COLUMNS[2:])
    if not table.rows:
        raise ManifestError(f"{path} has a header but no samples: there is nothing to embed or to learn from")
    blank = [""] * len(table.rows)
    columns = [table.column(name) or blank for name in COLUMNS]
    make = functools.partial(tuple.__new__, Sample)  # Sample._make without the check that zip does
    with many_objects():
        return tuple(map(make, zip(*columns, strict=True))), tuple(table.lines)


def _check_samples(manifest: Manifest) -> None:
    """Look for each fault over whole columns first, which is quick, and for the place only where there is one."""
    samples = manifest.samples
    ids = [sample.sample_id for sample in samples]
    if len(set(ids)) != len(ids):
        first: dict[str, int] = {}
        for i, sample_id in enumerate(ids):
            if first.setdefault(sample_id, i) != i:
                other = _place(manifest, first[sample_id])
                hint = "\n  a spreadsheet rounded it: import ids as text there" if looks_rounded(sample_id) else ""
                raise ManifestError(
                    f"{_place(manifest, i)}: sample_id {sample_id!r} stands twice, first at {other}{hint}"
                )
    for i, sample in enumerate(samples):
        if not sample.sample_id or not sample.path:
            raise ManifestError(f"{_place(manifest, i)}: sample_id and path must not be empty")
        if has_controls(sample.sample_id):
            raise ManifestError(f"{_place(manifest, i)}: sample_id {sample.sample_id!r} holds control characters")
    for name, column in zip(COLUMNS, zip(*samples, strict=True), strict=False):
        if not _is_utf8("".join(column)):
            i = next(i for i, cell in enumerate(column) if not _is_utf8(cell))
            raise ManifestError(
                f"{_place(manifest, i)}: {name} {column[i]!r} holds bytes that are no UTF-8 text\n"
                f"  rename the file, for a whole folder: convmv -f cp1252 -t utf-8 -r --notest FOLDER"
            )
        if any(map(operator.ne, column, map(str.strip, column))):
            i = next(i for i, cell in enumerate(column) if cell != cell.strip())
            raise ManifestError(
                f"{_place(manifest, i)}: {name} {column[i]!r} begins or ends with a blank, which no file brings back: "
                f"strip it"
            )
    unknown = {sample.label for sample in samples} - {"", *manifest.classes.labels}
    for i, sample in enumerate(samples if unknown else ()):
        if sample.label in unknown:
            try:
                manifest.classes.index(sample.label)
            except ClassSetError as error:
                raise ManifestError(f"{_place(manifest, i)}: {error}") from None
    _check_groups(manifest)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of a file's name that are no text
        return False
    return True


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
