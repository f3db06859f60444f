"""One feature of a dataset: its folder of shards, and where in them each sample's row is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from featstore import files
from featstore.errors import FingerprintError, FormatError
from featstore.shard import Rows, encode, parse_name
from featstore.shard_reader import ShardHeader, read_header, read_strings
from featstore.spec import FeatureSpec


@dataclass(frozen=True, kw_only=True)
class RowIndex:
    """Which shard and row holds each sample, and which samples could not be embedded."""

    headers: tuple[ShardHeader, ...]
    place: dict[str, tuple[int, int]] = field(repr=False)
    """sample_id to (position in `headers`, row)."""
    quarantined: dict[str, tuple[str, str]] = field(repr=False)
    """sample_id to (sha256 of the picture or empty, reason)."""

    def image_digests(self) -> dict[str, str]:
        """sample_id to the sha256 of the picture its row was made from; empty for imported rows."""
        stored = [read_strings(header, "image_digest") for header in self.headers]
        return {sample_id: stored[shard][row] for sample_id, (shard, row) in self.place.items()}

    def generation_after(self, ids: Iterable[str]) -> int:
        """Generation of a new shard that holds `ids`: above every shard whose entries it replaces."""
        newest = -1
        quarantine = {entry[0]: h.generation for h in self.headers for entry in h.quarantined}
        for sample_id in ids:
            if sample_id in self.place:
                newest = max(newest, self.headers[self.place[sample_id][0]].generation)
            elif sample_id in self.quarantined:
                newest = max(newest, quarantine.get(sample_id, -1))
        return newest + 1


class Feature:
    """A feature's folder. Opening reads `feature.json`; rows are read when asked for.

    Raises
    ------
    FormatError
        If the folder's name and its `feature.json` do not belong together.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = FeatureSpec.read(folder / "feature.json")
        if not folder.name.endswith(f"@{self.spec.fingerprint[:12]}"):
            raise FormatError(
                f"{folder} holds the feature.json of {self.spec.fingerprint[:12]}: it was moved here by hand"
            )

    @classmethod
    def create(cls, dataset: Path, spec: FeatureSpec) -> Feature:
        """Open the feature of this identity, making its folder if it is new."""
        folder = dataset / spec.folder
        if not (folder / "feature.json").exists():
            files.make_folder(folder)
            spec.write(folder / "feature.json")
        return cls(folder)

    @property
    def label(self) -> str:
        """`manet@3f9c1a2b77d0`."""
        return self.folder.name

    @property
    def name(self) -> str:
        """`manet`."""
        return self.folder.name.rpartition("@")[0]

    def shard_paths(self) -> list[Path]:
        """The committed shards, by name."""
        return sorted(path for path in self.folder.iterdir() if parse_name(path.name))

    def headers(self) -> list[ShardHeader]:
        """Verified headers of all shards.

        Raises
        ------
        DamagedShardError
            If one is damaged.
        FingerprintError
            If one belongs to another feature.
        """
        return [self.own(read_header(path)) for path in self.shard_paths()]

    def index(self) -> RowIndex:
        """Find every sample's row; of two shards that hold it, the higher generation counts, then the lower name."""
        found = sorted(self.headers(), key=lambda h: h.path.name, reverse=True)
        headers = tuple(sorted(found, key=lambda h: h.generation))
        place: dict[str, tuple[int, int]] = {}
        quarantined: dict[str, tuple[str, str]] = {}
        for shard, header in enumerate(headers):
            for row, sample_id in enumerate(read_strings(header, "ids")):
                place[sample_id] = (shard, row)
                quarantined.pop(sample_id, None)
            for sample_id, digest, reason in header.quarantined:
                quarantined[sample_id] = (digest, reason)
                place.pop(sample_id, None)
        return RowIndex(headers=headers, place=place, quarantined=quarantined)

    def commit(self, rows: Rows, *, index: int, generation: int) -> Path:
        """Add one shard; the name holds the digest, so writing the same rows twice is harmless."""
        name, data = encode(rows, fingerprint=self.spec.fingerprint, index=index, generation=generation)
        files.commit(self.folder / name, data)
        return self.folder / name

    def write_quarantine(self, quarantined: dict[str, tuple[str, str]]) -> None:
        """Write `quarantine.csv` for people; the shards' headers are what counts."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("sample_id", "image_digest", "reason"))
        writer.writerows((sample_id, *entry) for sample_id, entry in sorted(quarantined.items()))
        files.replace(self.folder / "quarantine.csv", out.getvalue().encode())

    def own(self, header: ShardHeader) -> ShardHeader:
        """Pass a shard of this feature through; raises FingerprintError for any other."""
        expected = {f"blocks/{name}": width for name, width in self.spec.blocks.items()}
        found = {name: s.shape[-1] for name, s in header.segments.items() if name.startswith("blocks/")}
        if header.fingerprint != self.spec.fingerprint or found != expected:
            raise FingerprintError(
                f"shard {header.path.name} belongs to another feature: expected fingerprint "
                f"{self.spec.fingerprint[:12]} with blocks {dict(self.spec.blocks)}, however: "
                f"{header.fingerprint[:12]} with {found}\n"
                f"  in folder: {self.folder}\n"
                f"  move it out of this folder; rows of two features are never mixed"
            )
        return header
