"""Which split each sample stands in, and which stay: every class alike, groups and repeated pictures whole.

The same samples and seed always give the same splits.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..errors import ManifestError
from .columns import Words
from .manifest import Manifest


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
    for members in _units(manifest, together):
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
    return _given(manifest, [split if i in held else "train" for i in range(len(manifest))])


def split_by_shares(
    manifest: Manifest, shares: Mapping[str, float], *, together: Sequence[Sequence[int]] = (), seed: int = 0
) -> Manifest:
    """Give every sample one of the splits, so that each holds about its share of every class.

    Units (groups, or single samples) are taken in a random order, large ones first, and each goes where its classes
    lack most of what they should have. For single samples every class then differs by less than one from its share.

    Parameters
    ----------
    manifest : Manifest
        Splits that it has already are forgotten.
    shares : dict of split to share
        All above 0, 1 in sum.
    together : sequence of sequences of positions
        Samples that must not be parted, besides those of a group: repeats of one picture.
    seed : int
        The same samples and seed give the same splits, whatever the order of the rows.

    Raises
    ------
    ManifestError
        For shares that are no shares, fewer units than splits, and a split that would be empty.
    """
    _check_shares(shares)
    units = sorted(_units(manifest, together), key=lambda unit: min(manifest.ids[i] for i in unit))
    if len(units) < len(shares):
        raise ManifestError(
            f"{manifest.where} has {len(units)} groups (or samples without one): they cannot fill {len(shares)} splits"
        )
    random.Random(seed).shuffle(units)
    units.sort(key=len, reverse=True)  # stable: units of one size stay in their random order
    of_label = Counter(sample.label for sample in manifest.samples)
    lacking = {split: {label: share * n for label, n in of_label.items()} for split, share in shares.items()}
    chosen = [""] * len(manifest)
    for unit in units:
        labels = Counter(manifest.samples[i].label for i in unit)
        split = max(lacking, key=lambda s: (_need(lacking[s], labels, of_label), sum(lacking[s].values())))
        for label, n in labels.items():
            lacking[split][label] -= n
        for i in unit:
            chosen[i] = split
    for split in shares:
        if split not in chosen:
            raise ManifestError(
                f"a share of {shares[split]:g} is no whole sample (or group) of any class of {manifest.where}: split "
                f"{split!r} would be empty"
            )
    return _given(manifest, chosen)


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


def _units(manifest: Manifest, together: Sequence[Sequence[int]]) -> list[list[int]]:
    """Part the positions into the smallest sets that neither a group nor `together` crosses, in manifest order."""
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


def _given(manifest: Manifest, splits: Sequence[str]) -> Manifest:
    return replace(manifest, samples=manifest.table.but(splits=Words.of(splits)))


def _need(lacking: Mapping[str, float], labels: Mapping[str, int], of_label: Mapping[str, int]) -> float:
    """How much a split lacks of the classes of a unit, each as a share of all its samples."""
    return sum(n * lacking[label] / of_label[label] for label, n in labels.items())


def _check_shares(shares: Mapping[str, float]) -> None:
    told = ", ".join(f"{split}={share:g}" for split, share in shares.items())
    if len(shares) < 2 or not all(share > 0 for share in shares.values()):
        raise ManifestError(f"shares must name two splits at least, each above 0, however: {told}")
    if not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise ManifestError(f"shares must be 1 in sum, however: {told}, which is {sum(shares.values()):g}")
