"""One run of `extract` at work: every picture opened once for all features, shard by shard."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from cer_fusion.featstore.errors import TooManyErrors
from cer_fusion.featstore.extraction.committer import Committer
from cer_fusion.featstore.extraction.feature_run import FeatureRun
from cer_fusion.featstore.extraction.meter import Meter
from cer_fusion.featstore.manifests.manifest import Manifest
from cer_fusion.featstore.pictures import pictures
from cer_fusion.featstore.pictures.decoding import Decoded, decode_ahead
from cer_fusion.featstore.pictures.readers import Readers
from cer_fusion.featstore.rows import files


@dataclass(frozen=True, kw_only=True)
class ExtractReport:
    """What a run of `extract` did."""

    feature: str
    """`manet@3f9c1a2b77d0`."""
    samples: int
    """Samples of the manifest that were this run's part."""
    already: int
    """Settled before the run."""
    by_others: int
    """Settled by another run while this one was at work."""
    embedded: int
    """Rows computed now."""
    shared: int
    """Rows taken over from an identical picture."""
    quarantined: dict[str, str] = field(default_factory=dict)
    """sample_id to reason, for every sample of the part that has no row because its picture cannot be used."""
    unread: list[str] = field(default_factory=list)
    """Those of `quarantined` whose picture could not be read, which may pass: the next run tries them again."""
    repeated_across_splits: int = 0
    """Pictures (by content) that stand in more than one split of the manifest, as far as they were read so far."""
    elapsed_s: float = 0.0
    """Seconds spent embedding, hashing and writing; of the whole run, if it made several features."""
    compute_s: float = 0.0
    """Of these, seconds in which this feature's model computed."""
    waited_s: float = 0.0
    """Of these, seconds in which no model computed because pictures were still hashed, read or decoded."""

    @classmethod
    def merged(cls, parts: Sequence[ExtractReport]) -> ExtractReport:
        """One report of runs that did the parts of one plan at the same time; its times are those of the longest."""
        longest = max(parts, key=lambda part: part.elapsed_s)
        return cls(
            feature=parts[0].feature,
            samples=sum(part.samples for part in parts),
            already=sum(part.already for part in parts),
            by_others=sum(part.by_others for part in parts),
            embedded=sum(part.embedded for part in parts),
            shared=sum(part.shared for part in parts),
            quarantined={key: reason for part in parts for key, reason in part.quarantined.items()},
            unread=sorted(sample_id for part in parts for sample_id in part.unread),
            repeated_across_splits=max(part.repeated_across_splits for part in parts),  # the last one saw all
            elapsed_s=longest.elapsed_s,
            compute_s=longest.compute_s,
            waited_s=longest.waited_s,
        )


def bottleneck(reports: Sequence[ExtractReport]) -> str:
    """What bounded a run, from the reports of its features: `the model (93 % of the time)`; empty if it was idle."""
    elapsed = max(report.elapsed_s for report in reports)
    shares = {
        "the model": sum(report.compute_s for report in reports),
        "reading pictures": max(report.waited_s for report in reports),
    }
    largest = max(shares, key=shares.__getitem__)
    return f"{largest} ({min(1.0, shares[largest] / elapsed):.0%} of the time)" if elapsed and shares[largest] else ""


@dataclass(kw_only=True, eq=False)
class Extraction:
    """One run of `extract` after the survey: reads what any feature lacks, and commits behind its own back."""

    manifest: Manifest
    runs: Sequence[FeatureRun]
    readers: Readers
    committer: Committer
    meter: Meter
    ahead: int
    """Pictures decoded before they are wanted."""

    @property
    def met_others(self) -> bool:
        """True once another run has done some of this one's work."""
        return any(run.by_others for run in self.runs)

    def do_shard(self, number: int, positions: range) -> None:
        """Embed what is pending among these samples, and commit it as one shard of each feature, in the background."""
        fresh = [set(run.begin(positions)) for run in self.runs]
        wanted = {i: [k for k, own in enumerate(fresh) if i in own] for i in positions}
        try:
            self._embed({i: features for i, features in wanted.items() if features})
            for run in self.runs:
                run.end()
            jobs = [job for run in self.runs for job in run.job(number, whole=True)]
            self.committer.wait()
        except (KeyboardInterrupt, TooManyErrors):  # what is finished is kept, the rest is for the next run
            self.committer.submit([job for run in self.runs for job in run.job(number, whole=False)])
            self.committer.wait()
            raise
        self.committer.submit(jobs)

    def reports(self) -> list[ExtractReport]:
        """Wait for the last shard, write the quarantine lists for people and sum the run up."""
        self.committer.wait()
        return [self._report(run) for run in self.runs]

    def _embed(self, wanted: dict[int, list[int]]) -> None:
        def submit(position: int) -> Future[Decoded]:
            numbers = wanted[position]
            digest = self.runs[numbers[0]].found.digests[position]
            return self.readers.submit(self.manifest.samples[position].path, numbers, digest)

        with contextlib.closing(decode_ahead(wanted, submit, ahead=self.ahead)) as pictures_in_order:
            for position, decoded in self.meter.waiting_for(pictures_in_order):
                for number, picture in decoded.items():
                    self.runs[number].take(position, picture)
                self.committer.check()

    def _report(self, run: FeatureRun) -> ExtractReport:
        files.sync_folder(run.feature.folder)  # a killed run may have left a shard that is there but not durable yet
        index = run.feature.index()
        if index.quarantined or (run.feature.folder / "quarantine.csv").exists():
            run.feature.write_quarantine(index.quarantined)
        made_from = index.image_digests()
        digests = [own or made_from.get(i, "") for own, i in zip(run.found.digests, self.manifest.ids, strict=True)]
        return ExtractReport(
            feature=run.feature.label,
            samples=run.samples,
            already=run.samples - run.pending,
            by_others=run.by_others,
            embedded=run.embedded,
            shared=run.shared,
            quarantined=dict(sorted(run.failed.items())),
            unread=sorted(run.unread),
            repeated_across_splits=leaking(self.manifest, digests),
            elapsed_s=self.meter.elapsed_s,
            compute_s=run.compute_s,
            waited_s=self.meter.waited_s,
        )


def leaking(manifest: Manifest, digests: Sequence[str]) -> int:
    """Number of pictures, by content, that stand in more than one split."""
    return len(pictures.across_splits(manifest, pictures.repeats(manifest, digests)))
