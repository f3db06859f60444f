"""What there is to do: the pictures' digests, which samples are settled, and which rows can be taken over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from featstore import pictures
from featstore.errors import ManifestError
from featstore.feature import RowIndex
from featstore.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Survey:
    """State of a manifest against a feature, before a run."""

    digests: list[str] = field(repr=False)
    """sha256 of each sample's picture; empty where it cannot be read."""
    pending: list[bool] = field(repr=False)
    """True for samples that still need a row or a quarantine entry."""
    failed: dict[str, str]
    """sample_id to reason, for samples known to have no usable picture."""
    repeated: frozenset[str] = field(repr=False)
    """Digests that more than one sample has."""
    stored: dict[str, str] = field(repr=False)
    """Digest to a sample whose stored row was made from that very picture."""
    leaking: int
    """Pictures that stand in more than one split."""


def survey(
    manifest: Manifest,
    index: RowIndex,
    *,
    workers: int,
    assume_unchanged: bool,
    progress: Callable[[str, int, int], None],
) -> Survey:
    """Hash the pictures and compare with what the feature's rows were made from.

    Raises
    ------
    ManifestError
        If not one picture can be read: the root is wrong, and nothing should be changed.
    """
    made_from = index.image_digests()
    digests, missing = _digests(manifest, made_from if assume_unchanged else {}, workers, progress)
    if len(missing) == len(manifest):
        raise ManifestError(
            f"none of the {len(missing)} pictures of {manifest.where} can be read "
            f"(first: {manifest.samples[0].path}: {missing[manifest.ids[0]]})\n"
            f"  looked under: {manifest.root}\n"
            f"  say where the pictures are with --root"
        )
    pending: list[bool] = []
    failed: dict[str, str] = {}
    for sample_id, digest in zip(manifest.ids, digests, strict=True):
        settled = _is_settled(sample_id, digest, index, made_from)
        pending.append(not settled)
        if settled and sample_id in index.quarantined:
            failed[sample_id] = index.quarantined[sample_id][1]
        elif not settled and sample_id in missing:
            failed[sample_id] = missing[sample_id]
    return Survey(
        digests=digests,
        pending=pending,
        failed=failed,
        repeated=frozenset(digest for digest, count in Counter(digests).items() if digest and count > 1),
        stored={digest: sample_id for sample_id, digest in made_from.items() if digest},
        leaking=len(pictures.across_splits(manifest, pictures.repeats(manifest, digests))),
    )


def _digests(
    manifest: Manifest, known: dict[str, str], workers: int, progress: Callable[[str, int, int], None]
) -> tuple[list[str], dict[str, str]]:
    """Digest of every picture, read only where it is not known."""
    out = [known.get(sample_id, "") for sample_id in manifest.ids]
    unread = [i for i, digest in enumerate(out) if not digest]
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        progress("hash", done, len(unread))

    found, missing = pictures.digests(manifest.keep(not d for d in out), workers=workers, progress=step)
    for i, digest in zip(unread, found, strict=True):
        out[i] = digest
    return out, missing


def _is_settled(sample_id: str, digest: str, index: RowIndex, made_from: dict[str, str]) -> bool:
    if sample_id in index.quarantined:
        return index.quarantined[sample_id][0] == digest
    if sample_id in made_from:  # a picture that is gone does not unsettle its row; verify --images reports it
        return not digest or made_from[sample_id] == digest
    return False
