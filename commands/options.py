"""Options that several commands share, how their values are read, and which of them say something in which form.

An option that says nothing in the form of a command that is meant is refused, not ignored: a command of several forms
declares them once, with `forms`, and says with `only` which are meant. A test goes through all commands and their
options, so that a new option must be declared too.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

Command = TypeVar("Command", bound=Callable[..., None])


def no_file(data: str | None) -> str | None:
    """Refuse a file, or a folder elsewhere, where a dataset of the store is named."""
    if data is not None and Path(data).name != data and Path(data).is_dir():
        raise typer.BadParameter(no_manifest(data))
    if data is not None and (data.lower().endswith(".csv") or Path(data).name != data):
        name = Path(data).stem.replace(".", "_")
        raise typer.BadParameter(
            f"{data} is a file, and a dataset of the store is named here: --data {name}\n"
            "a file's samples become a dataset's with cer-feat extract, import or use-manifest"
        )
    return data


def _no_bucket(store: Path) -> Path:
    """Refuse a URL where a folder is named; as a path it has lost one of its slashes."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/[^/]", str(store)):
        raise typer.BadParameter(
            f"{store} is a bucket, and a folder is named here: take the store with cer-feat pull, or read it in Python "
            f"with Store.open"
        )
    return store


def no_manifest(folder: str) -> str:
    """What is said of a folder of pictures where their list is expected."""
    name = Path(folder).resolve().name
    return (
        f"{folder} is a folder: make a manifest of it first, and name that\n"
        f"  cer-feat manifest folder {folder} -o {name}.csv; other layouts: cer-feat manifest --help"
    )


def _cut_up(entries: list[str] | None, comma: re.Pattern[str]) -> list[str] | None:
    """The values of an option that takes several: a comma parts them as a second option does.

    A comma within brackets or quotes parts nothing, nor does one in the name of a file that is there. An option that
    is given and names nothing is refused: without it there may be a usual choice, which was not asked for.
    """
    if not entries:
        return None
    found: list[str] = []
    for entry in entries:
        if "," in entry and _is_file(entry):
            found.append(entry)
            continue
        cuts = [one.start() for one in comma.finditer(entry) if not _is_inside(entry[: one.start()])]
        begins = [0, *(at + 1 for at in cuts)]
        found += [entry[begin:end].strip() for begin, end in zip(begins, [*cuts, len(entry)], strict=True)]
    named = [one for one in found if one.strip(", ")]
    if not named:
        raise typer.BadParameter(f"names nothing, however: {','.join(entries)!r}; leave it out for the usual choice")
    return named


def _is_file(entry: str) -> bool:
    """Whether an entry, as in `onnx:FILE` and `FILE.py:CLASS`, names a file whose name holds the commas."""
    with contextlib.suppress(OSError, ValueError):  # longer than any name of a file, or no name at all
        return any(path and Path(path).exists() for path in (entry, entry.partition(":")[2], entry.rpartition(":")[0]))
    return False


def _is_inside(before: str) -> bool:
    """Whether what follows a text stands within brackets or double quotes."""
    apart = re.sub(r'"[^"]*"', "", before)
    return '"' in apart or sum(map(apart.count, "[{(")) > sum(map(apart.count, "]})"))


def each(entries: list[str] | None) -> list[str] | None:
    """The words of an option or argument of several."""
    return _cut_up(entries, re.compile(","))


def _each_pair(entries: list[str] | None) -> list[str] | None:
    return _cut_up(entries, re.compile(r",(?=\s*[^\s,=\[\]{}\"]+=)"))


def joined(entries: list[str] | None) -> str | None:
    """Several values as one text, for readers that take a list so."""
    return None if entries is None else ",".join(entries)


def several(*names: str, pairs: bool = False, help: str, **more: Any) -> Any:
    """An option of type `list[str] | None` that takes several values, by commas or repeated, or both.

    With `pairs` they are KEY=VALUE, and only a comma before a further KEY= parts two of them: a value may hold commas.
    A test goes through all commands: no option that takes several is declared in another way.
    """
    return typer.Option(*names, help=help, callback=_each_pair if pairs else each, **more)


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, help="What every random choice is drawn from.")
]  # as far as scikit-learn's and NumPy's go
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps, or auto (says what it chose).")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that are there already.")]

# what is read: the store, a dataset in it, a manifest
StorePath = Annotated[
    Path,
    typer.Option(
        "--store", "-s", envvar="CER_STORE", help="The feature store's folder.", show_default=True, callback=_no_bucket
    ),
]
DEFAULT_STORE = Path("features")
RunStore = Annotated[
    Path,
    typer.Option(
        "--store", "-s", envvar="CER_STORE", help="The feature store's folder.", callback=_no_bucket,
        show_default="the run's own, while it is there with the same data",
    ),
]  # fmt: skip
Data = Annotated[
    str | None,
    typer.Option("--data", "-d", help="A manifest CSV, or the name of a dataset in the store.", show_default=False),
]
StoredData = Annotated[
    str | None,
    typer.Option("--data", "-d", help="A dataset in the store.", show_default=False, callback=no_file),
]
DatasetName = Annotated[
    str | None, typer.Option("--dataset", help="Name in the store.", show_default="the manifest file's name")
]
Root = Annotated[
    Path | None,
    typer.Option("--root", help="Where the pictures' paths start.", show_default="as the manifest says"),
]
Videos = Annotated[
    Path | None,
    typer.Option(
        "--videos", help="Folder of the videos that the frames were made of, for their sound.", show_default="none"
    ),
]
ReplaceManifest = Annotated[
    bool,
    typer.Option(
        "--replace-manifest",
        help="Let the manifest take the place of the dataset's even if it removes samples or lists other pictures.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")]

# what is made of pictures
Readers = Annotated[
    int | None,
    typer.Option(min=1, help="Threads that read and decode.", show_default="2"),
]
ReaderProcesses = Annotated[
    int | None,
    typer.Option(
        "--reader-processes",
        min=0,
        help="Processes that decode instead; 0: threads do.",
        show_default="0; for a GPU, all cores but two",
    ),
]
MaxErrors = Annotated[
    float, typer.Option(help="Share of unusable pictures at which to stop; up to ten never stop a run, unless 0.")
]
Precision = Literal["float32", "tf32", "bfloat16", "float16"]

# who does the parts of a job
RunnerName = Literal["local", "slurm", "ray"]
Runner = Annotated[
    RunnerName | None,
    typer.Option("--runner", help="Who does the parts: processes here, Slurm, or Ray.", show_default="this process"),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Processes on this machine, which do part after part.",
        show_default="with --runner local a quarter of the parts, at most the GPUs or cores",
    ),
]
Slurm = Annotated[
    list[str] | None,
    several(
        "--slurm",
        pairs=True,
        help="What Slurm is asked for, key=value,…: partition=gpu,time=240,gpus_per_node=1,array_parallelism=16.",
        show_default=False,
    ),
]
RayAddress = Annotated[
    str | None, typer.Option("--ray-address", help="HOST:PORT of a Ray cluster, or auto.", show_default="auto")
]
NumGpus = Annotated[
    float | None,
    typer.Option("--num-gpus", min=0, help="GPUs that a task of Ray takes.", show_default="1 where there are any"),
]
FitParts = Annotated[
    int | None,
    typer.Option(
        "--parts",
        min=1,
        help="With --runner: parts that the fits are dealt into.",
        show_default="with --runner local four a worker",
    ),
]

# how faces are found and cut out of frames and pictures
SizePx = Annotated[int, typer.Option("--size", help="Side of a face's crop in pixels.")]
Crop = Annotated[
    Literal["face", "arcface112", "box", "affectnet"],
    typer.Option(
        "--crop",
        help="arcface112: turned upright by five points, to ArcFace's places; face: the same with room for the chin; "
        "box: the square around the detector's box, not turned; affectnet: the same, looser.",
    ),
]
Margin = Annotated[
    float | None,
    typer.Option(help="Added on each side of the crop, as a share of it.", show_default="the crop's own"),
]
DetectorName = Annotated[
    str,
    typer.Option(
        "--detector",
        help="mtcnn (of the extra faces), or a faster one whose file you have: yunet:FILE, scrfd:FILE.",
    ),
]
PointsOf = Annotated[
    Literal["mtcnn", "own"] | None,
    typer.Option(
        "--points",
        help="Of a detector from a file: points by MTCNN's last network, which sees how a head is rolled, or its own.",
        show_default="mtcnn",
    ),
]
MinFace = Annotated[int, typer.Option("--min-face", help="Shortest side of a face in pixels; smaller is slower.")]
MinScore = Annotated[
    float | None,
    typer.Option("--min-score", help="How sure the detector must be, 0 to 1.", show_default="the detector's own"),
]
DEFAULT_SIZE, DEFAULT_MIN_FACE = 224, 40
CROPPED = ("crop", "margin", "detector", "points")
"""Options of every command that cuts faces out."""

# what heads learn from, and how
Features = Annotated[
    list[str] | None,
    several("--features", "-f", help="Features or blocks: vit,manet.local.", show_default=False),
]
Missing = Annotated[
    Literal["error", "drop"], typer.Option("--missing", help="Samples without a row: an error, or drop them.")
]
TrainSplit = Annotated[str, typer.Option("--train-split", help="Split to learn from.")]
TestSplit = Annotated[
    str | None, typer.Option("--test-split", help="Split to be judged on.", show_default="test, else valid")
]
Near = Annotated[
    float | None,
    typer.Option(
        "--near", min=-1, max=1, help="Faces of this cosine or more count as one group, 0.85.", show_default=False
    ),
]
SoftLabels = Annotated[
    Path | None,
    typer.Option(
        "--soft-labels",
        help="CSV of votes, sample_id,<class>,…, or a manifest with votes.<class>, to learn from instead of labels; "
        "heads that cannot take the labels.",
        show_default=False,
    ),
]
Targets = Annotated[
    Path | None,
    typer.Option(
        "--targets",
        help="CSV of sample_id,AU1,AU2_r,…,valence,arousal to learn beside the classes (head multitask), in place of "
        "what the manifest says.",
        show_default="the manifest's columns au.1, …",
    ),
]
Prompts = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        help="Text vectors that stand for classes, .safetensors, .npz or .csv; cer-feat prompts makes them. Nothing is "
        "learned.",
        show_default=False,
    ),
]
Basic = Annotated[
    str | None,
    typer.Option(
        "--basic",
        help="A dataset in the store with basic expressions and the same features, for heads with a curriculum or "
        "mixed_compounds.",
        show_default=False,
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        help="What rows may take: 2GB, 500MB. Beyond it they are read from the store piece by piece.",
        show_default="half of what is available",
    ),
]
Setting = Annotated[
    list[str] | None,
    several(
        "--set",
        pairs=True,
        help="Settings of the head, key=value: hidden=[512],C=0.1; of one of several heads HEAD.key=value.",
        show_default=False,
    ),
]
RunsOrKept = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[RUNS|KEPT]",
        help="Run folders of cer-fuse train, or one comparison that was kept; without, heads are trained now.",
        show_default=False,
    ),
]
Runs = Annotated[
    list[Path] | None,
    typer.Argument(help="Run folders of cer-fuse train; without them, heads are trained now.", show_default=False),
]
_KEPT_HEAD = "A run of cer-fuse train, the head folder in it, or hf://USER/NAME@REVISION."
AnyHead = Annotated[Path | None, typer.Option("--head", help=_KEPT_HEAD, show_default=False)]
Singles = Annotated[bool, typer.Option(help="A column for each single backbone as well.")]
Baseline = Annotated[str | None, typer.Option(help="Column the others are tested against, paired.", show_default=False)]

# what is written
Format = Literal["table", "markdown", "latex", "csv", "json"]
Explain = Annotated[bool, typer.Option("--explain", help="Say below the table how its figures are made, in full.")]
RecipeFolder = Annotated[
    Path | None,
    typer.Option(
        "--recipe-folder", help="Where recipes of your own are, .toml.", show_default="recipes/, where it is there"
    ),
]
MoreMetrics = Annotated[
    list[str] | None,
    several(
        "--metrics",
        help="Further rows: uar (mean per-class recall), weighted_f1, f1 (of each class).",
        show_default=False,
    ),
]
TrackedBy = Annotated[
    list[str] | None,
    several("--track", help="Tell trackers too: trackio,tensorboard,wandb,mlflow.", show_default="none"),
]
TableFormat = Annotated[Format, typer.Option("--format", help="How tables are printed.")]
FigurePath = Annotated[
    Path | None,
    typer.Option("--figure", help="Picture to draw: .png, .pdf or .svg; none for none.", show_default="in runs/"),
]
NO_PICTURE = NOTHING = Path("none")
"""What `--figure none`, and `--output none` where results are kept unasked, ask for."""
ResultPath = Annotated[
    Path | None, typer.Option("--output", "-o", help="Keep the whole result as JSON.", show_default=False)
]
KeptPath = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Keep the comparison here, .json; none for none.", show_default="in runs/"),
]


def readers_for(devices: Iterable[str], readers: int | None, processes: int | None) -> tuple[int, int]:
    """Threads and processes that read: as asked, or by device and cores.

    A CPU that computes needs its cores itself. A GPU is fed by processes, which share no lock with what queues its
    work; several ranks or workers on a machine share its cores.
    """
    from ..kit.machine import whole_cores

    share = whole_cores() // max(1, int(os.environ.get("LOCAL_WORLD_SIZE") or 1))
    if processes is None:
        on_gpu = any(not device.startswith("cpu") for device in devices)
        processes = min(_MOST_READERS, share - 2) if on_gpu and readers is None and share >= 4 else 0
    return readers or 2, processes


_MOST_READERS = 16
"""Readers beyond which pictures come faster than any one GPU takes them."""


def numbers(entries: list[str] | None, option: str) -> list[float]:
    """The values of an option of several numbers."""
    try:
        return [float(entry) for entry in entries or ()]
    except ValueError:
        said = ",".join(entries or ())
        raise typer.BadParameter(f"expected numbers such as 0.1,1,10, however: {said!r}", param_hint=option) from None


def recipe_folder(given: Path | None) -> Path | None:
    """The folder of recipes that was asked for; else that of the working folder, where it has some."""
    usual = Path("recipes")
    return usual if given is None and any(usual.glob("*.toml")) else given


def metrics_of(entries: list[str] | None) -> tuple[str, ...]:
    """The metrics that `--metrics` names; one that is not known, or is there twice, is refused before any work."""
    from ..fusion.errors import ReportError
    from ..fusion.judging.metrics import check_metrics

    names = tuple(name.lower().replace("-", "_") for name in entries or ())
    try:
        check_metrics(names)
    except ReportError as error:
        raise typer.BadParameter(str(error), param_hint="--metrics") from None
    return names


def trackers_of(entries: list[str] | None, tell: Callable[[str], None]) -> tuple[str, ...]:
    """The trackers that `--track` names; one that is not known, or not installed, is refused before any work."""
    from ..kit.tracking import TrackingError, check_trackers, leaving
    from .console import escape

    try:
        names = check_trackers(entries or [])
    except TrackingError as error:
        raise typer.BadParameter(str(error), param_hint="--track") from None
    for name in names:
        if place := leaving(name):
            tell(f"[yellow]settings and figures leave this machine:[/] {escape(place)}")
    return names


def key_values(entries: list[str] | None, option: str) -> dict[str, Any]:
    """The `key=value` pairs of an option; values are JSON where they can be, `1,2,3` is a list of numbers, else text.

    Raises
    ------
    typer.BadParameter
        If an entry is no pair, or one key is given twice.
    """
    found: dict[str, Any] = {}
    for entry in entries or []:
        key, equals, text = entry.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"expected key=value, however: {entry!r}", param_hint=option)
        if key.strip() in found:
            raise typer.BadParameter(f"{key.strip()} is given twice: leave one of them out", param_hint=option)
        found[key.strip()] = value_of(text)
    return found


def value_of(text: str) -> Any:
    """What a value says: JSON where it can be, `1,2,3` a list of numbers, else the text itself."""
    with contextlib.suppress(ValueError):
        return json.loads(text)
    with contextlib.suppress(ValueError):
        several = json.loads(f"[{text}]")
        if several and all(isinstance(one, int | float) for one in several):
            return several
    with contextlib.suppress(ValueError):  # `.5`, which is no number of JSON's
        numbers = [float(part) for part in text.split(",")]
        if all(map(math.isfinite, numbers)):
            return numbers if len(numbers) > 1 else numbers[0]
    return text


def memory_budget(text: str | None) -> float:
    """Bytes that `--memory` allows; by default half of what is available, or any number where nobody knows."""
    from ..kit.machine import memory_available

    if text is None:
        available = memory_available()
        return float("inf") if available is None else available / 2
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kMGT]?)i?B?\s*", text, re.IGNORECASE)
    if not match:
        raise typer.BadParameter(f"expected a size such as 2GB or 500MB, however: {text!r}", param_hint="--memory")
    return float(match[1]) * {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}[match[2].lower()]


def names_a_file(data: str) -> bool:
    """Whether `--data` names a manifest's file and no dataset of the store, as `manifest_and_dataset` reads it."""
    return bool(Path(data).suffix) or Path(data).is_file()


@dataclass(frozen=True)
class Form:
    """A form of a command, or a condition, and the parameters that are for it."""

    says: str
    """Why its options say nothing otherwise, for the error message."""
    options: tuple[str, ...]
    """Parameters of the command's function. One that stands in several forms is for any of them."""
    within: str | None = None
    """The form that this one is a part of."""


TABLE = Form("is for a table, and --json prints none", ("format",))
"""`--format` of a command that has `--json` too."""
NOTED = Form("is for tables on the screen: other formats say it in any case", ("explain",))
"""`--explain` of a command whose tables have notes."""
WRITTEN = Form("replaces outputs that are there, and this writes none", ("overwrite",))
"""`--overwrite` of a command that need not write anything."""
COMPUTING = Form("says where a head computes, and none of these has a choice", ("device",))
HERE = Form("is for processes on this machine, and --runner names others", ("workers",))
ON_SLURM = Form("is for --runner slurm", ("slurm",))
ON_RAY = Form("is for --runner ray", ("ray_address", "num_gpus"))
DIVIDED = Form("is for --runner", ("parts",))
"""`--parts` of a command that does all of them itself where no runner is named."""
UNSET = Form("--set device=… says that too: leave one of them out", ())
"""What `COMPUTING` is within where there is one head, so that its settings are not written HEAD.key."""
AS_KEPT = "runs are compared as they were kept, so this option says nothing: leave it out, or name no run"
"""Why options that say what to train are refused beside run folders."""


def forms(**named: Form) -> Callable[[Command], Command]:
    """Declare the forms of a command, or conditions, whose parameters say something in them only."""

    def declare(command: Command) -> Command:
        command.forms = named  # type: ignore[attr-defined]
        return command

    return declare


def only(ctx: typer.Context, **meant: object) -> None:
    """Refuse options of the command line that say nothing in the forms that are meant.

    What an environment variable says is no mistake, and is left alone.

    Parameters
    ----------
    ctx : typer.Context
        Of a command with declared forms.
    **meant
        For every form, something that is true where it is meant.

    Raises
    ------
    typer.BadParameter
        Naming the options and the reason.
    """
    declared: Mapping[str, Form] = ctx.command.callback.forms  # type: ignore[union-attr]
    if set(meant) != set(declared):
        raise AssertionError(f"every form is meant or not, however: {sorted(meant)}")
    refused: dict[str, list[str]] = {}
    for parameter in ctx.command.params:
        name = str(parameter.name)
        where = [form for form, one in declared.items() if name in one.options]
        if where and _given(ctx, name) and all(_reason(declared, form, meant) for form in where):
            refused.setdefault(_reason(declared, where[0], meant) or "", []).append(parameter.opts[0])
    for reason, options in refused.items():
        raise typer.BadParameter(reason, param_hint=", ".join(options))


def runs(runner: RunnerName | None, workers: int | None) -> dict[str, bool]:
    """Which of `HERE`, `ON_SLURM`, `ON_RAY` and `DIVIDED` are meant, for `only`."""
    return {
        "here": runner in (None, "local"),
        "slurm": runner == "slurm",
        "ray": runner == "ray",
        "divided": runner is not None or (workers or 1) > 1,
    }


def store_asked_for(ctx: typer.Context, store: Path) -> Path | None:
    """The store that the command line or the environment names; None where neither does."""
    source: Any = ctx.get_parameter_source("store")
    return store if source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT") else None


def _given(ctx: typer.Context, name: str) -> bool:
    source: Any = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _reason(declared: Mapping[str, Form], form: str, meant: Mapping[str, object]) -> str | None:
    """Why the options of a form say nothing; None where it is meant."""
    one = declared[form]
    outer = None if one.within is None else _reason(declared, one.within, meant)
    return outer or (None if meant[form] else one.says)
