"""End-to-end extraction against the same model's bare forward on ready tensors, at its best batch size.

Ratio: pictures/s of `extract` (read, hash, decode, resize, forward, write) ÷ pictures/s of forward alone. Limit: 0.90.
Forward alone is measured before and after each run of `extract`, and the two are averaged: a machine that becomes
slower meanwhile does not count for or against either. `bound_by` is what kept the middle run from being faster.
`model_share` is how much of a run's time the model computed: what is left is the run's own. A good part of that is
paid once a run, not once a picture: the digest of the weights (`identity_s`), which tells one feature from another.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import report, seconds_of
from cer_fusion.backbones import create
from cer_fusion.demofaces import write_dataset
from cer_fusion.featstore import Manifest, Store, extract
from cer_fusion.featstore.extraction.run import bottleneck
from cer_fusion.featstore.manifests.adapters import build

BATCH_SIZE = 32
"""What `cer-feat extract` takes by default; on a CPU the backbone computes it in pieces of its own size."""
TRIED = 64
"""Pictures on which batch sizes are tried."""


def bare_rate(backbone, pictures: np.ndarray, batch_size: int) -> float:
    """Pictures per second of forward passes alone, on float tensors that are ready in memory."""
    module = backbone.module.eval()
    batch = torch.from_numpy(pictures[:batch_size]).permute(0, 3, 1, 2).float().div(255)  # (b, h, w, c) -> (b, c, h, w)
    order = torch.channels_last if backbone.encoder.channels_last else torch.contiguous_format
    batch = batch.contiguous(memory_format=order)
    with torch.inference_mode():
        module(batch)
        rounds = max(1, len(pictures) // batch_size)
        started = time.perf_counter()
        for _ in range(rounds):
            module(batch)
        return rounds * batch_size / (time.perf_counter() - started)


def extract_rate(backbone, manifest: Manifest, batch_size: int) -> tuple[float, float, str]:
    """Pictures per second of a whole run into a new store, the share of it that the model computed, and its limit."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "store")
        started = time.perf_counter()
        done = extract(backbone, manifest, store, dataset="faces", batch_size=batch_size)
        elapsed_s = time.perf_counter() - started
        return len(manifest) / elapsed_s, done.compute_s / elapsed_s, bottleneck([done])


def main() -> None:
    """Measure one backbone and print a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--pictures", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[8, 16, 32])
    args = parser.parse_args()
    backbone = create(args.backbone, weights="random")
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(folder)
        manifest = build("rafdb-compound", folder).manifest
        manifest = manifest.keep([i < args.pictures for i in range(len(manifest))])
        decoded = np.stack([backbone.decode((manifest.root / s.path).read_bytes()) for s in manifest.samples])
        trial = {size: bare_rate(backbone, decoded[:TRIED], size) for size in args.batch_sizes}
        best = max(trial, key=trial.__getitem__)
        runs, ratios, identities = [], [], []
        backbone.describe()  # imports what it names; a process pays that once
        bare = [bare_rate(backbone, decoded, best)]
        for _ in range(args.repeats):
            runs.append(extract_rate(backbone, manifest, BATCH_SIZE))
            bare.append(bare_rate(backbone, decoded, best))
            ratios.append(runs[-1][0] / statistics.mean(bare[-2:]))
            identities.append(seconds_of(backbone.spec))
    report(
        "extraction",
        backbone=args.backbone,
        bare_batch_size=best,
        extract_batch_size=BATCH_SIZE,
        bare_per_s=round(statistics.median(bare), 2),
        extract_per_s=round(statistics.median(rate for rate, _, _ in runs), 2),
        ratio=round(statistics.median(ratios), 3),
        ratios=[round(ratio, 3) for ratio in ratios],
        limit=0.90,
        model_share=round(statistics.median(share for _, share, _ in runs), 3),
        bound_by=sorted(runs)[len(runs) // 2][2],
        identity_s=round(statistics.median(identities), 3),
        runs=args.repeats,
    )


if __name__ == "__main__":
    main()
