"""Experiment trackers, through accelerate's: settings once, figures as they come. None is used unless it is named.

accelerate and the trackers' own libraries are imported when one is asked for. One that is not installed is refused by
name before any work; one that fails later is told and left out, as the work is worth more than its curve.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from .errors import CerError, MissingExtraError, nearest, needed

Track: TypeAlias = Callable[..., None]
"""Called with figures by name, and ``step`` where they are a course: `track({"loss": 0.5}, step=3)`."""

PROJECT = "cer-fusion"
"""What trackers that sort runs by project, or experiment, sort ours under."""
TRACKERS: Mapping[str, str] = {
    "trackio": "trackio",
    "tensorboard": "torch.utils.tensorboard",  # torch's writer, which needs the library
    "wandb": "wandb",
    "mlflow": "mlflow",
}
"""Name to the module that it needs."""
BESIDE: Mapping[str, Mapping[str, str]] = {
    "wandb": {
        "WANDB_CONSOLE": "off",  # what we say names files, and pictures that are no good
        "WANDB_X_DISABLE_META": "true",  # command line, folders, program
        "WANDB_DISABLE_GIT": "true",
        "WANDB_DISABLE_CODE": "true",
        "WANDB_ERROR_REPORTING": "false",
    },
    "mlflow": {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"},  # 7 are four minutes
}
"""What libraries add by themselves that names places, or goes to their makers, is off unless the environment says."""
_REMOTE = {"trackio": ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_BUCKET_ID")}
_NAME = re.compile(r"[^\w ./-]")

logger = logging.getLogger(__name__)


class TrackingError(CerError):
    """A tracker that nobody knows, or that cannot be started."""


def check_trackers(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names, each once; refuse those that are unknown, and those whose library is not installed.

    Raises
    ------
    TrackingError
        If one is unknown, or the installed accelerate has none of that name.
    MissingExtraError
        Naming the library.
    """
    wanted = tuple(dict.fromkeys(names))
    for name in wanted:
        if name not in TRACKERS:
            raise TrackingError(f"there is no tracker {name!r}; {nearest(name, TRACKERS)}")
    for name in wanted:
        for key, value in BESIDE.get(name, {}).items():
            os.environ.setdefault(key, value)
        try:
            importlib.import_module(TRACKERS[name])
        except ImportError:
            raise MissingExtraError(
                f"tracking by {name} needs the library {name}, which is not installed\n"
                f"  pip install {name}, or leave it out: what is kept has the same figures"
            ) from None
        _class_of(name)
    return wanted


def leaving(name: str) -> str | None:
    """Say where a tracker sends what it is told, as the environment has it; None for one that keeps it here."""
    if name == "wandb":
        if os.environ.get("WANDB_MODE", "").lower() in ("offline", "dryrun", "disabled"):
            return None
        host = urlsplit(os.environ.get("WANDB_BASE_URL", "")).hostname or "wandb.ai"
        return f"wandb sends them to {host}, with the name and the load of this machine, unless WANDB_MODE=offline"
    if name == "mlflow":
        uri = os.environ.get("MLFLOW_TRACKING_URI", "")
        scheme = uri.partition(":")[0].lower() if ":" in uri else ""
        if scheme in ("", "file", "sqlite") or len(scheme) == 1:  # a drive of Windows
            return None if uri.lower() != "databricks" else "mlflow sends them to databricks, with your name"
        return f"mlflow sends them to {urlsplit(uri).hostname or scheme}, with your name, as MLFLOW_TRACKING_URI says"
    for variable in _REMOTE.get(name, ()):
        if place := os.environ.get(variable):
            return f"{name} sends them to {urlsplit(place).hostname or place}, as {variable} says"
    return None


@contextlib.contextmanager
def tracked(
    names: Sequence[str],
    *,
    run: str,
    config: Mapping[str, Any],
    curves: Path,
    project: str = PROJECT,
    failed: dict[str, str] | None = None,
) -> Iterator[Track]:
    """Start trackers, give a function that hands them figures, and end them.

    Parameters
    ----------
    names : sequence of str
        Of `TRACKERS`; for none the function does nothing.
    run : str
        What the run is called.
    config : dict
        Settings, which may be nested; JSON values. No sample, no path.
    curves : Path
        The folder that TensorBoard's file is written into. The others keep theirs where they always do.
    project : str
    failed : dict, optional
        For work that is done already: one that cannot be started is told and left out as well, and every name that was
        left out is put here, with the reason.

    Raises
    ------
    TrackingError
        If one cannot be started, and nobody asked for `failed`.
    """
    if not names:
        yield lambda figures, step=None: None
        return
    started: dict[str, Any] = {}
    lost: dict[str, str] = {} if failed is None else failed
    with contextlib.ExitStack() as stack:
        stack.enter_context(_accelerate_begun())
        stack.callback(_end_all, started, lost)
        for name in names:
            if failed is not None:
                _guarded(name, started, lost, lambda name=name: _begin(name, started, run, config, curves, project))  # type: ignore[misc]
                continue
            try:
                with _talking():
                    _begin(name, started, run, config, curves, project)
            except Exception as error:  # a boundary: each library raises its own
                raise TrackingError(
                    f"the tracker {name} could not be started: {_reason(error)}\n"
                    f"  see its own settings, or leave it out of --track"
                ) from error

        def track(figures: Mapping[str, float], step: int | None = None) -> None:
            given = {_NAME.sub("_", key): float(value) for key, value in figures.items() if math.isfinite(value)}
            for name, tracker in list(started.items()):
                _guarded(name, started, lost, lambda tracker=tracker: tracker.log(given, step=step))  # type: ignore[misc]

        yield track


def _begin(name: str, started: dict[str, Any], run: str, config: Mapping[str, Any], curves: Path, project: str) -> None:
    started[name] = _start(name, run, curves, project)
    started[name].store_init_configuration(dict(_flat(config)))


def _end_all(started: dict[str, Any], lost: dict[str, str]) -> None:
    while started:
        name, tracker = started.popitem()
        _guarded(name, started, lost, _end_of(name, tracker))


def _end_of(name: str, tracker: Any) -> Callable[[], None]:
    """What ends a tracker: trackio by its own word, as by accelerate's it ends the run again when Python ends."""
    own = importlib.import_module(name) if name == "trackio" else tracker
    return own.finish if callable(getattr(own, "finish", None)) else tracker.finish  # type: ignore[no-any-return]


@contextlib.contextmanager
def _talking() -> Iterator[None]:
    """What a tracker prints is talk: results alone are on the standard output."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def _accelerate_begun() -> Iterator[None]:
    """accelerate's trackers ask which process they are in, and refuse to talk before that is known."""
    state: Any = importlib.import_module("accelerate.state").PartialState
    if state._shared_state:  # a training's own
        yield
        return
    state(cpu=True)
    try:
        yield
    finally:
        state._reset_state()


def _start(name: str, run: str, curves: Path, project: str) -> Any:
    cls = _class_of(name)
    if name == "tensorboard":
        made = cls(curves.name, logging_dir=str(curves.parent))
    elif name == "mlflow":
        made = cls(experiment_name=project, run_name=run, tags={"mlflow.source.name": PROJECT})  # else a path
    else:
        made = cls(project, name=run)
    begin = getattr(made, "start", None)  # accelerate's older ones start when they are made
    if begin is not None:
        begin()
    return made


def _class_of(name: str) -> Any:
    needed("accelerate", f"tracking by {name}")
    known: Mapping[str, Any] = importlib.import_module("accelerate.tracking").LOGGER_TYPE_TO_CLASS
    if name not in known:
        from importlib.metadata import version

        raise TrackingError(
            f"the installed accelerate {version('accelerate')} has no tracker {name!r}\n  pip install -U accelerate"
        )
    return known[name]


def _guarded(name: str, started: dict[str, Any], lost: dict[str, str], act: Callable[[], None]) -> None:
    try:
        with _talking():
            act()
    except Exception as error:  # a boundary: each library raises its own, and none of them ends the work
        lost[name] = _reason(error)
        if (tracker := started.pop(name, None)) is not None:
            with contextlib.suppress(Exception), _talking():  # so that the next run can begin
                _end_of(name, tracker)()
        logger.warning("the tracker %s is left out from here on: %s", name, lost[name])


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings as trackers take them: names with dots to words, numbers and truths; nothing becomes ``none``."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, bool | int | float | str):
            yield name, value
        else:
            yield name, "none" if value is None else str(value)
