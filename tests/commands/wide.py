"""Every table that a command prints, with names of forty characters and nine columns of them where heads stand."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import typer

from cer_fusion.commands import tables
from cer_fusion.commands.outputs import print_table, print_tables, show_table

WIDTHS = (80, 100, 120)
HEADS = tuple(f"{name}-compound7-manet_raf_db_224_global"[:40] for name in (
    "mlp", "linear", "weighted", "late", "xgboost", "histgb", "vit", "manet", "resnet50"))  # fmt: skip
BLOCKS = tuple(f"compound7-{name}_raf_db_224_global" for name in ("manet", "vit", "resnet50"))
DATASET = "rafdb_compound7_aligned_224_crops_of_2017"
CLASSES = ("Fearfully_Surprised", "Happily_Surprised", "Sadly_Surprised", "Disgustedly_Surprised", "Angrily_Surprised",
           "Sadly_Fearful", "Sadly_Angry")  # fmt: skip


def compared() -> Any:
    """A comparison of nine heads against a baseline, with letters."""
    from tests.fusion.judging.test_report_table import column, report

    versus = report().columns[1].versus
    columns = [
        replace(column(("ensemble", "vit")[i % 2], versus if i else None), name=name, letters="ab")
        for i, name in enumerate(HEADS)
    ]
    notes = (
        f"Single backbones ({', '.join(HEADS[6:])}): head 'linear' on that backbone's blocks alone.",
        f"Smallest true differences to '{HEADS[0]}' that 397 such rows show in 80 of 100 cases: accuracy 4.1 points. "
        "Smaller ones are often missed: no difference found is not the same as none there.",
    )
    return report(columns=tuple(columns), baseline=HEADS[0], notes=notes)


def swept() -> Any:
    from cer_fusion.fusion.sweeps.sweeping import parse_simplex
    from tests.fusion.page.test_figures import swept as made

    grid = parse_simplex(f"{','.join(BLOCKS)}:0.25", {name: (name,) for name in BLOCKS})
    return made(grid, mark=dict.fromkeys(BLOCKS, 1 / 3))


def swept_settings() -> Any:
    from cer_fusion.fusion.judging.report import Versus
    from cer_fusion.fusion.judging.resampling import Interval
    from cer_fusion.fusion.sweeps import Axes
    from tests.fusion.page.test_figures import swept as made

    axes = Axes({"curriculum": [0, [[5, 0.0], [10, 1.0]]], "locality": [0, 0.1, 1.0]})
    versus = Versus(
        accuracy=0.01, accuracy_interval=Interval(-0.012, 0.034), macro_f1=-0.0123,
        macro_f1_interval=Interval(-0.045, 0.0211), only_head=3, only_baseline=4, p=0.4, p_holm=0.8, p_macro_f1=0.0009,
        p_macro_f1_holm=0.0045, p_is_bound=True,
    )  # fmt: skip
    grid = a_line(len(axes))
    found = made(grid)
    return replace(
        found, kind="setting", blocks=(), weights=axes.weights, settings=tuple(axes.points), mark={}, marked=0,
        versus=(None, *[versus] * (len(axes) - 1)), chosen=2,
    )  # fmt: skip


def a_line(count: int) -> Any:
    from cer_fusion.fusion.data.blocks import parse_grid

    return parse_grid([f"a=1:{count}:1", "b=1"], ("a", "b"))


def diagnosed() -> Any:
    from cer_fusion.fusion import Diagnosis
    from cer_fusion.fusion.judging.diagnosis import Contribution, SubsetValue
    from cer_fusion.fusion.judging.measures import (
        Agreement,
        Bin,
        Calibration,
        ConfusedPair,
        HardSample,
        NearDuplicates,
        Pair,
        Similarity,
    )
    from cer_fusion.fusion.judging.resampling import Interval

    def three(value: float) -> tuple[tuple[float, ...], ...]:
        return ((1.0, value, value), (value, 1.0, value), (value, value, 1.0))

    gain = Interval(-0.0123, 0.2345)
    ids = [f"compound/test_{i:04d}_aligned_by_the_detector.jpg" for i in range(4)]
    return Diagnosis(
        classes=CLASSES, n=397, head="LinearHead", params={}, folds=0, players={name: (name,) for name in BLOCKS},
        subsets=tuple(
            SubsetValue(members=tuple(b for i, b in enumerate(BLOCKS) if m >> i & 1), accuracy=m / 10, macro_f1=m / 11,
                        log_loss=2 - m / 7)
            for m in range(8)
        ),
        contributions=tuple(
            Contribution(name=name, shapley_macro_f1=0.12, shapley_interval=gain, shapley_log_loss=0.3,
                         left_out_macro_f1=0.04, left_out_interval=gain, left_out_log_loss=0.1)
            for name in BLOCKS
        ),
        agreement=Agreement(names=BLOCKS, kappa=three(0.5), disagreement=three(0.3), double_fault=three(0.2),
                            accuracy=(0.7, 0.6, 0.5), oracle=0.9, all_right=0.4),
        similarity=Similarity(names=BLOCKS, cka=three(0.25), n=1562),
        calibration=Calibration(ece=0.1, ece_equal_mass=0.09, brier=0.4, nll=1.2, confidence=0.8, accuracy=0.7,
                                bins=(Bin(low=0.1, high=0.5, n=200, confidence=0.3, accuracy=0.25),)),
        confused=(ConfusedPair(truth=CLASSES[3], answer=CLASSES[0], count=12, share=0.34),),
        hardest=tuple(HardSample(sample_id=one, truth=CLASSES[3], answer=CLASSES[0], of_truth=0.001, of_answer=0.98,
                                 right=0) for one in ids),
        near=NearDuplicates(threshold=0.85, found=2, samples=2,
                            pairs=(Pair(sample_id=ids[0], other_id=ids[1], cosine=0.991),
                                   Pair(sample_id=ids[2], other_id=ids[3], cosine=0.9))),
        clean_accuracy=0.7, clean_macro_f1=0.6, level=0.95, resamples=2000, seed=0, fingerprints={}, notes=(),
    )  # fmt: skip


def checked() -> Any:
    from cer_fusion.challenge.published_check import check_report, check_table
    from cer_fusion.challenge.published_table import PublishedTable
    from tests.challenge.paper import SUPPORTS

    cells = tuple(map(Decimal, ["60.53", "62.86", "87.48", "91.11", "81.82", "77.27", "61.11"]))
    total = Decimal("80.86")
    table = PublishedTable(
        classes=CLASSES, columns=dict.fromkeys(HEADS, cells), accuracy=dict.fromkeys(HEADS, total), macro_f1={},
        supports=None, notes=(),
    )  # fmt: skip
    return check_report(check_table(table, SUPPORTS))


def smoothed() -> Any:
    from cer_fusion.challenge import settings_of, sweep_smoothing
    from cer_fusion.challenge.smoothing_sweep import smoothing_table
    from tests.challenge.videos import video_predictions

    settings = settings_of(["box", "hmm"], (5, 25), ["window"])
    return smoothing_table(sweep_smoothing(video_predictions([50, 60, 40]), settings, resamples=50))


def covered() -> Any:
    from cer_fusion.challenge.answering import Coverage, coverage_table

    rows = [
        Coverage(video=f"{i:02d}_{DATASET}", rows=12345, predicted=11000, inside=1000, before=345, after=0,
                 longest_gap=120, beyond=1, unasked=0)
        for i in range(3)
    ]  # fmt: skip
    return coverage_table(SimpleNamespace(coverage=rows))  # type: ignore[arg-type]


def answered() -> Any:
    from cer_fusion.challenge import abaw_ce
    from cer_fusion.challenge.answering import classes_table

    return classes_table(np.repeat(np.arange(7), [900, 1900, 700, 600, 500, 400, 300]), abaw_ce(), ("One note.",))


def differing() -> Any:
    from cer_fusion.challenge import abaw_ce, difference
    from cer_fusion.challenge.answering import difference_table
    from cer_fusion.challenge.task import Submission

    names = tuple(f"{video:02d}/{frame:05d}.jpg" for video in (1, 2) for frame in range(1, 41))
    y = np.arange(80) % 7
    one, other = (Submission(names=names, y=given) for given in (y, np.where(np.arange(80) % 9, y, 3)))
    paths = (f"submissions/{HEADS[0]}.txt", f"submissions/{HEADS[1]}.txt")
    return difference_table(difference(one, other, abaw_ce()), paths, abaw_ce())


def candidates() -> Any:
    from cer_fusion.challenge import abaw_ce, choose_by_prior
    from cer_fusion.challenge.answering import candidates_table

    rng = np.random.default_rng(0)
    given = {f"predictions/{name}.csv": rng.integers(0, 7, 2000) for name in HEADS}
    return candidates_table(choose_by_prior(given, abaw_ce()))


def _ls() -> None:
    from cer_fusion.commands.feat import store

    entries = [
        {"dataset": DATASET, "feature": f"{block}@3f9c1a2b77d0", "blocks": blocks, "dtype": "float32", "rows": 1959,
         "samples": 1959, "quarantined": 3, "nbytes": 18_100_000, "newest_s": time.time() - 300_000}
        for block, blocks in ((BLOCKS[0], {"local": 512, "multi_scale": 512}), (BLOCKS[1], {"x" * 30: 768}))
    ]  # fmt: skip
    opened = SimpleNamespace(datasets=lambda: [DATASET], path=SimpleNamespace(iterdir=list))
    with patch("cer_fusion.featstore.Store", lambda _: opened), patch.object(store, "_of_dataset", lambda *_: entries):
        store.ls()


def _show() -> None:
    entry = {"feature": f"{BLOCKS[0]}@3f9c1a2b77d0", "fingerprint": "3f" * 32, "blocks": {"local": 512},
             "identity": {"weights": {"digest": "sha256:" + "0c" * 32}, "transform": {"resize": "224 bicubic, to RGB"}},
             "described": {"weights": f"/data/of/somebody/with/long/paths/{BLOCKS[0]}.pth.tar"}}  # fmt: skip
    from cer_fusion.commands.feat import store

    tables.out_facts(store._lines(entry), pad=32)


def _diff() -> None:
    from cer_fusion.commands.feat import store

    old, new = (SimpleNamespace(folder=f"{BLOCKS[0]}@{end}") for end in ("3f9c1a2b77d0", "a01b3c4d5e6f"))
    fields = [("weights.digest", "0c" * 32, "0d" * 32), ("transform.mean", [0.485, 0.456, 0.406], None)]
    described = [("weights", f"/data/{BLOCKS[0]}.pth.tar", f"/data/{BLOCKS[1]}.safetensors")]
    store._print_diff(old, new, fields, described)  # type: ignore[arg-type]


def _gc() -> None:
    from cer_fusion.commands.feat.upkeep import _print_garbage
    from cer_fusion.featstore.upkeep.garbage import Garbage

    root = Path("features")
    file = root / DATASET / f"{BLOCKS[0]}@3f9c1a2b77d0" / f"shard-00012-{'a1' * 16}.h5"
    _print_garbage(
        [Garbage(path=file, nbytes=123_456_789, why="every sample in it has a newer row in another shard")] * 2, root
    )


def _doctor() -> None:
    from cer_fusion.commands import doctor
    from cer_fusion.commands.doctor import device, fail, libraries, ok, place, warn

    found = [
        ok("torch + torchvision", "torch 2.9.1+cu130, torchvision 0.24.1+cu130; compiled operators work"),
        warn("h5py", "h5py 3.15.1, HDF5 1.14.6, compiled against 1.14.2", "pip install --force-reinstall h5py"),
        fail("store", f"/data/of/somebody/{DATASET} is neither empty nor a store", "name another with --store"),
    ]
    with patch.object(libraries, "checks", lambda: found), patch.object(device, "checks", list), patch.object(
            place, "checks", lambda _: []), patch.object(libraries, "hub_checks", list), patch.object(
            libraries, "plugin_checks", list), suppress(
            typer.Exit):  # fmt: skip
        doctor.doctor(Path("features"))  # which ends with 1: a check fails


def _backbones() -> None:
    """Of a catalogue that stays as it is whatever the zoo takes in."""
    import cer_fusion.backbones
    from cer_fusion.commands.feat.backbones import backbones

    note = "MA-Net; local-attention and multi-scale branch with a head each. Public checkpoints load; none is fetched."
    rows = [
        {"name": name, "blocks": blocks, "size_px": size, "parameters": parameters, "default_weights": weights,
         "options": {"flow": "bidirectional", "num_classes": 7, "replace_heads": False, "extra": "none"}, "note": note}
        for name, blocks, size, parameters, weights in (
            ("manet", {"local": 512, "multi_scale": 512}, 224, 50_547_214, None),
            ("resnet50", {"bottleneck512": 512}, 224, 23_508_032, "tv_in1k"),
            ("a_backbone_with_a_name_of_forty_characters", {"x" * 30: 768, "y" * 30: 512}, 448, 1_085_798_656, "mae"),
            ("timm:<name>", None, None, None, None),
        )
    ]  # fmt: skip
    with patch.object(cer_fusion.backbones, "catalogue", lambda: rows):
        backbones()


def _candidates_of_weights() -> None:
    from cer_fusion.commands.feat.backbones import _print_candidates

    given = {"share": 0.99, "missing": 4, "unexpected": 2, "misshapen": 0, "refusal": None}
    found = [
        SimpleNamespace(backbone=name, options=options, fits=bool(options), first=("conv3.weight is missing",) * 3,
                        left_out=("fc_1.weight", "fc_1.bias"), **given)
        for name, options in (("manet", {"flow": "legacy"}), ("timm:vit_small_patch14_reg4_dinov2.lvd142m", {}))
    ]  # fmt: skip
    _print_candidates(tuple(found))  # type: ignore[arg-type]


def _counts() -> None:
    from cer_fusion.commands.feat.manifest import _tell_counts
    from cer_fusion.featstore import Manifest, Sample, class_set

    samples = tuple(
        Sample(sample_id=f"s{i}", path=f"{i}.jpg", label=class_set("abaw7").labels[i % 7], split=HEADS[i % 9])
        for i in range(63)
    )
    _tell_counts(Manifest(samples=samples, classes=class_set("abaw7"), root=Path()), False)


def _frames() -> None:
    from cer_fusion.commands.feat.frames import _report

    counts = {"frames": 26145, "pictures": 23456, "faces": 23999, "tracks": 1234, "without_face": 2689}
    made = [SimpleNamespace(video=f"{i}_{DATASET}", counts=counts, facts={"faults": []}) for i in range(2)]
    _report(made, {}, {}, None, Path("frames"), False)  # type: ignore[arg-type]


def _answered() -> None:
    from cer_fusion.commands.fuse import predict
    from cer_fusion.fusion.keeping.answers import Predictions

    proba = np.full((3, 7), 1 / 14) + np.eye(7)[:3] / 2
    ids = tuple(f"compound/test_{i:04}_aligned_by_the_detector.jpg" for i in range(3))
    with patch.object(predict, "_is_read_by_people", lambda: True):
        predict._answer(
            Predictions(ids=ids, classes=CLASSES, proba=proba, labels=(*CLASSES[:2], None)), None, False, False
        )


def _evaluated() -> None:
    rows = [[name, 12345, "60.53 [55.1, 66.0]", "61.11 [55.5, 66.2]"] for name in CLASSES]
    tables.out_table(["class", "rows", "accuracy (%)", "F1 (%)"], rows, title=f"{HEADS[0]} on split {DATASET}")


def _heads() -> None:
    """Of settings that stay as they are whatever heads take in."""
    from cer_fusion.commands.fuse import heads
    from cer_fusion.fusion.heads.explained import Setting

    text = "What happens to each block first; `cer_fusion.fusion.heads.scaling` explains the words that there are."
    found = [
        Setting(name=name, default=default, kind="Any", text=text * times)
        for name, default, times in (("epochs", 15, 1), ("standardize", "power", 2), ("hidden_of_forty", (256, 128), 3))
    ]
    once = {"fit_cpu_s": 1234.5678, "accuracy": 0.754911, "macro_f1": 0.578571, "measured": "2026-11-28"}
    figures = {"machine": "one thread of a shared server", "data": "faces", "columns": 3072, "train_rows": 3165,
               "test_rows": 355, "heads": {"tabm": once}}  # fmt: skip
    with patch("cer_fusion.fusion.heads.explained.explained_settings", lambda _: found), patch(
            "cer_fusion.fusion.heads.explained.measured", lambda: figures):  # fmt: skip
        heads.heads("tabm")


def _quarantine() -> None:
    from cer_fusion.commands.feat import store

    entries = {
        f"{HEADS[0]}/{i:05d}": ("", "missing" if i else "damaged: " + "bytes that are none " * 6) for i in (0, 1)
    }
    feature = SimpleNamespace(label=f"{BLOCKS[0]}@3f9c1a2b77d0", quarantined=lambda: entries)
    samples = [SimpleNamespace(sample_id=name, path=f"{name}_aligned_by_the_detector.jpg") for name in entries]
    opened = SimpleNamespace(usable_features=lambda _: [feature], manifest=lambda _: SimpleNamespace(samples=samples))
    with patch.object(store, "dataset_of", lambda *_: (opened, DATASET)):
        store.quarantine()


def _cache() -> None:
    import cer_fusion.featstore.exchange.cached as cached
    from cer_fusion.commands.feat import cloud

    kept = [
        SimpleNamespace(url=f"s3://{DATASET}/{name}", folder=Path("0c" * 8), shards=12_345, nbytes=18_100_000_000)
        for name in HEADS[:2]
    ]
    with patch.object(cached, "cached_stores", lambda _: kept), patch.object(cached, "cache_folder", lambda _: "here"):
        cloud.cache()


def recipes() -> Any:
    from cer_fusion.commands.fuse.recipes import _table
    from cer_fusion.fusion.recipes import Recipe

    told = {"source": ("a page",), "theirs": ("all of it",), "waits_for": "a head of several targets, and their rows"}
    about = "Two encoders, each with a linear head, a weight a class, and answers smoothed over time"
    return _table({name: Recipe(name=name, about=about, system="a laboratory", **told) for name in HEADS[:2]})


SCREENS: dict[str, Callable[[], None]] = {
    "compare": lambda: print_table(compared(), "table", explain=False),
    "compare --explain": lambda: print_table(compared(), "table", explain=True),
    "compare --class-intervals": lambda: print_table(compared(), "table", class_intervals=True, explain=False),
    "train": lambda: print_table(replace(compared(), columns=compared().columns[:1]), "table", explain=False),
    "ablate": lambda: print_table(swept(), "table", explain=False),
    "ablate --axis": lambda: print_table(swept_settings(), "table", explain=False),
    "diagnose": lambda: print_tables(_diagnosis(), "table", explain=False),
    "check-table": lambda: show_table(checked(), "table", explain=False),
    "smooth": lambda: show_table(smoothed(), "table", explain=False),
    "submit --videos": lambda: show_table(covered(), "table"),
    "submit": lambda: show_table(answered(), "table"),
    "submit --diff": lambda: show_table(differing(), "table"),
    "choose": lambda: show_table(candidates(), "table"),
    "evaluate": _evaluated,
    "predict": _answered,
    "ls": _ls,
    "show": _show,
    "quarantine": _quarantine,
    "heads": _heads,
    "cache": _cache,
    "recipes": lambda: show_table(recipes(), "table"),
    "diff": _diff,
    "gc": _gc,
    "doctor": _doctor,
    "backbones": _backbones,
    "inspect": _candidates_of_weights,
    "manifest": _counts,
    "frames": _frames,
}
"""What prints each table, by the command that does."""


def _diagnosis() -> Any:
    from cer_fusion.fusion.page.diagnosis import diagnosis_tables

    return diagnosis_tables(diagnosed())


def screen(name: str, width: int | None) -> tuple[str, list[tables.Grid]]:
    """What a command prints on a terminal so wide (None: into a pipe), and the tables that it printed so."""
    grids: list[tables.Grid] = []
    laid_out = tables.laid_out

    def watched(grid: tables.Grid, room: int | None) -> Any:
        grids.append(grid)
        return laid_out(grid, room)

    there = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    text = io.StringIO()
    with patch.dict(os.environ, there | ({} if width is None else {"COLUMNS": str(width)}), clear=True), patch.object(
            tables, "laid_out", watched), redirect_stdout(text):  # fmt: skip
        SCREENS[name]()
    return text.getvalue(), grids


def sheet(width: int) -> str:
    """All screens of a width below each other."""
    return "\n".join(f"$ {name}\n{screen(name, width)[0]}" for name in SCREENS)


if __name__ == "__main__":  # python -m tests.commands.wide: write the screens anew, to be looked at
    for one in WIDTHS:
        (Path(__file__).parent / "screens" / f"{one}.txt").write_text(sheet(one), encoding="utf-8")
