"""Several manifests as one: with the same classes, or mapped onto one class set."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cer_fusion.featstore.errors import ManifestError, listing
from cer_fusion.featstore.manifests.class_sets import ClassSet
from cer_fusion.featstore.manifests.manifest import Manifest, Sample
from cer_fusion.featstore.manifests.relabelling import relabelled

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Union:
    """The manifest, and what each source gave to it."""

    manifest: Manifest
    left_out: dict[str, dict[str, int]]
    """Source to reason to number of samples."""
    counts: dict[str, dict[str, int]]
    """Source to class to number of samples."""


def union(manifests: Mapping[str, Manifest], classes: ClassSet) -> Union:
    """Map several manifests onto one class set; ids and groups begin with the source's name, `rafdb/train_00001`.

    Parameters
    ----------
    manifests : dict of name to Manifest
    classes : ClassSet
        Labels that mean the same are mapped, samples of others are left out and counted.

    Raises
    ------
    ManifestError
        If a manifest has no label of these classes.
    """
    mapped: dict[str, Manifest] = {}
    left_out: dict[str, dict[str, int]] = {}
    for name, manifest in manifests.items():
        mapped[name], left_out[name] = relabelled(manifest, classes)
    joined = merge(mapped, classes, prefix=True)
    return Union(
        manifest=joined, left_out=left_out, counts={name: manifest.counts() for name, manifest in mapped.items()}
    )


def merge(manifests: Mapping[str, Manifest], classes: ClassSet | None = None, *, prefix: bool = False) -> Manifest:
    """Join manifests of equal classes, in order; paths start at the folder that all their roots are below.

    Parameters
    ----------
    manifests : dict of name to Manifest
    classes : ClassSet, optional
        Default: those of the first; all must have the same labels in the same order.
    prefix : bool
        Begin ids and groups with the manifest's name. Without it, ids must differ, and groups of one name are one.

    Raises
    ------
    ManifestError
        For different classes, or an id that two manifests have.
    """
    names = list(manifests)
    chosen = classes or manifests[names[0]].classes
    for name in names:
        if manifests[name].classes.labels != chosen.labels:
            raise ManifestError(
                f"{names[0]} and {name} have different classes ({chosen.name}, {manifests[name].classes.name})\n"
                f"  map them onto one set with: cer-feat manifest unity … --map-to NAME"
            )
    twice = [i for i, count in Counter(i for m in manifests.values() for i in m.ids).items() if count > 1]
    if twice and not prefix:
        raise ManifestError(
            f"{len(twice):,} sample ids stand in more than one manifest: {listing(twice)}\n"
            f"  begin ids with their manifest's name with --prefix"
        )
    roots = {name: manifest.root.resolve() for name, manifest in manifests.items()}
    root = _common(list(roots.values()))
    samples: list[Sample] = []
    for name, manifest in manifests.items():
        below = roots[name].relative_to(root).as_posix()
        start = "" if below == "." else below + "/"
        begin = f"{name}/" if prefix else ""
        samples += [
            s._replace(sample_id=begin + s.sample_id, path=start + s.path, group=s.group and begin + s.group)
            for s in manifest.samples
        ]
    origin = _joined_origin({name: manifest.origin for name, manifest in manifests.items()})
    return Manifest(samples=tuple(samples), classes=chosen, root=root, origin=origin, where=" + ".join(names))


def _joined_origin(origins: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What made the pictures of all: frames made in the same way are one entry; what differs otherwise is told."""
    joined: dict[str, Any] = {}
    for name, origin in origins.items():
        for key, value in origin.items():
            if key == "frames" and isinstance(value, list) and isinstance(joined.get(key, []), list):
                joined[key] = _joined_ways([*joined.get(key, []), *value])
            elif key not in joined:
                joined[key] = value
            elif joined[key] != value:
                log.warning("the origins of the manifests differ in %r; that of %s is left out", key, name)
    without = [name for name, origin in origins.items() if not origin]
    if joined and without:
        log.warning("what made the pictures of %s is not known; the origin is that of the others", ", ".join(without))
    return joined


def _joined_ways(ways: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ways of making frames, those that differ only in their videos as one, unless they disagree on a video."""
    found: list[dict[str, Any]] = []
    for way in ways:
        videos = way.get("videos", {})
        for known in found:
            others = known.get("videos", {})
            if {**known, "videos": None} == {**way, "videos": None} and all(
                others[video] == videos[video] for video in others.keys() & videos.keys()
            ):
                known["videos"] = {**others, **videos}
                break
        else:
            found.append(dict(way))
    return found


def _common(roots: list[Path]) -> Path:
    """The folder that all roots are below; an archive is below its folder."""
    if len(set(roots)) == 1:
        return roots[0]
    try:
        common = Path(os.path.commonpath(roots))
    except ValueError:  # two drives on Windows
        raise ManifestError(f"pictures on different drives cannot stand in one manifest: {roots}") from None
    return common.parent if common.is_file() else common
