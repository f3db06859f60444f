"""Looking at a manifest and at every picture it lists before anything is learnt from them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cer_fusion.featstore.errors import listing
from cer_fusion.featstore.manifests.manifest import Manifest
from cer_fusion.featstore.pictures import pictures


class Look(NamedTuple):
    """What a picture is like."""

    width: int
    height: int
    mode: str
    """As whoever opened it calls it: `L`, `RGB`, …"""


Looking = Callable[[bytes], Look]
"""Opens a picture's bytes; raises ValueError if they are none."""


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
        if not any(sample.group for sample in self.manifest.samples) and not self.crossing_groups:
            yield "no sample has a group: whether a subject or a video stands in two splits cannot be seen"

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        manifest = self.manifest
        return {
            "manifest": manifest.where,
            "samples": len(manifest),
            "classes": manifest.classes.name,
            "counts": {split: manifest.select(split).counts() for split in manifest.splits},
            "unlabelled": sum(not sample.label for sample in manifest.samples),
            "unreadable": self.unreadable,
            "unusable": self.unusable,
            "repeated": self.repeated,
            "across_splits": self.across_splits,
            "two_labels": self.two_labels,
            "crossing_groups": self.crossing_groups,
            "unlearnt": self.unlearnt,
            "imbalance": self.imbalance,
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
    labels = [sample.label for sample in manifest.samples]
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
