"""What the adapters share: how one becomes a kind of dataset, their result, and how they count what they leave out.

An adapter is a function with `@adapter("name", "its layout")` in a file of this folder, or anywhere that is imported:
`(root, *, options) -> Adapted`. Nearly all take `encoding`, which is `Tree`'s.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ...errors import ClassSetError, ManifestError, listing
from ..class_sets import ClassSet, not_classes
from ..manifest import Manifest, Sample
from .tree import Tree

Reader = TypeVar("Reader", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A manifest, and what did not make it into it."""

    manifest: Manifest
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason to number of samples."""
    missing: tuple[str, ...] = ()
    """Ids of the samples in the manifest whose pictures are not there."""
    notes: tuple[str, ...] = ()
    """What was assumed where the layout leaves something open, and what else a user should know."""


class Kind(NamedTuple):
    """A layout that can be read."""

    read: Callable[..., Adapted]
    layout: str
    """In a few words, for help."""
    renames_to: str | None = None
    """The class set that its labels are renamed into unless another is asked for."""
    plugin: Mapping[str, str] | None = None
    """Distribution and version, where another distribution reads it; kept with the manifest."""
    targets: Callable[..., int] | None = None
    """Writes what the dataset says beside classes to a table apart, ``(root, manifest, path, *, overwrite, …)``, its
    reader's options too; returns of how many samples there is something."""


KINDS: dict[str, Kind] = {}
"""Every kind of dataset by its name."""


def adapter(kind: str, layout: str, *, renames_to: str | None = None) -> Callable[[Reader], Reader]:
    """Make a function the reader of a kind of dataset; see `Kind`."""

    def register(read: Reader) -> Reader:
        KINDS[kind] = Kind(read, layout, renames_to)
        return read

    return register


def targets_of(*kinds: str) -> Callable[[Reader], Reader]:
    """Make a function the one that writes further targets of kinds whose readers are there; see `Kind.targets`."""

    def register(write: Reader) -> Reader:
        for kind in kinds:
            KINDS[kind] = KINDS[kind]._replace(targets=write)
        return write

    return register


def with_targets(adapted: Adapted, columns: Sequence[str], rows: Mapping[str, Sequence[float]]) -> Adapted:
    """What an adapter found, with further columns of its manifest.

    Parameters
    ----------
    adapted : Adapted
    columns : sequence of t str
        As a manifest calls them, such as ``au.12``.
    rows : dict of sample_id to t numbers
        NaN where something is not known, as of samples that are left out.
    """
    manifest = adapted.manifest
    values = np.full((len(manifest), len(columns)), np.nan)
    for i, name in enumerate(manifest.table.ids):
        if (row := rows.get(name)) is not None:
            values[i] = row
    further = {**manifest.further, **dict(zip(columns, values.T, strict=True))}
    return replace(adapted, manifest=manifest.with_further(further))


class Gathering:
    """Samples as an adapter finds them, with their places and with what is left out.

    Parameters
    ----------
    tree : Tree
        Where the pictures are.
    classes : ClassSet
        The dataset's own classes.
    """

    def __init__(self, tree: Tree, classes: ClassSet) -> None:
        self._tree = tree
        self._classes = classes
        self._not_classes = not_classes(classes.name)
        self._samples: list[Sample] = []
        self._lines: list[int] = []
        self.left_out: Counter[str] = Counter()

    def label(self, text: str, where: str) -> str | None:
        """The label of an official id; None, and counted, for an id that the dataset says is no class.

        Raises
        ------
        ManifestError
            For anything else, with the place.
        """
        match = re.fullmatch(r"(-?[0-9]{1,3})(?:[.,]0+)?", text)  # int() would take 1_0 and ٣ too
        if match is None:
            raise ManifestError(f"{where}: expected the number of a class, however: {text[:40]!r}")
        number = int(match[1])
        if number in self._not_classes:
            self.left_out[f"{self._not_classes[number]} ({number})"] += 1
            return None
        try:
            return self._classes.from_id(number)
        except ClassSetError as error:
            raise ManifestError(f"{where}: {error}") from None

    def add(self, sample: Sample, line: int | None = None) -> None:
        """Take a sample, which may know more (`Sample.knowing`); `line`: where it stands in the file that lists it."""
        self._samples.append(sample)
        if line is not None:
            self._lines.append(line)

    def adapted(
        self, expected: str, *, where: str = "", notes: Iterable[str] = (), written: Path | None = None
    ) -> Adapted:
        """The result.

        Parameters
        ----------
        expected : str
            What is told if nothing was found.
        where : str
            The file that lists the samples, for messages.
        notes : iterable of str
        written : Path, optional
            The zip file that all pictures were written to; they are looked for there.
        """
        tree = self._tree
        odd = {"link, device, or name that leads out of the archive": tree.odd} if tree.odd else {}
        left_out = {**self.left_out, **odd, **tree.left_out}
        found = need_samples(self._samples, tree.root, expected, left_out, tree.notes)
        missing = () if written else tuple(sample.sample_id for sample in found if sample.path not in tree)
        told = [*notes, *tree.notes, *_twice(tree, [sample.path for sample in found])]
        if missing and tree.archives():
            told.append(
                f"{len(tree.archives()):,} archives among the files are not looked into: {listing(tree.archives())}\n"
                f"  if they hold the missing pictures, unpack them where they are"
            )
        if written:
            told.append(f"wrote the pictures to {written}")
        return Adapted(
            manifest=Manifest(
                samples=tuple(sample._replace(path=tree.path(sample.path)) for sample in found),
                classes=self._classes,
                root=written or tree.start,
                where=where or str(tree.root),
                lines=tuple(self._lines) if len(self._lines) == len(found) else (),
            ),
            left_out=left_out,
            missing=missing,
            notes=tuple(told),
        )


def need_samples(
    samples: Iterable[Sample],
    root: Path,
    expected: str,
    left_out: dict[str, int] | None = None,
    notes: Iterable[str] = (),
) -> tuple[Sample, ...]:
    """All samples as a tuple, or an error that says what was expected."""
    found = tuple(samples)
    if not found:
        reasons = "".join(f"\n  left out: {count:,} × {reason}" for reason, count in (left_out or {}).items())
        told = "".join(f"\n  {note}" for note in notes)
        raise ManifestError(f"no samples under {root}\n  expected {expected}{reasons}{told}")
    return found


def _twice(tree: Tree, paths: Iterable[str]) -> list[str]:
    """What to say where pictures are one and the same file by way of links."""
    groups = tree.reached_twice(paths)
    if not groups:
        return []
    return [
        f"{len(groups):,} pictures are reached more than once, through links: "
        f"{listing(' = '.join(group) for group in groups)}\n"
        f"  keep the first of each with --repeats first; a picture in train and test makes a score too good"
    ]


def named_number(text: str) -> tuple[str, str] | None:
    """The name and the whole number of a line of a list, `0001.jpg 3`; None for any other line.

    Between them stand blanks, tabs, a comma, a semicolon or a bar; either may be quoted, the number be `3.0`, and what
    separates may stand at the end too.
    """
    match = _NAMED_NUMBER.fullmatch(text.strip())
    return None if match is None else (match["quoted"] or match["name"], match["number"] or match["other"])


_NAMED_NUMBER = re.compile(
    r"""(?:"(?P<quoted>[^"]+)"|(?P<name>[^\s,;|"]+))"""
    r"""(?:\s*,\s*"?(?P<number>[0-9]{1,3})(?:\.0+)?|(?:\s*[;|]\s*|\s+)"?(?P<other>[0-9]{1,3})(?:[.,]0+)?)"?[\s,;|]*"""
)


def tail(path: str, count: int) -> str:
    """The last parts of a path, `a/b/c` and 2 are `b/c`."""
    return "/".join(path.split("/")[-count:])
