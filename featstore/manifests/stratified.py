"""Cutting a manifest into splits of chosen shares: every class alike, groups whole, the same for the same seed."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.manifest import Manifest


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
    _check(shares)
    units = _units(manifest, together)
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
    samples = tuple(sample._replace(split=split) for sample, split in zip(manifest.samples, chosen, strict=True))
    return replace(manifest, samples=samples)


def _need(lacking: Mapping[str, float], labels: Mapping[str, int], of_label: Mapping[str, int]) -> float:
    """How much a split lacks of the classes of a unit, each as a share of all its samples."""
    return sum(n * lacking[label] / of_label[label] for label, n in labels.items())


def _check(shares: Mapping[str, float]) -> None:
    told = ", ".join(f"{split}={share:g}" for split, share in shares.items())
    if len(shares) < 2 or not all(share > 0 for share in shares.values()):
        raise ManifestError(f"shares must name two splits at least, each above 0, however: {told}")
    if not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise ManifestError(f"shares must be 1 in sum, however: {told}, which is {sum(shares.values()):g}")


def _units(manifest: Manifest, together: Sequence[Sequence[int]]) -> list[list[int]]:
    """Positions that stay on one side, in an order that only the ids fix."""
    parent = list(range(len(manifest)))

    def top(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    groups: dict[str, list[int]] = {}
    for i, sample in enumerate(manifest.samples):
        if sample.group:
            groups.setdefault(sample.group, []).append(i)
    for joined in (*groups.values(), *together):
        for i in joined[1:]:
            parent[top(i)] = top(joined[0])
    units: dict[int, list[int]] = {}
    for i in sorted(range(len(manifest)), key=lambda i: manifest.samples[i].sample_id):
        units.setdefault(top(i), []).append(i)
    return list(units.values())
