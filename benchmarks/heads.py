"""Every installed head on real features: cross-validated on the training rows, then judged once on the validation rows.

    python -m benchmarks.heads [--shared ../shared] [--heads ridge,lda] [--folds 3]
    python -m benchmarks.heads --write [--heads ridge,lda]

3,165 + 355 faces of FER+ whose votes name a compound expression, 3,072 columns of three extractors. Prints a table in
Markdown, a line a head: macro F1, accuracy and log loss of the folds, scores of the validation rows, seconds of the fit
on all training rows; then the zero-shot rules, whose head learns the emotion with the most votes instead.

With --write there are no folds: each head is fitted once, on one thread, and what `cer-fuse heads` says of it is
written into the package (`fusion/heads/measured.json`): its processor seconds, which other work on the machine does not
change much, and its scores on the validation rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from cer_fusion.featstore.manifests.adapters import build
from cer_fusion.featstore.manifests.adapters.ferplus import write_votes
from cer_fusion.fusion import Rows, ZeroShot, installed_heads, make_head, scores
from cer_fusion.fusion.data.rows import folds_of
from cer_fusion.fusion.heads.weights import log_loss
from cer_fusion.fusion.keeping.answers import aligned

FEATURES = {"hse": "hse_faceres_1024", "dinov2": "dinov2_vits14_768", "lite0": "efficientnet_lite0_1280"}
MEASURED = Path(__file__).resolve().parents[1] / "fusion" / "heads" / "measured.json"
EMOTIONS = ("Happiness", "Surprise", "Sadness", "Anger", "Disgust", "Fear")
RULES = ("sum", "product", "harmonic", "minimum")


def rows_of(shared: Path) -> tuple[dict[str, Rows], dict[str, list[str]]]:
    """Return the rows of both splits, and the emotion with the most votes of each row."""
    manifest = build("ferplus", shared / "data" / "ferplus.zip", labels="compound7").manifest
    with tempfile.TemporaryDirectory() as folder:
        write_votes(shared / "data" / "ferplus.zip", manifest, Path(folder) / "votes.csv")
        with (Path(folder) / "votes.csv").open(encoding="utf-8", newline="") as file:
            votes = {line["sample_id"]: line for line in csv.DictReader(file)}
    samples = {sample.path.rpartition("ferplus.zip")[2].strip("/!:"): sample for sample in manifest.samples}
    names = (shared / "features" / "file_names.txt").read_text(encoding="utf-8").split()
    chosen = [samples[name] for name in names]
    blocks = {name: np.load(shared / "features" / f"{file}.npy") for name, file in FEATURES.items()}
    y = np.array([manifest.classes.index(sample.label) for sample in chosen])
    parts, emotions = {}, {}
    for split in ("train", "valid"):
        where = np.array([sample.split == split for sample in chosen])
        parts[split] = Rows(
            blocks={name: block[where].astype(np.float32) for name, block in blocks.items()},
            y=y[where],
            classes=manifest.classes.labels,
        )
        own = [votes[sample.sample_id] for sample in chosen if sample.split == split]
        emotions[split] = [max(EMOTIONS, key=lambda emotion: float(line[emotion])) for line in own]
    return parts, emotions


def cross_validated(name: str, train: Rows, folds: int) -> np.ndarray:
    """Return probabilities (n, k) of each training row by a head that did not see it."""
    found = np.zeros((train.n, len(train.classes)))
    for learn, ask in folds_of(train, folds, seed=0):
        part = train.take(learn)
        head = make_head(name, blocks=train.widths).fit(part.x(), part.y)
        found[ask] = aligned(head.predict_proba(train.take(ask).x()), head.classes_, len(train.classes), name)
    return found


def write(train: Rows, valid: Rows, names: list[str]) -> None:
    """Measure heads and put what was measured in the place of what the package says of them."""
    heads = dict(json.loads(MEASURED.read_text(encoding="utf-8"))["heads"]) if MEASURED.exists() else {}
    x, asked = train.x(), valid.x()
    for name in names:
        begun_s = time.process_time()
        head = make_head(name, blocks=train.widths).fit(x, train.y)
        fit_cpu_s = time.process_time() - begun_s
        found = scores(valid.y, head.predict(asked), valid.classes)
        heads[name] = {
            "fit_cpu_s": round(fit_cpu_s, 2), "accuracy": round(found.accuracy, 4),
            "macro_f1": round(found.macro_f1, 4), "measured": time.strftime("%Y-%m-%d"),
        }  # fmt: skip
        print(name, heads[name], flush=True)
        on = {
            "machine": f"one thread of a shared {platform.machine()} server", "train_rows": train.n,
            "test_rows": valid.n, "columns": sum(train.widths.values()), "classes": len(train.classes),
            "data": "FER+ faces whose votes name a compound expression, three cached encoders", "heads": heads,
        }  # fmt: skip
        MEASURED.write_text(json.dumps(on, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--heads", default=",".join(installed_heads()))
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    parts, emotions = rows_of(options.shared)
    train, valid = parts["train"], parts["valid"]
    if options.write:
        write(train, valid, options.heads.split(","))
        return
    print("| head | macro F1, folds | accuracy, folds | log loss, folds | macro F1, valid | accuracy, valid | fit s |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in options.heads.split(","):
        proba = cross_validated(name, train, options.folds)
        inner = scores(train.y, proba.argmax(axis=1), train.classes)
        started = time.perf_counter()
        head = make_head(name, blocks=train.widths).fit(train.x(), train.y)
        elapsed_s = time.perf_counter() - started
        outer = scores(valid.y, head.predict(valid.x()), valid.classes)
        print(
            f"| `{name}` | {inner.macro_f1:.4f} | {inner.accuracy:.4f} | {log_loss(proba, train.y):.4f} "
            f"| {outer.macro_f1:.4f} | {outer.accuracy:.4f} | {elapsed_s:.1f} |",
            flush=True,
        )
    basic = make_head("linear", blocks=train.widths).fit(train.x(), np.array(emotions["train"]))
    for rule in RULES:
        zero = ZeroShot(basic, rule=rule).answering(compounds=train.classes)
        found = scores(valid.y, zero.predict(valid.x()).tolist(), valid.classes)
        print(f"| zero-shot, {rule}, over `linear` | | | | {found.macro_f1:.4f} | {found.accuracy:.4f} | |", flush=True)


if __name__ == "__main__":
    main()
