"""What there is to do: the pictures' digests, which samples are settled, and which rows can be taken over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.manifest import Manifest
from cer_fusion.featstore.pictures import pictures
from cer_fusion.featstore.rows.feature import RowIndex


@dataclass(frozen=True, kw_only=True)
class Survey:
    """State of a manifest against a feature, before a run."""

    digests: list[str] = field(repr=False)
    """sha256 of each sample's picture; empty where it cannot be read, and for samples that are others' work."""
    pending: list[bool] = field(repr=False)
    """True for samples of this run that still need a row or a quarantine entry."""
    failed: dict[str, str]
    """sample_id to reason, for samples known to have no usable picture."""
    unread: frozenset[str]
    """Those of `failed` whose picture could not be read, which is tried again by every run."""
    repeated: frozenset[str] = field(repr=False)
    """Digests that more than one sample has."""
    stored: dict[str, str] = field(repr=False)
    """Digest of a pending picture to a sample whose stored row was made from that very picture."""


def surveys(
    manifest: Manifest,
    indexes: Sequence[RowIndex],
    mine: Sequence[bool],
    *,
    readers: int,
    assume_unchanged: bool,
    retry_quarantined: bool = False,
    progress: Callable[[str, int, int], None],
) -> list[Survey]:
    """Hash the pictures of the samples that are `mine`, once, and compare with what each feature's rows were made from.

    Raises
    ------
    ManifestError
        If not one picture can be read: the root is wrong, and nothing should be changed.
    """
    made_from = [index.image_digests() for index in indexes]
    known = [made if assume_unchanged else {} for made in made_from]
    unread = [
        i
        for i, (sample_id, own) in enumerate(zip(manifest.ids, mine, strict=True))
        if own and not all(of_feature.get(sample_id) for of_feature in known)
    ]
    found, missing = _digests(manifest, unread, readers, progress)
    if missing and len(missing) == sum(mine):
        first = manifest.samples[unread[0]]
        raise ManifestError(
            f"none of the {len(missing)} pictures of {manifest.where} can be read "
            f"(first: {first.path}: {missing[first.sample_id]})\n"
            f"  looked under: {manifest.root}\n"
            f"  say where the pictures are with --root"
        )
    return [
        _survey(manifest, mine, index, made, of_feature, found, missing, retry_quarantined=retry_quarantined)
        for index, made, of_feature in zip(indexes, made_from, known, strict=True)
    ]


def _survey(
    manifest: Manifest,
    mine: Sequence[bool],
    index: RowIndex,
    made_from: dict[str, str],
    known: dict[str, str],
    found: dict[str, str],
    missing: dict[str, str],
    *,
    retry_quarantined: bool,
) -> Survey:
    """State of one feature, whose rows' own digests (`known`) count before those that were read for others."""
    digests = [
        known.get(sample_id) or found.get(sample_id, "") if own else ""
        for sample_id, own in zip(manifest.ids, mine, strict=True)
    ]
    pending: list[bool] = []
    failed: dict[str, str] = {}
    for sample_id, digest, own in zip(manifest.ids, digests, mine, strict=True):
        again = retry_quarantined and sample_id in index.quarantined and bool(digest)
        settled = not own or (not again and _is_settled(sample_id, digest, index, made_from))
        pending.append(not settled)
        if own and settled and sample_id in index.quarantined:
            failed[sample_id] = missing.get(sample_id) or index.quarantined[sample_id][1]
        elif not settled and sample_id in missing:
            failed[sample_id] = missing[sample_id]
    wanted = {digest for digest, todo in zip(digests, pending, strict=True) if todo and digest}
    return Survey(
        digests=digests,
        pending=pending,
        failed=failed,
        unread=frozenset(failed.keys() & missing.keys()),
        repeated=frozenset(digest for digest, count in Counter(digests).items() if digest and count > 1),
        stored={digest: sample_id for sample_id, digest in made_from.items() if digest in wanted},
    )


def _digests(
    manifest: Manifest, unread: Sequence[int], readers: int, progress: Callable[[str, int, int], None]
) -> tuple[dict[str, str], dict[str, str]]:
    """Digest by sample id of the pictures at these positions, and reason by sample id where one cannot be read."""
    if not unread:
        return {}, {}
    wanted = set(unread)
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        progress("hash", done, len(unread))

    left = manifest.keep(i in wanted for i in range(len(manifest)))
    found, missing = pictures.digests(left, workers=readers, progress=step)
    return dict(zip(left.ids, found, strict=True)), missing


def _is_settled(sample_id: str, digest: str, index: RowIndex, made_from: dict[str, str]) -> bool:
    if sample_id in index.quarantined:
        known, reason = index.quarantined[sample_id]
        return known == digest and not (digest and pictures.tells_of_reading(reason))
    if sample_id in made_from:  # a picture that is gone does not unsettle its row; verify --images reports it
        return not digest or made_from[sample_id] == digest
    return False
