"""What there is to do: the pictures' digests, which samples are settled, and which rows can be taken over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from featstore import pictures
from featstore.errors import ManifestError
from featstore.feature import RowIndex
from featstore.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Survey:
    """State of a manifest against a feature, before a run."""

    digests: list[str] = field(repr=False)
    """sha256 of each sample's picture; empty where it cannot be read, and for samples that are others' work."""
    pending: list[bool] = field(repr=False)
    """True for samples of this run that still need a row or a quarantine entry."""
    failed: dict[str, str]
    """sample_id to reason, for samples known to have no usable picture."""
    repeated: frozenset[str] = field(repr=False)
    """Digests that more than one sample has."""
    stored: dict[str, str] = field(repr=False)
    """Digest of a pending picture to a sample whose stored row was made from that very picture."""


def survey(
    manifest: Manifest,
    index: RowIndex,
    mine: Sequence[bool],
    *,
    readers: int,
    assume_unchanged: bool,
    progress: Callable[[str, int, int], None],
) -> Survey:
    """Hash the pictures of the samples that are `mine` and compare with what the feature's rows were made from.

    Raises
    ------
    ManifestError
        If not one picture can be read: the root is wrong, and nothing should be changed.
    """
    made_from = index.image_digests()
    digests, missing = _digests(manifest, mine, made_from if assume_unchanged else {}, readers, progress)
    if missing and len(missing) == sum(mine):
        first = next(sample for sample, own in zip(manifest.samples, mine, strict=True) if own)
        raise ManifestError(
            f"none of the {len(missing)} pictures of {manifest.where} can be read "
            f"(first: {first.path}: {missing[first.sample_id]})\n"
            f"  looked under: {manifest.root}\n"
            f"  say where the pictures are with --root"
        )
    pending: list[bool] = []
    failed: dict[str, str] = {}
    for sample_id, digest, own in zip(manifest.ids, digests, mine, strict=True):
        settled = not own or _is_settled(sample_id, digest, index, made_from)
        pending.append(not settled)
        if own and settled and sample_id in index.quarantined:
            failed[sample_id] = index.quarantined[sample_id][1]
        elif not settled and sample_id in missing:
            failed[sample_id] = missing[sample_id]
    wanted = {digest for digest, todo in zip(digests, pending, strict=True) if todo and digest}
    return Survey(
        digests=digests,
        pending=pending,
        failed=failed,
        repeated=frozenset(digest for digest, count in Counter(digests).items() if digest and count > 1),
        stored={digest: sample_id for sample_id, digest in made_from.items() if digest in wanted},
    )


def _digests(
    manifest: Manifest,
    mine: Sequence[bool],
    known: dict[str, str],
    readers: int,
    progress: Callable[[str, int, int], None],
) -> tuple[list[str], dict[str, str]]:
    """Digest of every picture of `mine`, read only where it is not known."""
    out = [known.get(sample_id, "") if own else "" for sample_id, own in zip(manifest.ids, mine, strict=True)]
    unread = [i for i, digest in enumerate(out) if mine[i] and not digest]
    if not unread:
        return out, {}
    wanted = set(unread)
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        progress("hash", done, len(unread))

    left = manifest.keep(i in wanted for i in range(len(manifest)))
    found, missing = pictures.digests(left, workers=readers, progress=step)
    for i, digest in zip(unread, found, strict=True):
        out[i] = digest
    return out, missing


def _is_settled(sample_id: str, digest: str, index: RowIndex, made_from: dict[str, str]) -> bool:
    if sample_id in index.quarantined:
        return index.quarantined[sample_id][0] == digest
    if sample_id in made_from:  # a picture that is gone does not unsettle its row; verify --images reports it
        return not digest or made_from[sample_id] == digest
    return False
