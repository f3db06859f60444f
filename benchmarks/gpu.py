"""All that wants a GPU, in steps that end within minutes each and are taken up again: `make gpu`.

    make gpu DATA=ferplus.zip WEIGHTS="vit=mae.pth manet=ms_celeb.pth.tar resnet50=resnet50.safetensors"
    python -m benchmarks.gpu --data ferplus.zip --weights vit=mae.pth … [--output gpu-out] [--once]

What a step found lies in `<output>/<step>.json`; a step that has such a file is done. Fine-tuning that does not end in
time keeps its state and goes on the next time; every other step is short. `--once` does one step and ends, for a
machine that is lent by the minute. `figures.md` sums up what there is. `--tiny --device cpu` goes through all of it
with small networks and few pictures, which says nothing of speed.

Steps: the machine; the tests that need a GPU; JPEGs of 224 pixels; extraction from them against the bare forward pass
in bfloat16 (wanted: 0.90), with threads and with processes that read; 1,000 MLP heads as one fit; the simplex sweep;
fine-tuning on FER+ (`basic8` with the votes, then `compound7` from it), and the tables of both on faces kept apart.
"""

from __future__ import annotations

import argparse
import io
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import mlp_head
from benchmarks.compound_rows import compound_rows
from benchmarks.simplex_sweep import FOLDS, swept
from benchmarks.timing import machine
from cer_fusion.backbones import create
from cer_fusion.commands.options import readers_for
from cer_fusion.featstore import Manifest, Sample, Store, class_set, extract
from cer_fusion.featstore.manifests.adapters import build
from cer_fusion.featstore.pictures.pictures import PictureSource
from cer_fusion.fusion import Rows, compare, make_head
from cer_fusion.fusion.data.blocks import Grid, simplex
from cer_fusion.fusion.data.rows import folds_of
from cer_fusion.fusion.judging.report import report_table
from cer_fusion.kit.table import render

GOAL = 0.90
"""Wanted of extraction ÷ bare forward."""
STAGES = ("basic8", "compound7")
NETWORKS = ("vit", "manet", "resnet50")
TINY = {"vit": "timm:test_vit", "manet": "timm:test_efficientnet", "resnet50": "timm:test_resnet"}
"""What stands for them at tiny size."""
_ENDING_S = 45.0
"""Seconds that a step has to keep its state in."""

Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be measured, on what."""

    data: Path
    """FER+: a zip file or folder, as `cer-feat manifest ferplus` takes it."""
    weights: dict[str, str]
    """Network -> file or tag; "pretrained" where nothing is said."""
    output: Path
    device: str = "cuda"
    precision: str = "bfloat16"
    tiny: bool = False

    def network(self, name: str) -> tuple[str, dict[str, Any]]:
        """What `create` is asked for, and the options."""
        return (TINY[name], {"img_size": 48}) if self.tiny else (name, {})

    def weights_of(self, name: str) -> str:
        """What it starts from."""
        return "random" if self.tiny else self.weights.get(name, "pretrained")

    def size(self, full: int, tiny: int) -> int:
        """Choose a size."""
        return tiny if self.tiny else full


def about_the_machine(job: Job) -> Figures:
    """What it is measured on."""
    found: Figures = {"machine": machine(), "torch": str(torch.__version__), "device": job.device}
    if torch.device(job.device).type == "cuda":
        about = torch.cuda.get_device_properties(job.device)
        found |= {"name": about.name, "memory_gb": round(about.total_memory / 1e9, 1), "cuda": torch.version.cuda}
    return found


def tests(job: Job) -> Figures:
    """Run the tests that need a GPU, and those whose fakes stand for one."""
    files = ["tests/backbones/test_on_cuda.py", "tests/backbones/test_cuda.py", "tests/backbones/test_onnx_session.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise SystemExit(done.stdout[-4000:] + done.stderr[-2000:])
    return {"pytest": done.stdout.strip().splitlines()[-1]}


def jpegs(job: Job) -> Figures:
    """Write faces as JPEGs of 224 pixels, as aligned ones are kept."""
    folder = job.output / "jpegs"
    folder.mkdir(parents=True, exist_ok=True)
    manifest = build("ferplus", job.data, labels="basic8").manifest
    source = PictureSource(manifest.root)
    chosen = manifest.samples[: job.size(32_768, 24)]

    def one(number: int, sample: Sample) -> int:
        path = folder / f"{number:05d}.jpg"
        if not path.exists():
            with Image.open(io.BytesIO(source.read(sample.path))) as picture:
                large = picture.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
            data = io.BytesIO()
            large.save(data, "JPEG", quality=92)
            path.write_bytes(data.getvalue())
        return path.stat().st_size

    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(one, range(len(chosen)), chosen))
    return {"pictures": len(sizes), "kilobytes_median": round(statistics.median(sizes) / 1000, 1)}


def extraction(job: Job, name: str) -> Figures:
    """Extraction from JPEGs against the bare forward pass on tensors that are ready on the device."""
    kind, options = job.network(name)
    made: Any = create(kind, weights=job.weights_of(name), device=job.device, precision=job.precision, **options)
    paths = sorted((job.output / "jpegs").glob("*.jpg"))
    label = class_set("abaw7").labels[0]
    samples = tuple(Sample(sample_id=path.stem, path=path.name, label=label) for path in paths)
    manifest = Manifest(samples=samples, classes=class_set("abaw7"), root=job.output / "jpegs")
    pictures = np.stack([made.decode(path.read_bytes()) for path in paths[: job.size(512, 8)]])
    tried = {size: bare_rate(made, pictures, size, job) for size in ((4, 8) if job.tiny else (64, 128, 256, 512))}
    best = max(tried, key=tried.__getitem__)
    cores = readers_for([job.device], None, None)[1]
    found: Figures = {"bare_batch_size": best, "bare_per_s": round(tried[best], 1), "goal": GOAL}
    ways = {"threads": {"readers": max(2, cores)}, "processes": {"readers": 2, "reader_processes": max(1, cores)}}
    for way, readers in ways.items():
        if job.tiny and way == "processes":
            continue  # they cost seconds to start, and dry runs measure nothing
        before = bare_rate(made, pictures, best, job)
        whole, steady = extract_rates(made, manifest, readers)
        bare = (before + bare_rate(made, pictures, best, job)) / 2
        found[way] = {
            "whole_per_s": round(whole, 1), "steady_per_s": round(steady, 1), **readers,
            "ratio_whole": round(whole / bare, 3), "ratio_steady": round(steady / bare, 3),
        }  # fmt: skip
    return found


def bare_rate(backbone: Any, pictures: np.ndarray, size: int, job: Job) -> float:
    """Pictures a second of forward passes alone, in the job's precision."""
    kind = torch.device(job.device).type
    x = backbone.transform.to_tensor(
        torch.from_numpy(pictures[:size]).to(job.device), channels_last=backbone.encoder.channels_last
    )

    def settled() -> None:
        if kind == "cuda":
            torch.cuda.synchronize()

    with torch.inference_mode(), torch.autocast(kind, **backbone.autocast()):
        for _ in range(3):
            backbone.module(x)
        settled()
        rounds, started = job.size(max(10, 8192 // size), 2), time.perf_counter()
        for _ in range(rounds):
            backbone.module(x)
        settled()
    return rounds * len(x) / (time.perf_counter() - started)


def extract_rates(backbone: Any, manifest: Manifest, readers: dict[str, int]) -> tuple[float, float]:
    """Pictures a second of a run into a new store: all of it, and from the first rows on, the start left out."""
    told: list[tuple[float, int]] = []

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "embed" and done:
            told.append((time.perf_counter(), done))

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        store = Store.create(Path(folder) / "store")
        extract(backbone, manifest, store, dataset="d", progress=progress, **readers)  # type: ignore[call-overload]
        whole = len(manifest) / (time.perf_counter() - started)
    (first_s, first), (last_s, last) = told[0], told[-1]
    return whole, (last - first) / (last_s - first_s) if last > first else whole


def mlp_heads(job: Job) -> Figures:
    """1,000 MLP heads of the paper's shape as one fit, against one head times 1,000."""
    members, epochs = job.size(1000, 4), job.size(10, 1)
    X, y = mlp_head.faces(0)
    X, y = (X, y) if not job.tiny else (X[:200, :64], y[:200])

    def fit(count: int) -> tuple[float, Any]:
        head = make_head(
            "mlp", hidden=(job.size(512, 16),), members=count, epochs=epochs, batch_size=128, lr=1e-3,
            schedule="constant", standardize="none", device=job.device, random_state=0,
        )  # fmt: skip
        started = time.perf_counter()
        head.fit(X, y)
        return time.perf_counter() - started, head

    fit(1)  # what a device does once
    (one_s, _), (all_s, head) = fit(1), fit(members)
    return {
        "heads": members, "shape": f"{X.shape[0]}x{X.shape[1]}", "epochs": epochs, "seconds": round(all_s, 2),
        "one_head_s": round(one_s, 3), "times_as_fast_as_one_by_one": round(members * one_s / all_s, 1),
        "accuracy_on_its_rows": round(float((head.predict(X) == y).mean()), 4), "device": head.device_,
    }  # fmt: skip


def simplex_sweep(job: Job) -> Figures:
    """The simplex of three block weights under linear heads, five folds; it runs on the CPU of that machine."""
    train, _, source = compound_rows()
    if job.tiny:  # two rows of every class at least: fewer cannot be learnt and held out
        of_class = (np.flatnonzero(train.y == k) for k in range(len(train.classes)))
        train = train.take(np.sort(np.concatenate([rows[:: min(20, max(1, len(rows) // 2))] for rows in of_class])))
    grid = Grid(tuple(train.blocks), simplex(len(train.blocks), Decimal("0.5" if job.tiny else "0.05")))
    seconds, _ = swept(grid, train, list(folds_of(train, FOLDS, 0)))
    return {"vectors": len(grid), "folds": FOLDS, "rows": train.n, "source": source, "seconds": round(seconds, 2)}


def manifests(job: Job) -> Figures:
    """FER+ in both label sets; what it calls validation is kept apart as the test split."""
    found: Figures = {}
    for stage in STAGES:
        path = job.output / f"{stage}.csv"
        votes = ["--votes", str(job.output / "votes.csv")] if stage == STAGES[0] else []
        cer_feat(["manifest", "ferplus", str(job.data), "--labels", stage, "--repeats", "first", *votes,
                  "-o", str(path), "--overwrite"])  # fmt: skip
        made = Manifest.read(path)
        apart = tuple(s._replace(split="test" if s.split in ("valid", "test") else s.split) for s in made.samples)
        replace(made, samples=apart).write(path)
        found[stage] = {split: sum(s.split == split for s in apart) for split in ("train", "test")}
    return found


def finetune(job: Job, name: str, stage: str) -> Figures:
    """Fine-tune one network for one stage; a stage goes on where it was."""
    kind, options = job.network(name)
    output = job.output / f"{name}-{stage}"
    start = job.weights_of(name) if stage == STAGES[0] else str(job.output / f"{name}-{STAGES[0]}/weights.safetensors")
    words = ["finetune", "--backbone", kind, "--weights", start, "--data", str(job.output / f"{stage}.csv"),
             "--output", str(output), "--device", job.device]  # fmt: skip
    words += [] if job.tiny else ["--precision", job.precision]
    words += [word for key, value in options.items() for word in ("-O", f"{key}={value}")]
    words += ["--soft-labels", str(job.output / "votes.csv")] if stage == STAGES[0] else []
    changes = {} if stage == STAGES[0] else {"logit_adjustment": 1}
    changes |= {"epochs": 1, "batch_size": 8, "layer_decay": "null"} if job.tiny else {}
    cer_feat([*words, *(word for key, value in changes.items() for word in ("--set", f"{key}={value}"))])
    card = json.loads((output / "card.json").read_text(encoding="utf-8"))
    best = card["best"]
    return {
        "epochs": len(card["epochs"]), "best_epoch": best["epoch"], "held_out": card["pictures"]["held_out"],
        "valid_accuracy": round(best["valid_accuracy"], 4), "valid_macro_f1": round(best["valid_macro_f1"], 4),
        "pictures_per_s": round(statistics.median(epoch["pictures_per_s"] for epoch in card["epochs"]), 1),
        "minutes": round(sum(epoch["seconds"] for epoch in card["epochs"]) / 60, 1),
    }  # fmt: skip


def table(job: Job, stage: str) -> Figures:
    """Rows of each fine-tuned network, and what a linear head and the default head make of them on faces kept apart."""
    store, manifest = Store.create(job.output / "features"), Manifest.read(job.output / f"{stage}.csv")
    made: list[Any] = []
    for name in NETWORKS:
        kind, options = job.network(name)
        weights = job.output / f"{name}-{stage}" / "weights.safetensors"
        known = json.loads((weights.parent / "card.json").read_text(encoding="utf-8"))["options"]
        given = {**options, **({"num_classes": known["num_classes"]} if "num_classes" in known else {})}
        if kind == "manet":
            given["num_classes"] = len(manifest.classes.labels)
        made.append(create(kind, weights=weights, device=job.device, **given))
    threads, processes = readers_for([job.device], None, None)
    extract(made, manifest, store, dataset=stage, name=list(NETWORKS), readers=threads, reader_processes=processes)
    train, test = (Rows.of(store.view(list(NETWORKS), dataset=stage, split=split)) for split in ("train", "test"))
    heads = {"linear": make_head("linear")} if job.tiny else {"linear": make_head("linear"), "mlp": make_head("mlp")}
    report = compare(heads, train, test, resamples=job.size(1000, 20))
    text = render(report_table(report), "markdown")
    (job.output / f"{stage}.md").write_text(text, encoding="utf-8")
    return {"rows": [train.n, test.n], "table": f"{stage}.md"}


def cer_feat(words: Sequence[str]) -> None:
    """Run a command of `cer-feat` in this process; a signal ends it with its state kept, and this process too."""
    from cer_fusion.commands.feat import app

    try:
        app([*words], prog_name="cer-feat")
    except SystemExit as end:
        if end.code:
            raise


STEPS: dict[str, Callable[[Job], Figures]] = {
    "machine": about_the_machine,
    "tests": tests,
    "jpegs": jpegs,
    **{f"extraction-{name}": partial(extraction, name=name) for name in NETWORKS},
    "mlp-heads": mlp_heads,
    "simplex-sweep": simplex_sweep,
    "manifests": manifests,
    **{f"finetune-{name}-{stage}": partial(finetune, name=name, stage=stage) for stage in STAGES for name in NETWORKS},
    **{f"table-{stage}": partial(table, stage=stage) for stage in STAGES},
}


def do(step: str, job: Job) -> Figures:
    """Do a step in this process, and note what it found; a step that is interrupted leaves no note."""
    job.output.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    found = {**STEPS[step](job), "step_s": round(time.perf_counter() - started, 1)}
    note = job.output / f"{step}.json"
    temporary = note.with_suffix(".part")
    temporary.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    temporary.replace(note)
    return found


def left(job: Job) -> Iterator[str]:
    """Steps without a note, in order."""
    return (step for step in STEPS if not (job.output / f"{step}.json").exists())


def in_a_process(words: Sequence[str], minutes: float) -> str:
    """Run a step as a process of its own: "ended", "failed", or "in time" where it had to be ended to be in time."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.gpu", *words])
    try:
        return "failed" if process.wait(60 * minutes - _ENDING_S) else "ended"
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_ENDING_S - 5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return "in time"


def all_steps(job: Job, run: Callable[[str], str], *, once: bool) -> int:
    """Do what is left, one step or all; the number of steps that failed, or that took too long and cannot go on."""
    failed: set[str] = set()
    while todo := [step for step in left(job) if step not in failed]:
        step = todo[0]
        print(f"{step}: {len(todo)} steps left", file=sys.stderr, flush=True)
        how = run(step)
        if how == "failed" or (how == "in time" and not step.startswith("finetune")):
            failed.add(step)
            print(f"{step}: {'failed' if how == 'failed' else 'did not end in time'}", file=sys.stderr, flush=True)
        summary(job)
        if once:
            break
    return len(failed)


def summary(job: Job) -> None:
    """Write `figures.md`: what every step found, and the tables."""
    job.output.mkdir(parents=True, exist_ok=True)
    lines = ["| step | figures |", "|---|---|"]
    tables = []
    for step in STEPS:
        note = job.output / f"{step}.json"
        if note.exists():
            found = json.loads(note.read_text(encoding="utf-8"))
            lines.append(f"| {step} | {', '.join(f'{key} {json.dumps(value)}' for key, value in found.items())} |")
            if "table" in found:
                tables.append(f"\n## {step}\n\n{(job.output / found['table']).read_text(encoding='utf-8')}")
    (job.output / "figures.md").write_text("\n".join(lines) + "\n" + "".join(tables), encoding="utf-8")


def main(words: Sequence[str] | None = None) -> int:
    """Do a step, or those that are left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="FER+ as a zip file or a folder")
    parser.add_argument("--weights", action="append", default=[], metavar="NETWORK=FILE", help=", ".join(NETWORKS))
    parser.add_argument("--output", type=Path, default=Path("gpu-out"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--minutes", type=float, default=8.0, help="longest that a step may take")
    parser.add_argument("--tiny", action="store_true", help="small networks and few pictures: a dry run")
    parser.add_argument("--once", action="store_true", help="do one step that is left, and end")
    parser.add_argument("--step", choices=STEPS, help="do this step, in this process")
    args = parser.parse_args(words)
    weights = dict(one.split("=", 1) for one in args.weights)
    if unknown := set(weights) - set(NETWORKS):
        parser.error(f"--weights is for {', '.join(NETWORKS)}, however: {', '.join(sorted(unknown))}")
    if torch.device(args.device).type == "cuda" and not torch.cuda.is_available():
        parser.error(
            f"this machine has no CUDA device that torch {torch.__version__} can use; --tiny --device cpu is dry"
        )
    job = Job(
        data=args.data, weights=weights, output=args.output, device=args.device, precision=args.precision,
        tiny=args.tiny,
    )  # fmt: skip
    if args.step:
        print(json.dumps({"step": args.step, **do(args.step, job)}))
        return 0
    given = list(sys.argv[1:] if words is None else words)
    failed = all_steps(job, lambda step: in_a_process([*given, "--step", step], args.minutes), once=args.once)
    rest = len(list(left(job)))
    print(f"{rest} steps left; {args.output / 'figures.md'}" if rest else f"done: {args.output / 'figures.md'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
