"""Runs: one fit with every choice, its answers and its figures, in a folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import platform
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from glob import escape as glob_escape
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kit import from_plain, to_plain
from ...kit.documents import canonical, read_sealed, seal_digest, write_sealed
from ...kit.errors import OutputExistsError, listing
from ...kit.files import write_whole
from ...kit.folders import bring_back, whole_folder
from ...kit.table import facts_html, shortened
from ..errors import ReportError
from ..judging.metrics import Scores, scores
from ..judging.report import Report
from .answers import Predictions, read_predictions, write_predictions
from .head import hint, save_head

FORMAT, FORMAT_VERSION = "cer-run", 1

INDEX, CONFIG, ENVIRONMENT, METRICS = "run.json", "config.json", "environment.json", "metrics.json"
PREDICTIONS, GROUPS, REPORT, CONFUSION, HEAD = "predictions.csv", "groups.csv", "report.json", "confusion.png", "head"
_OURS = {INDEX, CONFIG, ENVIRONMENT, METRICS, PREDICTIONS, GROUPS, REPORT, CONFUSION, HEAD}


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A run as it is kept, without its head (`load_head` reads that)."""

    config: RunConfig
    """Every choice."""
    predictions: Predictions
    """What it answered on the test rows, with their labels."""
    groups: tuple[str, ...] | None
    """The group of each test row when any two share one; else None."""
    fit_s: float
    """Training time, seconds of wall clock."""
    predict_s: float
    """Time to predict all test rows, seconds of wall clock."""
    environment: Mapping[str, Any]
    """What it ran on, see `environment`."""
    digest: str
    """Of ``run.json``, which holds those of all other files."""

    def __repr__(self) -> str:
        """Return what was fitted on what, and what it is worth."""
        config, found = self.config, self.scores
        figures = f"accuracy {100 * found.accuracy:.2f} %  macro F1 {100 * found.macro_f1:.2f} %"
        judged = f"{found.n:,} {config.test_split} rows of {config.dataset}"
        return f"<Run: {config.head} on {shortened(config.features)}, {judged}; {figures}>"

    def _repr_html_(self) -> str:
        config, found = self.config, self.scores
        facts = {
            "blocks": shortened(f"{name} {width:,}" for name, width in config.blocks),
            "data": config.dataset,
            "learned from": config.train_split,
            "judged on": f"{found.n:,} {config.test_split} rows",
            "accuracy": f"{100 * found.accuracy:.2f} %",
            "macro F1": f"{100 * found.macro_f1:.2f} %",
            "settings": shortened(f"{name}={value}" for name, value in config.params.items()),
        }
        return facts_html(f"Run: {config.head}", facts)

    @property
    def y_true(self) -> NDArray[np.int64]:
        """(n,) true class positions."""
        position = {name: i for i, name in enumerate(self.config.classes)}
        return np.array([position[str(label)] for label in self.predictions.labels or ()], dtype=np.int64)

    @property
    def scores(self) -> Scores:
        """What the answers are worth."""
        return scores(self.y_true, self.predictions.y_pred, self.config.classes)


def write_run(
    folder: Path,
    config: RunConfig,
    report: Report,
    *,
    groups: Sequence[str] | None,
    environment: Mapping[str, Any],
    overwrite: bool = False,
) -> Run:
    """Keep a run in a new folder, whole or not at all.

    Parameters
    ----------
    folder : path
        Made here; its parents too.
    config : RunConfig
        Every choice.
    report : Report
        Of one column, with its fitted head.
    groups : sequence of str, optional
        Of the test rows, as ``Rows.clusters`` gives them: None where no two rows share one.
    environment : dict
        As `cer_fusion.fusion.keeping.runs` gives it.
    overwrite : bool
        Replace a run that is there. A folder that holds anything else is never replaced.

    Raises
    ------
    OutputExistsError
        If a run is there that is not to be replaced, also if it came there while this one was written.
    ReportError
        If the folder holds anything else, or cannot be written.
    """
    if len(report.columns) != 1 or report.columns[0].fitted is None:
        raise ReportError(f"a run keeps one fitted head, however: {len(report.columns)} columns")
    folder = Path(folder)
    refuse_what_is_there(folder, overwrite=overwrite)
    try:
        with whole_folder(folder, overwrite=overwrite) as built:
            _write(built, config, report, groups, environment)
            found = {path.relative_to(built).as_posix(): path for path in sorted(built.rglob("*")) if path.is_file()}
            files = {name: _entry(path) for name, path in found.items()}
            write_sealed(built / INDEX, {"head": config.head, "files": files}, kind=FORMAT, version=FORMAT_VERSION)
    except OutputExistsError:
        raise
    except OSError as error:
        raise ReportError(f"the run could not be written to {folder}: {error.strerror or error}") from error
    return read_run(folder)


def read_run(folder: Path | str) -> Run:
    """Read a run back, every file against its digest before it is parsed.

    Raises
    ------
    ReportError
        If it is no run, of another format version, or not as it was written.
    """
    folder = Path(folder)
    folder = Path(folder)
    bring_back(folder)
    if folder.is_file():
        raise ReportError(f"{folder} is a file, and a run is a folder\n  all folders of runs/ are runs/*/")
    if not (folder / INDEX).is_file():
        raise ReportError(
            f"{folder} is no run folder: there is no {INDEX} in it\n  give folders that cer-fuse train has left; those "
            f"of earlier versions have none: train again{hint(folder / INDEX)}"
        )
    index = read_sealed(folder / INDEX, kind=FORMAT, version=FORMAT_VERSION, error=ReportError)
    files = index.get("files")
    needed = {CONFIG, ENVIRONMENT, METRICS, PREDICTIONS}
    if not isinstance(files, dict) or not needed <= set(files):
        raise ReportError(f"{folder / INDEX} does not list the files of a run: {', '.join(sorted(needed))}")
    for name, entry in files.items():
        _check(folder, name, entry)
    config = _config(folder)
    metrics = read_sealed(folder / METRICS, kind="cer-run-metrics", version=1, error=ReportError)
    predictions = read_predictions(folder / PREDICTIONS)
    run = Run(
        config=config,
        predictions=predictions,
        groups=_read_groups(folder / GROUPS, predictions.ids) if GROUPS in files else None,
        fit_s=float(metrics["fit_s"]),
        predict_s=float(metrics["predict_s"]),
        environment=read_sealed(folder / ENVIRONMENT, kind="cer-run-environment", version=1, error=ReportError),
        digest=seal_digest(index, kind=FORMAT, version=FORMAT_VERSION),
    )
    if predictions.classes != config.classes or predictions.labels is None or None in predictions.labels:
        raise ReportError(f"{folder / PREDICTIONS} does not have the run's classes, or lacks labels")
    if run.scores.to_dict() != metrics["scores"]:
        raise ReportError(f"the figures of {folder / METRICS} do not follow from {PREDICTIONS}")
    return run


def runs_in(folder: Path | str) -> dict[Path, RunConfig]:
    """Return the choices of all runs in a folder, by path; what is no run that can be read is passed over."""
    folder = Path(folder)
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if (path / INDEX).is_file():
            with contextlib.suppress(ReportError, OSError):
                found[path] = _config(path)
    return found


def config_of(folder: Path) -> RunConfig | None:
    """Return the choices of a run, of which the folder may be the head's; None for a head that is no run's."""
    for place in (folder, folder.resolve().parent):
        if (place / INDEX).is_file():
            return _config(place)
    return None


def _config(folder: Path) -> RunConfig:
    plain = read_sealed(folder / CONFIG, kind="cer-run-config", version=1, error=ReportError)
    return from_plain(RunConfig, plain, f"the configuration of the run {folder}", error=ReportError, defaults=True)


@dataclass(frozen=True)
class Kept:
    """Something that may be removed: a run's folder, or a kept comparison's file."""

    path: Path
    kind: str
    """``run`` or ``comparison``."""
    nbytes: int
    what: str
    """For people: of what, on what."""


def kept_at(path: Path) -> Kept:
    """Find out what is kept at a place, to be removed; damage does not matter, as long as it is a run or comparison.

    Raises
    ------
    ReportError
        If it is neither, is a link, holds anything that no run holds, or is being written.
    """
    path = Path(path)
    if path.is_symlink():
        raise ReportError(f"{path} is a link, and is left as it is: name the folder that it leads to")
    if path.is_dir():
        if _format_of(path / INDEX) != FORMAT:
            raise ReportError(
                f"{path} is no run folder, and is left as it is: there is no {INDEX} of a run in it{hint(path / INDEX)}"
            )
        strange = sorted({one.name for one in path.iterdir()} - _OURS)
        if strange:
            raise ReportError(f"{path} holds things that are no run's, and is left as it is: {listing(strange)}")
        if any(path.parent.glob(f".{glob_escape(path.name)}.*.part")):
            raise ReportError(
                f"{path} is being written by another command, and is left as it is\n  if that one was killed, "
                f"remove what it left: {path.parent}/.{path.name}.*.part"
            )
        try:
            config = _config(path)
            what = f"{config.head} on {', '.join(config.features)} of {config.dataset}, judged on {config.test_split}"
        except (ReportError, OSError):
            what = "damaged"
        nbytes = sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
        return Kept(path, "run", nbytes, what)
    if path.is_file() and _format_of(path) == "cer-report":
        try:
            what = f"of {listing([column.name for column in Report.load(path).columns], 6)}"
        except ReportError:
            what = "damaged"
        return Kept(path, "comparison", path.stat().st_size, what)
    if path.is_file():
        raise ReportError(f"{path} is neither a run nor a kept comparison, and is left as it is")
    raise ReportError(f"there is nothing at {path}{hint(path / INDEX)}")


def remove_kept(kept: Kept) -> None:
    """Remove a run or a comparison: its name goes in one step, so that nobody reads half of it."""
    if kept.kind == "comparison":
        kept.path.unlink()
        return
    going = kept.path.with_name(f".{kept.path.name}.{secrets.token_hex(8)}.part")
    kept.path.rename(going)
    shutil.rmtree(going)


def _format_of(file: Path) -> object:
    """What a JSON document says it is; None where that cannot be read."""
    try:
        said = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return said.get("format") if isinstance(said, dict) else None


def refuse_what_is_there(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is in the way: a run unless it is to be overwritten, and anything that is no run."""
    bring_back(folder)
    if not (folder.exists() or folder.is_symlink()):
        return
    if not folder.is_dir() or folder.is_symlink():
        raise ReportError(f"{folder} is there and is no folder; name another")
    names = {path.name for path in folder.iterdir()}
    if names - _OURS or (names and not names & {INDEX, HEAD}):
        strange = ", ".join(sorted(names - _OURS or names)[:3])
        raise ReportError(f"{folder} holds things that are no run's ({strange}); name another")
    if names and not overwrite:
        raise OutputExistsError(f"{folder} holds a run already\n  name another folder, or replace it with --overwrite")


def _write(
    built: Path, config: RunConfig, report: Report, groups: Sequence[str] | None, environment: Mapping[str, Any]
) -> None:
    from ..page.figures import draw_confusion, save_figure

    column = report.columns[0]
    labels = tuple(report.classes[y] for y in report.y_true)
    extra = {
        "dataset": config.dataset,
        "store": config.store,
        "train_split": config.train_split,
        "train_rows": sum(config.train_supports),
        "test_split": config.test_split,
        "test_rows": len(report.ids),
        "class_set": config.class_set,
        "accuracy": column.scores.accuracy,
        "macro_f1": column.scores.macro_f1,
        **({"in_seconds": True} if config.in_seconds else {}),
    }  # nothing here may differ between two equal runs: equal runs leave equal head files
    save_head(column.fitted, built / HEAD, fingerprints=config.fingerprints, class_set=config.classes, extra=extra)
    metrics = {
        "scores": column.scores.to_dict(),
        "accuracy_interval": asdict(column.accuracy),
        "macro_f1_interval": asdict(column.macro_f1),
        "resamples": report.resamples,
        "clustered": report.clustered,
        "fit_s": column.fit_s,
        "predict_s": column.predict_s,
    }
    write_sealed(built / CONFIG, to_plain(config), kind="cer-run-config", version=1)
    write_sealed(built / METRICS, metrics, kind="cer-run-metrics", version=1)
    write_sealed(built / ENVIRONMENT, dict(environment), kind="cer-run-environment", version=1)
    write_predictions(
        built / PREDICTIONS,
        Predictions(ids=report.ids, classes=report.classes, proba=column.proba, labels=labels),
    )
    if groups is not None:
        _write_groups(built / GROUPS, report.ids, groups)
    report.save(built / REPORT)
    save_figure(draw_confusion(column.scores, column.name), built / CONFUSION)


def _write_groups(path: Path, ids: Sequence[str], groups: Sequence[str]) -> None:
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["sample_id", "group"])
    # `Rows.clusters` gives a row without a group a name of its own that starts with NUL; in the file it is empty
    writer.writerows([name, "" if group.startswith("\0") else group] for name, group in zip(ids, groups, strict=True))
    write_whole(path, out.getvalue().encode())


def _read_groups(path: Path, ids: Sequence[str]) -> tuple[str, ...]:
    rows = list(csv.reader(StringIO(path.read_text(encoding="utf-8"), newline=""), strict=True))
    if rows[:1] != [["sample_id", "group"]] or [row[:1] for row in rows[1:]] != [[name] for name in ids]:
        raise ReportError(f"{path} does not give the rows of {PREDICTIONS} their groups")
    return tuple(row[1] or f"\0{i}" for i, row in enumerate(rows[1:]))


def _entry(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _check(folder: Path, name: str, entry: Any) -> None:
    path = folder / name
    if Path(name).is_absolute() or ".." in Path(name).parts or not isinstance(entry, dict):
        raise ReportError(f"{folder / INDEX} names a file that no run has: {name[:60]!r}")
    if not path.is_file() or path.is_symlink():
        raise ReportError(f"{path} is missing from the run\n  restore the folder, or train again")
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if size != entry.get("bytes") or digest != entry.get("sha256"):
        raise ReportError(
            f"{path} is not as the run wrote it: expected {entry.get('bytes')} bytes of sha256 "
            f"{str(entry.get('sha256'))[:12]}…, found {size} of {digest[:12]}…\n  restore the folder, or train again"
        )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The choices behind a run, whether a user made them or the program did."""

    head: str
    """The name that `make_head` knows."""
    estimator: str
    """The head's class name."""
    params: Mapping[str, Any]
    """All its parameters as JSON values, defaults included."""
    preset: str | None
    """The preset that the parameters started from."""
    seed: int
    """Seed of the head and of the bootstrap."""
    blocks: tuple[tuple[str, int], ...]
    """Names and widths in column order."""
    features: tuple[str, ...]
    """The backbones that the blocks are from."""
    fingerprints: Mapping[str, str]
    """Feature -> fingerprint."""
    classes: tuple[str, ...]
    """Class names in their declared order."""
    class_set: str
    """The name of that order."""
    dataset: str
    """Name of the dataset in the store."""
    store: str
    """The store, as the user named it."""
    train_split: str
    """Split that was learned from."""
    train_supports: tuple[int, ...]
    """Its rows per class."""
    test_split: str
    """Split that was judged on."""
    missing: str
    """What was done about samples without a row: ``error`` or ``drop``."""
    in_memory: bool
    """Whether rows were loaded whole; else they were read from the store piece by piece."""
    soft_labels: str | None = None
    """SHA-256 of the shares (n, k), float64, that were learned from in place of labels; None: labels were."""
    targets: Mapping[str, str] | None = None
    """Task -> SHA-256 of the targets (n, t), float64, that were learned beside the classes; None: there were none."""
    units: tuple[int, ...] | None = None
    """FACS numbers of the action units among them, in the order of their columns; None where they are not known."""
    targets_from: Mapping[str, str] | None = None
    """File that the targets are from, a table or the dataset's manifest: ``{"file": name, "sha256": of its bytes}``."""
    in_seconds: bool = False
    """Whether a head over time learned where rows stand in their videos in seconds; else in frame numbers."""
    data_digest: str | None = None
    """`data_digest` of the rows that were learned from and judged; None in runs that were kept before it was."""

    basic: str | None = None
    """SHA-256 of the ids and labels of the rows of basic expressions that were learned from beside; None: there were
    none."""

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        if len(self.train_supports) != len(self.classes) or len(set(self.classes)) < len(self.classes):
            raise ReportError(
                f"a run needs different classes with their training rows, however: {len(self.classes)} classes, "
                f"{len(self.train_supports)} numbers of rows"
            )
        if not self.blocks or not self.features:
            raise ReportError("a run needs at least one block of at least one feature, however: there is none")


def data_digest(parts: Mapping[str, tuple[Sequence[str], Sequence[str]]]) -> str:
    """Return one SHA-256 for samples with their labels and splits, so that two runs can be told to be of equal data.

    Parameters
    ----------
    parts : dict of split to (sample ids, labels)
        Their order does not matter.
    """
    rows = sorted((split, *row) for split, (ids, labels) in parts.items() for row in zip(ids, labels, strict=True))
    return hashlib.sha256(canonical(rows)).hexdigest()


LIBRARIES = ("cer-fusion", "numpy", "scipy", "scikit-learn", "torch", "xgboost", "safetensors", "h5py")
"""Those whose version can change a figure or a file."""


def environment(*, threads: Mapping[str, int], device: str) -> dict[str, Any]:
    """Describe the environment of a fit as plain JSON values.

    Parameters
    ----------
    threads : dict of library to number
        Threads that the fit computed with, as a head's ``fit_threads_`` says.
    device : str
        Where the head computed: ``cpu``, ``cuda:0``.
    """
    return {**platform_and_libraries(), "threads": dict(threads), "device": device}


def platform_and_libraries() -> dict[str, Any]:
    """Describe what is there whatever is fitted."""
    return {
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "system": platform.system(),
        "machine": platform.machine(),
    }


def device_of(head: Any) -> str:
    """Return where a fitted head computed: its own choice, that of the head or members inside it, else the CPU."""
    inside = [getattr(head, "head_", None), *getattr(head, "members_", {}).values()]
    chosen = [getattr(one, "device_", None) for one in (head, *inside)]
    return ", ".join(dict.fromkeys(str(device) for device in chosen if device)) or "cpu"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
