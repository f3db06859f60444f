"""What is wrong with a manifest or a picture it lists, and what a new one changes in a dataset.

A change is told in numbers, and refused where it looks like an accident.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import ManifestError, listing
from ..pictures import pictures
from ..pictures.pictures import PictureSource
from ..rows.keys import keys_of, positions_in
from .columns import Numbers, Samples
from .manifest import Manifest, Sample


class Look(NamedTuple):
    """What a picture is like."""

    width: int
    height: int
    mode: str
    """As whoever opened it calls it: `L`, `RGB`, …"""


Looking = Callable[[bytes], Look]
"""Opens a picture's bytes; raises ValueError if they are none."""
MadeFrom = Callable[[Sequence[str]], Mapping[str, str]]
"""Given sample ids: of those that have a row, the sha256 of the picture that it was made from."""


@dataclass(frozen=True, kw_only=True)
class ManifestReport:
    """What a check found."""

    manifest: Manifest
    unreadable: dict[str, str]
    """sample_id to reason: missing, permission denied, …"""
    unusable: dict[str, str]
    """sample_id to reason: the file is there but no usable picture."""
    repeated: list[list[str]]
    """Ids of samples whose pictures are the same bytes, one list a picture."""
    across_splits: list[list[str]]
    """Those of `repeated` that stand in more than one split."""
    two_labels: list[list[str]]
    """Those of `repeated` that have more than one label."""
    crossing_groups: dict[str, tuple[str, ...]]
    """Groups (videos, subjects) that stand in more than one split, with the splits."""
    sizes: dict[str, int]
    """`48 x 48` (width x height, pixels) to the number of samples, the most frequent first."""
    modes: dict[str, int]
    """Pixel mode to the number of samples, the most frequent first."""

    @property
    def unlearnt(self) -> list[str]:
        """Classes that occur in another split but never in `train`."""
        if "train" not in self.manifest.splits:
            return []
        learnt = self.manifest.counts("train")
        return [label for label, count in self.manifest.counts().items() if count and not learnt[label]]

    @property
    def imbalance(self) -> float | None:
        """Samples of the largest class in `train` (or in all) over those of the smallest that occurs; None without."""
        counts = [n for n in self.manifest.counts("train" if "train" in self.manifest.splits else None).values() if n]
        return max(counts) / min(counts) if counts else None

    def faults(self) -> Iterator[str]:
        """What makes results wrong, each with what to do."""
        if self.unreadable:
            yield (
                f"{len(self.unreadable):,} pictures cannot be read: {_with_reasons(self.unreadable)}\n"
                f"  paths start at {self.manifest.root}: put the pictures there, name another place with --root, or "
                f"leave them out with: cer-feat manifest filter … readable"
            )
        if self.unusable:
            yield f"{len(self.unusable):,} files are no usable pictures: {_with_reasons(self.unusable)}"
        if self.across_splits:
            yield (
                f"{len(self.across_splits):,} pictures stand in more than one split, so scores flatter: "
                f"{_with_others(self.across_splits)}\n"
                f"  keep the first of each with: cer-feat manifest filter … distinct"
            )
        if self.two_labels:
            yield f"{len(self.two_labels):,} pictures have more than one label: {_with_others(self.two_labels)}"
        if self.crossing_groups:
            first = [
                f"{group} ({', '.join(s or 'no split' for s in sp)})" for group, sp in self.crossing_groups.items()
            ]
            yield (
                f"{len(self.crossing_groups):,} groups stand in more than one split: {listing(first)}\n"
                f"  split again, whole groups at a time, with: cer-feat manifest split … --again"
            )
        if self.unlearnt:
            yield f"no sample of split train has the label {listing(self.unlearnt)}: nothing can learn it"

    def notes(self) -> Iterator[str]:
        """What a user should know besides."""
        within = len(self.repeated) - len(self.across_splits)
        if self.repeated:
            extra = sum(len(ids) - 1 for ids in self.repeated)
            yield (
                f"{len(self.repeated):,} pictures occur more than once ({extra:,} repeats), {within:,} of them within "
                f"one split"
            )
        if self.imbalance is not None:
            yield f"the largest class has {self.imbalance:,.1f} times the samples of the smallest"
        yield from self.manifest.known_texts()
        if not any(self.manifest.table.groups.counts()) and not self.crossing_groups:
            yield "no sample has a group: whether a subject or a video stands in two splits cannot be seen"

    @property
    def _known(self) -> dict[str, int]:
        """Title of a column of numbers to how many samples it says something of."""
        return {title: int((~np.isnan(one)).sum()) for title, one in self.manifest.further.items()}

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        manifest = self.manifest
        return {
            "manifest": manifest.where,
            "samples": len(manifest),
            "classes": manifest.classes.name,
            "counts": {split: manifest.select(split).counts() for split in manifest.splits},
            "unlabelled": manifest.table.labels.counts()[""],
            "unreadable": self.unreadable,
            "unusable": self.unusable,
            "repeated": self.repeated,
            "across_splits": self.across_splits,
            "two_labels": self.two_labels,
            "crossing_groups": self.crossing_groups,
            "unlearnt": self.unlearnt,
            "imbalance": self.imbalance,
            **({"columns": self._known} if manifest.table.further else {}),
            "sizes": self.sizes,
            "modes": self.modes,
            "faults": list(self.faults()),
        }


def check_manifest(
    path: Path,
    *,
    root: Path | None = None,
    looking: Looking | None = None,
    workers: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> ManifestReport:
    """Read a manifest and every picture it lists, once.

    Parameters
    ----------
    path : Path
        Of the manifest.
    root : Path, optional
        Where the pictures' paths start, instead of what the manifest says.
    looking : callable, optional
        Opens a picture, for sizes and modes and to tell what is none. Called from several threads.
    progress : callable (done, total), optional

    Raises
    ------
    ManifestError, FormatError
        If the file cannot be taken as a manifest at all: repeated ids, unknown labels, …
    """
    manifest, crossing = Manifest.read_with_crossing(path, root=root)
    done = 0

    def count(n: int) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(done, len(manifest))

    def one(data: bytes) -> tuple[str, Look | str | None]:
        digest = hashlib.sha256(data).hexdigest()
        try:
            return digest, looking(data) if looking is not None else None
        except ValueError as error:
            return digest, pictures.reason_of(error)

    found, unreadable = pictures.each(manifest, one, workers=workers, progress=count)
    looks = [look for _, look in filter(None, found) if isinstance(look, Look)]
    ids = manifest.ids
    groups = pictures.repeats(manifest, [one[0] if one else "" for one in found])
    labels = tuple(manifest.table.labels)
    return ManifestReport(
        manifest=manifest,
        unreadable=unreadable,
        unusable={ids[i]: one[1] for i, one in enumerate(found) if one is not None and isinstance(one[1], str)},
        repeated=_named(ids, groups),
        across_splits=_named(ids, pictures.across_splits(manifest, groups)),
        two_labels=_named(ids, [group for group in groups if len({labels[i] for i in group}) > 1]),
        crossing_groups=crossing,
        sizes=dict(Counter(f"{look.width} x {look.height}" for look in looks).most_common()),
        modes=dict(Counter(look.mode for look in looks).most_common()),
    )


def _named(ids: tuple[str, ...], groups: list[list[int]]) -> list[list[str]]:
    return [[ids[i] for i in group] for group in groups]


def _with_reasons(found: dict[str, str]) -> str:
    return listing(f"{sample_id} ({reason})" for sample_id, reason in found.items())


def _with_others(groups: list[list[str]]) -> str:
    return listing(" = ".join(ids) for ids in groups)


_LOOKED_AT = 20
"""Pictures that are compared where paths changed; spread over the manifest."""


@dataclass(frozen=True, kw_only=True)
class ManifestChange:
    """A dataset's manifest against the one that is to become it."""

    dataset: str
    given: str
    """What error messages call the new one."""
    before: int | None
    """Samples before; None if the dataset has no manifest yet, or none that can be read."""
    after: int
    added: int = 0
    removed: tuple[str, ...] = field(default=(), repr=False)
    """Sample ids that are gone."""
    other_labels: int = 0
    other_splits: int = 0
    other_groups: int = 0
    other_paths: int = 0
    """Samples whose picture has another path, or whose paths start elsewhere."""
    other_targets: int = 0
    """Samples of which a column of numbers says something else, or one alone says anything."""
    classes: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    """In order, before and after."""
    looked_at: int = 0
    """Pictures that were compared because they have other paths."""
    differ: int = 0
    """Those of them that are others, not the same ones in another place."""
    unreadable: str = ""
    """Why the present manifest cannot be read; empty if it can."""

    def counts(self) -> dict[str, int]:
        """How many samples came, went, or changed, by column."""
        kinds = ("labels", "splits", "groups", "paths")
        changed = {f"other_{kind}": int(getattr(self, f"other_{kind}")) for kind in kinds}
        changed |= {"other_targets": self.other_targets} if self.other_targets else {}
        return {"added": self.added, "removed": len(self.removed), **changed}

    @property
    def text(self) -> str:
        """`20 added, 3 other labels`; empty where nothing changed."""
        said = [f"{count:,} {kind.replace('_', ' ')}" for kind, count in self.counts().items() if count]
        before, after = self.classes
        if before != after and self.before is not None:
            said.append(f"classes {', '.join(before) or 'none'} -> {', '.join(after) or 'none'}")
        return ", ".join(said)

    def check(self) -> None:
        """Refuse what looks like another dataset, or a part of this one, under the same name.

        Raises
        ------
        ManifestError
            If samples are removed, the pictures are others, the classes stand in another order, or the present
            manifest cannot be read, so that nobody knows.
        """
        why = self._why_not()
        if why:
            raise ManifestError(
                f"{why}\n"
                f"  to keep both, give the new one a name of its own: --dataset NAME\n"
                f"  to make it the manifest of {self.dataset!r} all the same: --replace-manifest (rows stay; those of "
                f"samples that are gone are not used)"
            )

    def _why_not(self) -> str:
        if self.unreadable:
            return f"whether {self.given} removes samples of dataset {self.dataset!r} is not known: {self.unreadable}"
        if self.removed:
            return (
                f"dataset {self.dataset!r} has {self.before:,} samples, and {len(self.removed):,} of them are not "
                f"among the {self.after:,} of {self.given} (first: {listing(self.removed)})"
            )
        if self.differ * 2 > self.looked_at:
            return (
                f"{self.given} lists other pictures under the sample ids of dataset {self.dataset!r}: {self.differ} of "
                f"{self.looked_at} that were compared differ"
            )
        before, after = (tuple(x for x in one if x in other) for one, other in (self.classes, self.classes[::-1]))
        if before != after:
            return (
                f"the classes of {self.given} stand in another order than those of dataset {self.dataset!r}: expected "
                f"{', '.join(before)}, however: {', '.join(after)}\n"
                f"  without the JSON file beside a CSV its labels are taken in alphabetical order"
            )
        return ""


def change_of(dataset: str, old: Manifest | None, new: Manifest, *, made_from: MadeFrom) -> ManifestChange:
    """Compare a dataset's manifest with a new one.

    Parameters
    ----------
    old : Manifest, optional
        None if there is none.
    made_from : callable
        Asked, once at most, about a few samples whose pictures are not at their old place.
    """
    if old is None or old is new:
        return ManifestChange(
            dataset=dataset, given=new.where, before=None if old is None else len(old), after=len(new)
        )
    keys = keys_of(old.table.ids)
    order = np.argsort(keys[0])
    found = positions_in(keys[:, order], keys_of(new.table.ids))
    at_new = np.flatnonzero(found >= 0)
    at_old = order[found[at_new]]
    left = np.ones(len(old), bool)
    left[at_old] = False
    a, b = old.table.take(at_old), new.table.take(at_new)
    moved = os.path.abspath(old.root) != os.path.abspath(new.root)
    elsewhere = np.flatnonzero(a.paths.differs(b.paths) | moved)
    some = elsewhere[:: max(1, len(elsewhere) // _LOOKED_AT)][:_LOOKED_AT].tolist()
    looked_at, differ = _compared([(a[i], b[i]) for i in some], old, new, made_from)
    return ManifestChange(
        dataset=dataset,
        given=new.where,
        before=len(old),
        after=len(new),
        added=len(new) - len(at_new),
        removed=tuple(old.table.ids.take(np.flatnonzero(left))),
        other_labels=int(a.labels.differs(b.labels).sum()),
        other_splits=int(a.splits.differs(b.splits).sum()),
        other_groups=int(a.groups.differs(b.groups).sum()),
        other_paths=len(elsewhere),
        other_targets=_other_numbers(a, b),
        classes=(old.classes.labels, new.classes.labels),
        looked_at=looked_at,
        differ=differ,
    )


def _other_numbers(a: Samples, b: Samples) -> int:
    """Of how many samples further columns say something else."""
    nothing = Numbers.unknown(len(a))
    titles = a.further.keys() | b.further.keys()
    other = np.zeros(len(a), bool)
    for title in titles:
        other |= a.further.get(title, nothing).differs(b.further.get(title, nothing))
    return int(other.sum())


def _compared(
    pairs: list[tuple[Sample, Sample]],
    old: Manifest,
    new: Manifest,
    made_from: MadeFrom,
) -> tuple[int, int]:
    """How many of some pictures with other paths could be compared, and how many of these differ."""
    at_old, at_new = PictureSource(old.root), PictureSource(new.root)
    looked = [
        (a.sample_id, now, _digest(at_old, a.path))
        for a, b in pairs
        if os.path.abspath(old.root / a.path) != os.path.abspath(new.root / b.path) and (now := _digest(at_new, b.path))
    ]
    gone = [sample_id for sample_id, _, then in looked if not then]
    rows = made_from(gone) if gone else {}
    known = [(now, then or rows.get(sample_id, "")) for sample_id, now, then in looked]
    return sum(bool(then) for _, then in known), sum(bool(then) and now != then for now, then in known)


def _digest(source: PictureSource, path: str) -> str:
    with contextlib.suppress(OSError):
        return source.digest(path)
    return ""
