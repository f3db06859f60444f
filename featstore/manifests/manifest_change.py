"""What a new manifest changes in a dataset: told in numbers, and refused where it looks like an accident."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cer_fusion.featstore.errors import ManifestError, listing
from cer_fusion.featstore.manifests.manifest import Manifest, Sample
from cer_fusion.featstore.pictures.pictures import PictureSource

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


def change_of(
    dataset: str, old: Manifest | None, new: Manifest, *, made_from: Callable[[], Mapping[str, str]]
) -> ManifestChange:
    """Compare a dataset's manifest with a new one.

    Parameters
    ----------
    old : Manifest, optional
        None if there is none.
    made_from : callable
        sample_id to the sha256 of the picture that a row was made from, for pictures that are not at their old place.
    """
    if old is None or old is new:
        return ManifestChange(
            dataset=dataset, given=new.where, before=None if old is None else len(old), after=len(new)
        )
    before = {sample.sample_id: sample for sample in old.samples}
    pairs = [(before[s.sample_id], s) for s in new.samples if s.sample_id in before]
    left = before.keys() - set(new.ids)
    moved = os.path.abspath(old.root) != os.path.abspath(new.root)
    elsewhere = [(a, b) for a, b in pairs if moved or a.path != b.path]
    looked_at, differ = _compared(elsewhere, old, new, made_from)
    return ManifestChange(
        dataset=dataset,
        given=new.where,
        before=len(old),
        after=len(new),
        added=len(new) - len(pairs),
        removed=tuple(sample_id for sample_id in old.ids if sample_id in left),
        other_labels=sum(a.label != b.label for a, b in pairs),
        other_splits=sum(a.split != b.split for a, b in pairs),
        other_groups=sum(a.group != b.group for a, b in pairs),
        other_paths=len(elsewhere),
        classes=(old.classes.labels, new.classes.labels),
        looked_at=looked_at,
        differ=differ,
    )


def _compared(
    pairs: list[tuple[Sample, Sample]], old: Manifest, new: Manifest, made_from: Callable[[], Mapping[str, str]]
) -> tuple[int, int]:
    """How many of some pictures with other paths could be compared, and how many of these differ."""
    at_old, at_new, rows = PictureSource(old.root), PictureSource(new.root), None
    looked_at = differ = 0
    for a, b in pairs[:: max(1, len(pairs) // _LOOKED_AT)][:_LOOKED_AT]:
        if os.path.abspath(old.root / a.path) == os.path.abspath(new.root / b.path):
            continue
        now, then = _digest(at_new, b.path), _digest(at_old, a.path)
        if now and not then:
            rows = made_from() if rows is None else rows
            then = rows.get(a.sample_id, "")
        if now and then:
            looked_at += 1
            differ += now != then
    return looked_at, differ


def _digest(source: PictureSource, path: str) -> str:
    with contextlib.suppress(OSError):
        return source.digest(path)
    return ""
