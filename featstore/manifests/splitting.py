"""Making a held-out split where a dataset has none, and keeping repeated pictures on one side."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.manifest import Manifest


def hold_out(
    manifest: Manifest,
    share: float,
    *,
    seed: int = 0,
    split: str = "test",
    together: Sequence[Sequence[int]] = (),
) -> Manifest:
    """Move about `share` of every class into `split`, whole groups at a time; the rest becomes `train`.

    Parameters
    ----------
    share : float
        Between 0 and 1.
    seed : int
        Same manifest and seed, same split.
    together : sequence of sequences of int
        Positions that must not be parted although no group says so: repeated pictures, as `pictures.repeats` finds.

    Raises
    ------
    ManifestError
        If the manifest is split already, or a class has only one group and cannot stand on both sides.
    """
    if not 0 < share < 1:
        raise ManifestError(f"the held-out share must lie between 0 and 1, however: {share}")
    if manifest.splits != ("",):
        raise ManifestError(f"{manifest.where} is split already: {', '.join(filter(None, manifest.splits))}")
    by_label: dict[str, list[list[int]]] = {}
    for members in _inseparable(manifest, together):
        by_label.setdefault(manifest.samples[members[0]].label, []).append(members)
    held: set[int] = set()
    for label in sorted(by_label):
        candidates = by_label[label]
        if len(candidates) < 2:
            raise ManifestError(f"class {label!r} has one sample or group: it cannot stand in train and in {split}")
        random.Random(f"{seed}/{label}").shuffle(candidates)
        wanted = share * sum(map(len, candidates))
        for position, members in enumerate(candidates[:-1]):
            if position and wanted < len(members) / 2:
                break
            held.update(members)
            wanted -= len(members)
    samples = tuple(sample._replace(split=split if i in held else "train") for i, sample in enumerate(manifest.samples))
    return replace(manifest, samples=samples)


def _inseparable(manifest: Manifest, together: Sequence[Sequence[int]]) -> list[list[int]]:
    """Part the positions into the smallest sets that neither a group nor `together` crosses."""
    sets: dict[str, list[int]] = {}
    for i, sample in enumerate(manifest.samples):
        sets.setdefault(sample.group or f"\0{sample.sample_id}", []).append(i)
    set_of = {i: members for members in sets.values() for i in members}
    for positions in together:
        first = set_of[positions[0]]
        for i in positions[1:]:
            if (other := set_of[i]) is not first:
                first.extend(other)
                set_of.update(dict.fromkeys(other, first))
    return list({id(members): sorted(members) for members in set_of.values()}.values())


def thin(manifest: Manifest, n: int, *, seed: int = 0) -> Manifest:
    """Keep about n samples, the same share of every class and split, at least one of each; order stays."""
    if n < 1:
        raise ManifestError(f"cannot keep {n} samples: name at least 1")
    strata: dict[tuple[str, str], list[int]] = {}
    for i, sample in enumerate(manifest.samples):
        strata.setdefault((sample.split, sample.label), []).append(i)
    share = min(1.0, n / max(1, len(manifest)))
    kept: set[int] = set()
    for key, members in strata.items():
        rng = random.Random(f"{seed}/{key[0]}/{key[1]}")
        kept.update(rng.sample(members, max(1, round(share * len(members)))))
    return manifest.keep([i in kept for i in range(len(manifest))])


def keep_first(manifest: Manifest, repeated: Sequence[Sequence[int]]) -> Manifest:
    """Drop every repeat of a picture but its first occurrence in manifest order."""
    later = {i for positions in repeated for i in sorted(positions)[1:]}
    return manifest.keep([i not in later for i in range(len(manifest))])
