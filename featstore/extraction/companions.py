"""What other runs commit to the same feature while this one is at work."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cer_fusion.featstore.rows.feature import Feature, IndexedShard
from cer_fusion.featstore.rows.shard import ShardHeader, read_strings


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What another run's shard says about a sample."""

    digest: str
    """sha256 of the picture that it used; empty where it could not read it."""
    header: ShardHeader
    row: int | None
    """Row in that shard; None if the sample is in quarantine."""
    reason: str = ""
    """Why it is in quarantine."""


class Companions:
    """Looks for shards that appear after the start; cheap, so that it can be asked before and after every shard.

    Parameters
    ----------
    feature : Feature
        What is there now counts as there before.
    """

    def __init__(self, feature: Feature) -> None:
        self._feature = feature
        self._seen = {path.name for path in feature.shard_paths()}
        self._settled: dict[str, Settled] = {}

    def look(self) -> None:
        """Take note of the shards that others committed since the last time."""
        if self._seen.issuperset(path.name for path in self._feature.shard_paths()):
            return
        for shard in self._feature.indexed_shards():
            if shard.header.path.name not in self._seen:
                self._note(shard)

    def own(self, name: str) -> None:
        """Say that this shard is ours."""
        self._seen.add(name)

    def settled(self, sample_id: str, digest: str) -> Settled | None:
        """What another run made of this sample from the same picture, if it did.

        Without a digest the picture could not be read here: then a row counts that another run made, from whatever.
        """
        found = self._settled.get(sample_id)
        if found is None:
            return None
        return found if found.digest == digest or (not digest and found.row is not None) else None

    def generation_after(self, ids: Iterable[str]) -> int:
        """Generation above every new shard that holds one of these samples; 0 if none does."""
        found = (self._settled.get(sample_id) for sample_id in ids)
        return max((entry.header.generation + 1 for entry in found if entry is not None), default=0)

    def _note(self, shard: IndexedShard) -> None:
        header = shard.header
        self._seen.add(header.path.name)
        digests = read_strings(header, "image_digest")
        for row, (sample_id, digest) in enumerate(zip(shard.ids, digests, strict=True)):
            self._settled[sample_id] = Settled(digest=digest, header=header, row=row)
        for sample_id, digest, reason in header.quarantined:
            self._settled[sample_id] = Settled(digest=digest, header=header, row=None, reason=reason)
