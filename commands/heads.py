"""Heads as commands name them: made from `--head` and `--set`, or opened where an earlier run kept them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..fusion.heads import (
    USUAL,
    head_names,
    head_presets,
    head_settings,
    installed_heads,
)  # light: it imports no head
from .console import escape, say
from .data import about_others
from .options import DEFAULT_STORE, Missing, each, key_values, several, value_of

if TYPE_CHECKING:
    from ..featstore import View
    from ..fusion import HeadInfo, Recipe
    from ..fusion.keeping.runs import Run
    from .data import Task


Heads = Annotated[
    list[str] | None,
    several("--heads", help=f"Of {', '.join(head_names())}.", show_default=f"{','.join(USUAL)}; or all"),
]


def build_head(
    name: str,
    task: Task,
    settings: dict[str, Any],
    *,
    preset: str | None = None,
    weights: Sequence[str] | None = None,
    device: str | None = None,
    seed: int,
) -> Any:
    """An unfitted head for the task's blocks."""
    from ..fusion import make_head, parse_weights
    from ..fusion.heads.late import CHOSEN, settings_by_position
    from ..fusion.judging.zero_shot import with_unit_table

    known, presets = head_settings(name), head_presets(name)
    given = dict(settings)
    weighed = ",".join(weights or ())
    for setting, why in (("random_state", "is chosen with --seed"), ("blocks", "are those of --features")):
        if setting in given:
            raise typer.BadParameter(f"{setting} {why}", param_hint="--set")
    if weighed:
        if "weights" in given:
            raise typer.BadParameter("--set weights=… says that too: leave one of them out", param_hint="--weights")
        words = {"late": CHOSEN, "weighted": ("learned",)}.get(name, ())
        given["weights"] = weighed if weighed in words else parse_weights(weighed, task.train.widths)
    given = settings_by_position(given, task.train.classes)
    if name == "multitask":
        given = with_unit_table(given, task.train)
    if device is not None and "device" in known and "device" not in given:
        given["device"] = device
    if preset is not None and preset not in presets:
        offered = f"its presets: {', '.join(presets)}" if presets else "it has none"
        raise typer.BadParameter(f"the head {name!r} has no preset {preset!r}; {offered}", param_hint="--preset")
    return make_head(name, blocks=task.train.widths, preset=preset, random_state=seed, **given)


def weights_text(weights: Mapping[str, Any], classes: Sequence[str] = ()) -> str:
    """Weights in words; those a class in a line a class, which `classes` names where they go by its position."""
    if not any(isinstance(one, Mapping) for one in weights.values()):
        return ", ".join(f"{name}={one:.3g}" for name, one in weights.items())
    lines = (
        f"\n  {classes[label] if classes else label}: "
        + ", ".join(f"{name}={one[label]:.3g}" for name, one in weights.items())
        for label in next(iter(weights.values()))
    )
    return "".join(lines)


def named_heads(entries: list[str] | None) -> list[str]:
    """The heads that `--heads` names: the usual ones when it is not given, every one that is installed for `all`."""
    named = list(installed_heads()) if entries == ["all"] else list(entries or USUAL)
    if twice := [name for name, count in Counter(named).items() if count > 1]:
        raise typer.BadParameter(f"{', '.join(twice)} stands twice: leave one of them out", param_hint="--heads")
    return named


def settings_of(entries: list[str] | None, heads: list[str]) -> dict[str, dict[str, object]]:
    """What `--set` says, by head: HEAD.key=value, or key=value where there is one head.

    Raises
    ------
    typer.BadParameter
        If a setting is of no head, is given twice, or does not say whose it is of several.
    """
    found: dict[str, dict[str, object]] = {name: {} for name in heads}
    for key, value in key_values(entries, "--set").items():
        head, dot, name = key.rpartition(".")  # the name of a head may hold dots, no setting does
        if not dot and len(found) == 1:
            head = next(iter(found))
        if head not in found:
            raise typer.BadParameter(
                f"expected HEAD.key=value with HEAD one of {', '.join(heads)}, however: {key!r}", param_hint="--set"
            )
        if name in found[head]:
            raise typer.BadParameter(f"{name} is given twice: leave one of them out", param_hint="--set")
        found[head][name] = value
    return found


def axes_of(entries: list[str] | None) -> dict[str, list[Any]]:
    """The values of each setting of ``--axis KEY=VALUE,VALUE,…``, read as `key_values` reads one; 0:1:0.1 is a range.

    Raises
    ------
    typer.BadParameter
        If an entry is none, or a setting is given twice.
    """
    found: dict[str, list[Any]] = {}
    for entry in entries or []:
        key, equals, text = (part.strip() for part in entry.partition("="))
        values = each([text]) or [] if text else []
        if not equals or not key or not values:
            raise typer.BadParameter(
                f"expected a setting and its values, locality=0,0.1,1, however: {entry!r}", param_hint="--axis"
            )
        if key in found:
            raise typer.BadParameter(f"{key} is given twice: leave one of them out", param_hint="--axis")
        found[key] = [one for value in values for one in _spanned(value)]
    return found


def _spanned(text: str) -> list[Any]:
    """The numbers of a range START:STOP:STEP, both ends in, or the one value that a text is."""
    from decimal import Decimal, InvalidOperation

    try:
        start, stop, step = map(Decimal, text.split(":"))
        count = int((stop - start) / step) if step else -1
    except (ValueError, InvalidOperation):  # of two parts, or no numbers
        return [value_of(text)]
    if step <= 0 or not 0 <= count < MOST_OF_A_RANGE:
        raise typer.BadParameter(
            f"a range needs start <= stop and a positive step, and {MOST_OF_A_RANGE:,} values at most, however: {text}",
            param_hint="--axis",
        )
    numbers = [start + i * step for i in range(count + 1)]
    return [int(one) if all(one == one.to_integral_value() for one in numbers) else float(one) for one in numbers]


MOST_OF_A_RANGE = 1_000


def refuse_unused_votes(table: Path | None, heads: Sequence[str]) -> None:
    """Refuse soft labels that none of the heads can learn from."""
    from ..fusion.heads import head_class

    if table is not None and not any(head_class(name).learns_soft_labels for name in heads):
        able = [name for name in installed_heads() if head_class(name).learns_soft_labels]
        raise typer.BadParameter(
            f"{', '.join(heads)} learn from one label a row; heads that learn from votes: {', '.join(able)}",
            param_hint="--soft-labels",
        )


def refuse_unused_targets(table: Path | None, heads: Sequence[str]) -> None:
    """Refuse targets that none of the heads can learn from."""
    from ..fusion.heads import head_class

    if table is not None and not any(head_class(name).learns_targets for name in heads):
        raise typer.BadParameter(
            "none of these heads learns targets beside classes; take multitask", param_hint="--targets"
        )


def fault_of(recipe: Recipe) -> str | None:
    """Why a recipe cannot run here, its smoothing included; None if it can."""
    from ..challenge import over_time
    from ..kit.errors import CerError

    try:
        if recipe.smooth is not None:
            over_time(recipe.smooth)
    except CerError as error:
        return str(error)
    return recipe.fault


def targeted(task: Task, heads: Iterable[str], table: Path | None = None, *, wanted: bool = False) -> Task:
    """The task with the targets beside classes that its heads learn: of a table, else of the manifest's columns.

    It is said which, and of how many rows they are known. Heads that learn classes alone get none.

    Parameters
    ----------
    heads : iterable of str
    table : Path, optional
        Takes the place of all that the manifest says.
    wanted : bool
        Something else than these heads learns targets.

    Raises
    ------
    typer.BadParameter
        If the table is about none of the rows.
    """
    import numpy as np

    from ..featstore.manifests.targets import columns_told, read_targets
    from ..fusion.heads import head_class

    rows, test = task.train, replace(task.test, targets=None, units=None)
    if not wanted and not any(head_class(name).learns_targets for name in heads):
        return replace(task, train=replace(rows, targets=None, units=None), test=test)
    there = {name: known for name, known in (rows.targets or {}).items() if not np.isnan(known).all()}
    if table is None:
        units = rows.units if "au" in there else None
        rows = replace(rows, targets=there or None, units=units)
        if not there:
            return replace(task, train=rows, test=test)
        titles = [f"au.{unit}" for unit in units or ()] + (["va.valence", "va.arousal"] if "va" in there else [])
        known = np.any([~np.isnan(one).all(axis=1) for one in there.values()], axis=0)
        say(
            f"{' and '.join(columns_told(titles))} of {int(known.sum()):,} of {rows.n:,} rows are learned beside the "
            f"classes: columns of the manifest of {escape(task.dataset)} (--targets takes a table instead)"
        )
        return replace(task, train=rows, test=test, targets_from=_provenance(task.manifest, task.dataset))
    found = read_targets(table)
    lines = sum(name in found.rows for name in rows.names)
    if not lines:
        raise about_others(table, found.rows, rows, "--targets")
    say(
        f"{lines:,} of {rows.n:,} rows have a line of {found.text} in {escape(table)}; in the others they are not known"
        + ("; what the manifest says of them is not used" if there else "")
    )
    rows = replace(rows, targets=found.aligned(rows.names), units=found.units or None)
    return replace(task, train=rows, test=test, targets_from=_provenance(table))


def _provenance(file: Path, folder: str = "") -> dict[str, str]:
    """What a run keeps of a file that it learned from: its name, and the sha256 of its bytes."""
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {"file": f"{folder}/{file.name}" if folder else file.name, "sha256": digest}


def curriculum_of(text: str, head: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The setting that `--curriculum` says; refuses heads without one."""
    from ..fusion.heads import head_class
    from ..fusion.heads.basics import parse_curriculum

    if not head_class(head).learns_basic:
        raise typer.BadParameter(
            f"the head {head!r} has no curriculum; take mlp or sequence", param_hint="--curriculum"
        )
    if "curriculum" in settings:
        raise typer.BadParameter("--set curriculum=… says that too: leave one of them out", param_hint="--curriculum")
    return {"curriculum": parse_curriculum(text)}


def compute(heads: Iterable[str]) -> bool:
    """Whether any of the heads can compute on a device of the user's choice."""
    return any("device" in head_settings(name) for name in heads)


def read_runs(folders: Sequence[Path]) -> dict[str, Run]:
    """Read runs under the names of their folders, or under their whole paths where two names are equal."""
    from ..fusion.keeping.runs import read_run

    paths = [Path(folder) for folder in folders]
    if len({path.resolve() for path in paths}) < len(paths):
        raise typer.BadParameter("a run folder stands twice", param_hint="RUNS")
    names = [path.resolve().name for path in paths]
    titles = names if len(set(names)) == len(names) else [str(path) for path in paths]
    return {title: read_run(path) for title, path in zip(titles, paths, strict=True)}


def datasets_of(runs: Mapping[str, Run]) -> str:
    """The dataset that the runs are about, for titles and file names; several are joined."""
    return "-".join(dict.fromkeys(run.config.dataset for run in runs.values()))


def head_folder(run: Path) -> Path:
    """The folder of a head: in a run's, or one that is named itself."""
    from ..kit.folders import bring_back

    bring_back(run)
    return run / "head" if (run / "head").is_dir() else run


def store_of_run(run: Path, asked: Path | None, data: str | None = None, *, rows: bool = True) -> Path:
    """The store that was asked for, else the run's own, and says which.

    Parameters
    ----------
    asked : path, optional
        What `--store` or CER_STORE names.
    data : str, optional
        The dataset that `--data` names; None for the run's own.
    rows : bool
        Whether rows of the run's own dataset are wanted: then its samples, labels and splits must still be those that
        the run learned from and was judged on. Else only what its features are is looked up, by fingerprint.

    Raises
    ------
    typer.BadParameter
        If the run's store is not there, or has other data by now.
    """
    from ..fusion import read_head_info

    if asked is not None:
        return asked
    extra = read_head_info(head_folder(run)).extra
    recorded = extra.get("store")
    if recorded is None:  # a head from the Hub, which is not told places
        return DEFAULT_STORE
    usual = Path(str(recorded))
    places = [usual, *(folder / usual for folder in run.resolve().parents[1:3])]  # as the run's folder tells, too
    store = next((place for place in places if (place / "store.json").is_file()), None)
    if store is None:
        raise typer.BadParameter(
            f"{run} learned from the store {usual}, which is not there: name the store that is meant",
            param_hint="--store",
        )
    why = _other_data(run, store) if rows and data in (None, extra.get("dataset")) else None
    if why is not None:
        raise typer.BadParameter(
            f"{store}, which {run} learned from, has other data by now ({why}): name the store that is meant, "
            f"--store {store} if this one",
            param_hint="--store",
        )
    say(f"store: [bold]{escape(store)}[/], as the run's")
    return store


def _other_data(run: Path, store: Path) -> str | None:
    """What tells the data of a store from those of a run; None where they agree, or the run does not say."""
    from ..featstore import FeatstoreError, Store
    from ..fusion.keeping.runs import config_of, data_digest

    config = config_of(run)
    if config is None or config.data_digest is None:
        return None
    opened = Store(store)
    if config.dataset not in opened.datasets():
        return f"no dataset {config.dataset!r}"
    try:
        view = opened.view(
            [name for name, _ in config.blocks], dataset=config.dataset, missing=config.missing,  # type: ignore[arg-type]
            fingerprints=config.fingerprints, mapped=True,
        )  # fmt: skip
    except FeatstoreError:  # told where the rows are asked for
        return None
    labelled = [(name, view.classes[y], split) for name, y, split in zip(view.ids, view.y, view.splits, strict=True)
                if y >= 0]  # fmt: skip
    parts = {
        part: ([name for name, _, split in labelled if split == part], [y for _, y, split in labelled if split == part])
        for part in (config.train_split, config.test_split)
    }
    if data_digest(parts) == config.data_digest:
        return None
    return f"samples, labels or splits of {config.dataset!r} differ"


def loaded_head(
    run: Path,
    asked: Path | None,
    data: str | None,
    split: str | None,
    missing: Missing,
    *,
    default_split: bool = True,
    own_classes: bool = False,
) -> tuple[HeadInfo, Any, View, str | None]:
    """The kept head, and a view of exactly the features it learned from; of the same classes, unless it has its own.

    They are in the store `asked` for, else in the run's own (`store_of_run`).
    """
    from ..featstore import Store
    from ..fusion import load_head, read_head_info

    folder = head_folder(run)
    info = read_head_info(folder)
    if split is None and default_split:
        split = info.extra.get("test_split")
        say(f"split: [bold]{escape(split)}[/], as the run's")
    opened = Store(store_of_run(run, asked, data))
    if data is None and info.extra.get("dataset") in opened.datasets():
        data = str(info.extra["dataset"])
        say(f"dataset: [bold]{escape(data)}[/], as the run's")
    view = opened.view(
        [name for name, _ in info.blocks],
        dataset=opened.dataset(data),
        split=split,
        missing=missing,
        fingerprints=info.fingerprints,
        mapped=True,
    )
    classes = None if own_classes else view.classes
    fitted = load_head(folder, blocks=view.widths, fingerprints=view.fingerprints, classes=classes)
    return info, fitted, view, split


def probabilities(fitted: Any, view: View, info: HeadInfo, classes: Sequence[str] | None = None) -> Any:
    """(n, k) in the order of the view's classes, or the head's own ones, whatever classes the head saw.

    A head that learned in seconds is asked in seconds, one that learned in frame numbers in these.

    Raises
    ------
    typer.BadParameter
        If it learned in seconds, and the dataset's manifest has none.
    """
    from ..fusion import JoinedRows
    from ..fusion.data.moments import in_time
    from ..fusion.keeping.answers import aligned

    told = {}
    if fitted.learns_in_time:
        time_s = view.time_s if info.extra.get("in_seconds") else None
        if info.extra.get("in_seconds") and time_s is None:
            raise typer.BadParameter(
                "the head learned when frames stand in their videos in seconds, and this dataset's manifest has no "
                "column time_s: add one, and make it the dataset's with cer-feat use-manifest",
                param_hint="--data",
            )
        videos, times = in_time(view.ids, view.groups, time_s)
        told = {"groups": videos, "times": times}
    k = len(view.classes if classes is None else classes)
    return aligned(fitted.predict_proba(JoinedRows(view.blocks), **told), fitted.classes_, k, "the kept head")
